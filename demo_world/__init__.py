"""The demo world: a procedural data set with exact ground truth, and the networks that the demo model is trained in."""

from __future__ import annotations

from workbench.pack import register_pack

register_pack()
