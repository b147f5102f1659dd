"""DCI on the host: a patch on a clone of its model."""
