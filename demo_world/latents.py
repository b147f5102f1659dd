"""The latents of the pre-rendered pictures, chunk by chunk, tied to the autoencoder that made them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfyui_dci.dci_core.files import write_atomically
from numpy.typing import NDArray
from torch import Tensor

from demo_world.autoencoder import AUTOENCODER_CHECKPOINT, SD1_SCALE, build_autoencoder, posterior
from demo_world.pool import CHUNK, Pool, chunk_numbers, open_pool
from demo_world.precision import fast_matrices
from demo_world.scenes import caption_variants
from demo_world.storage import cache_folder, load_checkpoint, require
from demo_world.tokens import tokenize

AUTOENCODER_COMMAND = "python -m demo_world.commands.train_autoencoder"
ENCODE_COMMAND = "python -m demo_world.commands.encode_pool"


def load_autoencoder() -> Any:
    """The trained autoencoder, frozen.

    Raises:
        FileNotFoundError: it was not trained yet.
        ValueError: its encoder has not finished, so its latents would not last.
    """
    state = load_checkpoint(require(cache_folder() / AUTOENCODER_CHECKPOINT, AUTOENCODER_COMMAND))
    if state["stage"] == "encoder":
        raise ValueError(f"The encoder stopped at step {state['step']}; let '{AUTOENCODER_COMMAND}' finish first.")
    model = build_autoencoder()
    model.load_state_dict(state["model"])
    model.eval().requires_grad_(False)
    return model


def latent_folder(model: Any) -> Path:
    """Folder of the latents of this encoder; another encoder gets another folder."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(value.numpy().tobytes())
    return cache_folder() / f"latents-{digest.hexdigest()[:12]}"


@torch.no_grad()
def encode_chunk(model: Any, pictures: NDArray[np.uint8], path: Path) -> None:
    """Encode pictures [N, h, w, 3] and store the latents as the UNet sees them: fp16, unit variance."""
    parts = []
    for start in range(0, len(pictures), 50):
        part = torch.from_numpy(pictures[start : start + 50].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        with fast_matrices():
            means = posterior(model, part)[0]
        parts.append((means.float() * SD1_SCALE).half())
    array = torch.cat(parts).numpy()

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array)

    write_atomically(path, save)


@dataclass(frozen=True)
class LatentPool:
    """What the denoiser is trained on, all on the CPU.

    Args:
        latents: [N, 4, 16, 16], float16.
        coverage: [N, 16, 16], uint8, 255 where objects cover the whole cell.
        tokens: [N, V, 77], int64, V spellings of the caption.
    """

    latents: Tensor
    coverage: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.latents)


def encoded_chunks(folder: Path) -> list[int]:
    """Numbers of the encoded chunks, ascending."""
    return sorted(int(path.stem.split("_")[1]) for path in folder.glob("latents_*.npy"))


def encode_missing(model: Any, pool: Pool, limit: int) -> int:
    """Encode the first chunk that has no latents yet, among the first `limit`. Returns its number, or -1 if none."""
    folder = latent_folder(model)
    done = set(encoded_chunks(folder))
    for position, number in enumerate(chunk_numbers()[:limit]):
        if number not in done:
            encode_chunk(model, pool.images[position], folder / f"latents_{number:03d}.npy")
            return number
    return -1


def open_latents(model: Any) -> LatentPool:
    """Open all latents of this autoencoder with their captions and coverage.

    Raises:
        FileNotFoundError: nothing was encoded yet.
    """
    folder = latent_folder(model)
    require(folder / "latents_000.npy", ENCODE_COMMAND)
    numbers, pool = encoded_chunks(folder), open_pool()
    kept: list[int] = []
    for position, number in enumerate(chunk_numbers()):
        if number in numbers:
            kept.extend(range(position * CHUNK, (position + 1) * CHUNK))
    latents = np.concatenate([np.load(folder / f"latents_{number:03d}.npy") for number in numbers])
    spellings = [caption_variants(pool.scenes[i]) for i in kept]
    tokens = torch.stack([tokenize([variants[v] for variants in spellings]) for v in range(len(spellings[0]))], dim=1)
    return LatentPool(torch.from_numpy(latents), torch.from_numpy(pool.coverage[kept]), tokens)
