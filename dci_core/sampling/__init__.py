"""DCI: two branches, blended by masks made from token attention (METHOD section 3)."""
