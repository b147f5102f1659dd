"""The demo world: a procedural data set with exact ground truth, and the scripts that train the demo model on it."""
