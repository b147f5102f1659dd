"""Reference images: read from a folder, brought to a size."""
