"""The pre-rendered training pictures: chunks on disk, each from its own seed, so that a pool can grow and resume."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from comfyui_dci.dci_core.families import FAMILIES
from comfyui_dci.dci_core.files import write_atomically
from numpy.typing import NDArray

from demo_world.contexts import SIZE_PX
from demo_world.scenes import Scene, labels, sample_scene
from demo_world.storage import cache_folder, require
from demo_world.world import draw

CHUNK = 2000
TRAINING_SEED = 20240
PIXELS_PER_LATENT = FAMILIES["sd1"].pixels_per_latent
RENDER_COMMAND = "python -m demo_world.commands.render_pool"


@dataclass(frozen=True)
class Pool:
    """Pictures in memory-mapped chunks.

    Args:
        images: chunks of [CHUNK, SIZE_PX, SIZE_PX, 3], uint8.
        coverage: [N, 16, 16], uint8, how much of each latent cell the objects cover (255 = all).
        scenes: N ground truths, in the order of the pictures.
    """

    images: list[NDArray[np.uint8]]
    coverage: NDArray[np.uint8]
    scenes: list[Scene]

    def __len__(self) -> int:
        return len(self.scenes)

    def pictures(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Gather pictures, [len(index), SIZE_PX, SIZE_PX, 3]."""
        return np.stack([self.images[i // CHUNK][i % CHUNK] for i in index])

    def labels(self) -> NDArray[np.int64]:
        """Class numbers of all pictures, [N, 5], columns as in `demo_world.scenes.labels`."""
        return np.array([labels(scene) for scene in self.scenes], dtype=np.int64)


def pool_folder() -> Path:
    return cache_folder() / "pool"


def render_chunk(number: int, seed: int = TRAINING_SEED) -> None:
    """Draw one chunk and store it; the same number and seed give the same bytes."""
    folder = pool_folder()
    rng = np.random.default_rng([seed, number])
    images = np.empty((CHUNK, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    cells = SIZE_PX // PIXELS_PER_LATENT
    coverage = np.empty((CHUNK, cells, cells), dtype=np.uint8)
    scenes: list[Scene] = []
    for i in range(CHUNK):
        scene = sample_scene(rng)
        picture = draw(scene, rng)
        images[i] = picture.image
        blocks = picture.foreground.reshape(cells, PIXELS_PER_LATENT, cells, PIXELS_PER_LATENT)
        coverage[i] = blocks.mean(axis=(1, 3)).round()
        scenes.append(scene)
    text = json.dumps([asdict(scene) for scene in scenes])
    write_atomically(folder / f"scenes_{number:03d}.json", lambda path: path.write_text(text))
    write_atomically(folder / f"coverage_{number:03d}.npy", lambda path: _save(path, coverage))
    write_atomically(folder / f"images_{number:03d}.npy", lambda path: _save(path, images))


def _save(path: Path, array: NDArray[np.generic]) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def chunk_numbers() -> list[int]:
    """Numbers of the finished chunks, ascending."""
    return sorted(int(path.stem.split("_")[1]) for path in pool_folder().glob("images_*.npy"))


def open_pool() -> Pool:
    """Open every finished chunk.

    Raises:
        FileNotFoundError: nothing was rendered yet.
    """
    folder = pool_folder()
    require(folder / "images_000.npy", RENDER_COMMAND)
    numbers = chunk_numbers()
    images = [np.load(folder / f"images_{number:03d}.npy", mmap_mode="r") for number in numbers]
    coverage = np.concatenate([np.load(folder / f"coverage_{number:03d}.npy") for number in numbers])
    scenes = [
        Scene(**fields)
        for number in numbers
        for fields in json.loads((folder / f"scenes_{number:03d}.json").read_text())
    ]
    return Pool(images, coverage, scenes)
