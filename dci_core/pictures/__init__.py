"""Pictures of a run: the sweep, the masks, the loss."""
