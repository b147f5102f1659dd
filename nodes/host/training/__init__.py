"""ICO on the host's models, and the class images it is regularized with."""
