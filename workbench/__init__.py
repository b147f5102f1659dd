"""What tests, study, benchmarks and the demo world share: the pack and its host outside ComfyUI, small models, a server."""

from __future__ import annotations

from workbench.pack import register_pack

register_pack()
