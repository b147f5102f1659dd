"""Measure what storing the demo model as int8 costs: in its weights, and in the pictures the host draws with them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from comfyui_dci.dci_core.int8 import decompress
from comfyui_dci.dci_core.tensor_file import read_tensors
from torch import Tensor

from demo_world.commands.evaluate import BATCH, Sampler
from demo_world.commands.export_model import PARTS
from demo_world.commands.options import positive_int
from demo_world.scenes import caption, sample_scene
from demo_world.storage import RELEASE, training_log
from workbench.pack import load_pack

CAPTION_SEED = 5151
NOISE_SEED, OTHER_NOISE_SEED = 1, 2


@dataclass(frozen=True)
class WeightError:
    """How far the weights of a network are from the trained ones: root mean square of the error, relative to that of the weights.

    Args:
        mean: of all weights.
        largest: of the weight tensor where it is largest.
        where: the name of that tensor.
    """

    mean: float
    largest: float
    where: str


def weight_error(trained: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> WeightError:
    """Compare networks tensor by tensor; tensors of fewer than two dimensions count in the mean only.

    Args:
        trained: by name.
        stored: the same names and shapes.

    Raises:
        ValueError: the names differ.
    """
    if trained.keys() != stored.keys():
        raise ValueError(f"Compare the same model: {sorted(trained.keys() ^ stored.keys())[:3]} are in one file only.")
    errors = {name: float((stored[name].double() - value.double()).square().sum()) for name, value in trained.items()}
    sizes = {name: float(value.double().square().sum()) for name, value in trained.items()}
    weights = [name for name, value in trained.items() if value.ndim > 1 and sizes[name] > 0]
    where = max(weights, key=lambda name: errors[name] / sizes[name])
    mean = (sum(errors.values()) / sum(sizes.values())) ** 0.5
    return WeightError(mean, (errors[where] / sizes[where]) ** 0.5, where)


def picture_differences(
    trained: Mapping[str, Tensor], stored: Mapping[str, Tensor], metadata: Mapping[str, str], captions: Sequence[str]
) -> dict[str, Tensor]:
    """Draw captions with the weights as trained and as stored, at equal noise; and, for scale, with other roundings and other noise.

    The sampler is the one that ``evaluate`` uses, at its defaults.

    Args:
        trained: all tensors of the trained model, by name.
        stored: the same of the shipped one, floating point.
        metadata: of the trained model.
        captions: a picture each.

    Returns:
        By what is other than in the trained model: mean difference of each picture, [len(captions)], of 255.
    """
    from comfyui_dci.nodes.host.demo_model import build_models

    def pictures(tensors: Mapping[str, Tensor], seed: int = NOISE_SEED) -> Tensor:
        with torch.inference_mode():
            sampler = Sampler(build_models(dict(tensors), metadata))
        starts = range(0, len(captions), BATCH)
        drawn = [sampler.draw(captions[start : start + BATCH], seed + start) for start in starts]
        return torch.cat(drawn).float()  # [len(captions), 3, PICTURE_PX, PICTURE_PX], 0 … 255

    expected = pictures(trained)
    found = {
        "int8": pictures(stored),
        "float16": pictures(rounded(trained, torch.float16)),
        "bfloat16": pictures(rounded(trained, torch.bfloat16)),
        "as trained, other noise": pictures(trained, OTHER_NOISE_SEED),
    }
    return {name: (other - expected).abs().flatten(1).mean(dim=1) for name, other in found.items()}


def rounded(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return tensors of the same types, whose floating point numbers are rounded to another."""
    return {
        name: value.to(dtype).to(value.dtype) if value.is_floating_point() else value for name, value in tensors.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, help="the trained model, safetensors")
    parser.add_argument("--release", type=Path, default=RELEASE / "dci-demo.safetensors", help="what was made of it")
    parser.add_argument("--count", type=positive_int, default=8, help="captions, a picture each")
    arguments = parser.parse_args()
    load_pack()

    log = training_log("measure_storage")
    trained, metadata = read_tensors(arguments.source)
    stored = decompress(read_tensors(arguments.release)[0])
    log.info("%-30s %8s %8s  %s", "weight error, relative", "mean", "largest", "in")
    for part in PARTS:
        ours, theirs = ({name: of[name] for name in of if name.startswith(part)} for of in (trained, stored))
        error = weight_error(ours, theirs)
        log.info("%-30s %7.2f%% %7.2f%%  %s", part, 100 * error.mean, 100 * error.largest, error.where[len(part) :])
    rng = np.random.default_rng(CAPTION_SEED)
    captions = [caption(sample_scene(rng)) for _ in range(arguments.count)]
    log.info("%-30s %8s %8s  over %d pictures", "pictures differ by, of 255", "mean", "largest", len(captions))
    for name, each in picture_differences(trained, stored, metadata, captions).items():
        log.info("%-30s %8.2f %8.2f", name, float(each.mean()), float(each.max()))


if __name__ == "__main__":
    main()
