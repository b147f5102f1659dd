"""ComfyUI entry point. Everything is imported when the host asks for the nodes, nothing before."""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """Return the node pack."""
    from .nodes.extension import DCIExtension

    return DCIExtension()
