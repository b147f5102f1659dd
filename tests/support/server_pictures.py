"""Pictures that a real server has saved."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from workbench.comfy_server import ComfyServer


def saved_pictures(server: ComfyServer, entry: dict[str, Any], node: str, mode: str = "RGB") -> list[np.ndarray]:
    """Return what a node that saves images has saved.

    Args:
        server: where the graph ran.
        entry: of its history.
        node: id in the graph.
        mode: of Pillow, "RGB" gives [H, W, 3], "L" [H, W].
    """
    found = []
    for file in server.pictures(entry, node):
        with Image.open(io.BytesIO(file)) as opened:
            found.append(np.asarray(opened.convert(mode)))
    return found
