"""Take the picture of each node's help page: the node in ComfyUI's real frontend, and below it what it draws.

COMFYUI_PATH=… python -m workbench.help_pictures [NODE …]

Needs Chromium. Nothing is trained or sampled: see ``workbench/help_drawings.py``. The pages say what is made up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from workbench.comfy_server import ComfyServer
from workbench.frontend import Frontend
from workbench.help_drawings import DRAWINGS, SCHEDULE, SUBJECT, SUBJECTS
from workbench.help_pages import picture_of
from workbench.pack import HOST_VARIABLE, ROOT, load_pack
from workbench.public_names import schemas

GROUND = (24, 24, 24)
GAP_PX, WIDEST_PX = 12, 480
QUALITY = 82
VALUES: dict[str, dict[str, Any]] = {
    "DCIDemoSubject": {"subject": SUBJECT},
    "DCILoadImageFolder": {"folder": SUBJECT},
    "DCIStrengthSchedule": {name: getattr(SCHEDULE, name) for name in SCHEDULE.__dataclass_fields__},
    "DCILambdaSweep": {"injection_strengths": "-2, 0, 2"},
}
"""What the widgets of a node say in its picture, where that is not what they say at first."""
CONCEPT = ROOT / "tests" / "golden" / "concept_1.safetensors"
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Locale": "en"}


def stacked(node: Image.Image, drawing: Image.Image) -> Image.Image:
    """Return a node and below it what it draws, as one picture that can be read in a narrow panel.

    Args:
        node: its picture.
        drawing: any size; made smaller to fit.
    """
    share = min(1.0, WIDEST_PX / drawing.width)
    size = (round(drawing.width * share), round(drawing.height * share))
    top = node.height + GAP_PX
    canvas = Image.new("RGB", (max(node.width, size[0]), top + size[1]), GROUND)
    canvas.paste(node, (0, 0))
    canvas.paste(drawing.resize(size, Image.Resampling.LANCZOS), (0, top))
    return canvas


def furnish(base: Path) -> None:
    """Put into a server's folder what lists of nodes then offer: a folder of images, and a concept.

    Args:
        base: the server's folder, as yet without it.
    """
    shutil.copytree(SUBJECTS / SUBJECT, base / "input" / SUBJECT)
    concepts = base / "models" / "dci_concepts"
    concepts.mkdir(parents=True)
    shutil.copy(CONCEPT, concepts / "my_concept.safetensors")


async def take(address: str, names: Sequence[str]) -> None:
    """Write the pictures of some nodes.

    Args:
        address: of a running server.
        names: ids of nodes.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with Frontend(address, Path(folder)) as frontend:
            for name in names:
                picture = await frontend.node_picture(name, VALUES.get(name))
                if name in DRAWINGS:
                    picture = stacked(picture, DRAWINGS[name]())
                file = picture_of(name)
                picture.save(file, quality=QUALITY, method=6)
                print(f"{name}: {picture.width} x {picture.height}, {file.stat().st_size} bytes")


def main() -> None:
    """Take the pictures that were asked for. The pack is loaded before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", nargs="*", metavar="NODE", help="id of a node; all without")
    asked = parser.parse_args().nodes
    known = [schema.node_id for schema in schemas()]
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise SystemExit(f"There is no {', '.join(unknown)}. Known are {', '.join(known)}.")
    host, python = Path(os.environ[HOST_VARIABLE]), Path(sys.executable)
    with tempfile.TemporaryDirectory() as base:
        furnish(Path(base))
        with ComfyServer(host, python, Path(base)) as server:
            server.post("/settings", SETTINGS)
            asyncio.run(take(f"http://127.0.0.1:{server.port}", asked or known))


if __name__ == "__main__":
    load_pack(cpu=True)
    main()
