"""ICO: a concept learned from a few images (METHOD section 2)."""
