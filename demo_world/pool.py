"""Drawings on disk for the judge and the CLIP: chunks with a seed each, so that a pool can grow and be made in parallel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.files import write_atomically
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from demo_world import placement, sprites, styles, vocabulary
from demo_world import renderer as renderer_module
from demo_world import scenes as scenes_module
from demo_world.backgrounds import painters_hash
from demo_world.renderer import Renderer
from demo_world.scenes import Scene, Shares, sample_scene
from demo_world.storage import cache_folder, load_checkpoint, require, sources_hash
from demo_world.vocabulary import EXEMPLARS, NOUN_OF

CHUNK = 1000
POOL_SEED = 20261127
VIEW_PX = 128  # what judge and CLIP look at
CELLS = 16  # of the masks, a side
SHARES = Shares(studio=0.06, companion=0.5, styled=0.4, coloured=0.2)  # more of what is hard
POOL_COMMAND = "python -m demo_world.commands.draw_pool"
_BATCH = 50
_SOURCES = (placement, renderer_module, scenes_module, sprites, styles, vocabulary)  # and the painters


@dataclass(frozen=True)
class Pool:
    """Drawings and what they show.

    Args:
        pictures: [N, 3, VIEW_PX, VIEW_PX], uint8.
        masks: share of each cell that the main object and the companion cover, [N, 2, CELLS, CELLS], uint8, 255 = all.
        scenes: N ground truths.
    """

    pictures: Tensor
    masks: Tensor
    scenes: list[Scene]

    def __len__(self) -> int:
        return len(self.scenes)


def view(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, h, w], scaled down to [B, 3, VIEW_PX, VIEW_PX] by averaging."""
    return F.adaptive_avg_pool2d(pictures, VIEW_PX)


def scene_of_any_exemplar(rng: np.random.Generator, shares: Shares = SHARES) -> Scene:
    """Draw a scene in which every sprite is equally likely, the custom subjects among them."""
    while True:
        first, second = (EXEMPLARS[int(number)] for number in rng.integers(len(EXEMPLARS), size=2))
        if NOUN_OF[first] != NOUN_OF[second]:
            return sample_scene(rng, shares, ((first,), (second,)))


def draw_views(renderer: Renderer, scenes: Sequence[Scene], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Drawings as a pool keeps them: pictures and masks, uint8, on the CPU."""
    pictures, masks = [], []
    for start in range(0, len(scenes), _BATCH):
        drawing = renderer.draw(scenes[start : start + _BATCH], generator)
        both = torch.stack([drawing.main, drawing.companion], dim=1)
        pictures.append(_bytes(view(drawing.pictures)))
        masks.append(_bytes(F.adaptive_avg_pool2d(both, CELLS)))
    return torch.cat(pictures), torch.cat(masks)


def _bytes(shares: Tensor) -> Tensor:
    return (shares * 255).round().byte().contiguous().cpu()


def chunk_scenes(number: int) -> tuple[list[Scene], torch.Generator]:
    """What the pictures of a chunk show, and the generator that places it."""
    rng = np.random.default_rng([POOL_SEED, number])
    scenes = [scene_of_any_exemplar(rng) for _ in range(CHUNK)]
    return scenes, torch.Generator().manual_seed(int(rng.integers(2**31)))


def draw_chunk(renderer: Renderer, number: int) -> None:
    """Draw a chunk and store it; the same number gives the same bytes."""
    scenes, generator = chunk_scenes(number)
    pictures, masks = draw_views(renderer, scenes, generator)
    save_chunk(chunk_path(number), Pool(pictures, masks, scenes))


def save_chunk(path: Path, pool: Pool) -> None:
    """Write a pool as one file."""
    tensors = {"pictures": pool.pictures, "masks": pool.masks}
    metadata = {"scenes": json.dumps([asdict(scene) for scene in pool.scenes])}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))


def chunk_path(number: int) -> Path:
    """File of a chunk."""
    return pool_folder() / f"drawings_{number:03d}.safetensors"


def pool_folder() -> Path:
    """Folder of the chunks; the name changes with what draws them."""
    return cache_folder() / f"drawings-{drawings_hash()}"


def drawings_hash() -> str:
    """Twelve hexadecimal digits that change with the words, sprites and sources that a pool's drawings come from."""
    archive = hashlib.sha256(sprites.ARCHIVE.read_bytes()).hexdigest()
    shape = repr((CHUNK, POOL_SEED, VIEW_PX, CELLS, SHARES))
    return sources_hash((module.__file__ for module in _SOURCES), painters_hash(), archive, shape)


def load_pool_checkpoint(path: Path, drawings: str) -> dict[str, Any]:
    """Read the checkpoint of a training on the pool.

    Args:
        path: of the checkpoint; its entry "drawings" says what it has learned from.
        drawings: the `drawings_hash` of the pool that it is to go on with.

    Raises:
        ValueError: it has learned from other drawings.
    """
    state = load_checkpoint(path)
    if state.get("drawings") != drawings:
        raise ValueError(
            f"{path} has learned from drawings of another world ({state.get('drawings', 'unnamed')}) than this one "
            f"({drawings}). Start anew with --restart, or check out the version that it was begun with."
        )
    return state


def open_pool(chunks: int | None = None) -> Pool:
    """Read the chunks that are there, each of 50 MB, in the order of their names.

    Args:
        chunks: at most so many; None reads all.

    Raises:
        FileNotFoundError: nothing was drawn yet.
    """
    files = sorted(pool_folder().glob("*.safetensors"))[:chunks]
    if not files:
        require(chunk_path(0), POOL_COMMAND)
    pictures, masks, scenes = [], [], []
    for path in files:
        with safe_open(path, "pt") as file:
            pictures.append(file.get_tensor("pictures"))
            masks.append(file.get_tensor("masks"))
            scenes += [Scene(**fields) for fields in json.loads(file.metadata()["scenes"])]
    return Pool(torch.cat(pictures), torch.cat(masks), scenes)
