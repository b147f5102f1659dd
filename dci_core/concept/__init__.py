"""The trained concept and its file."""
