"""Measure the demo model on fresh captions with the classifier, and write a contact sheet."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from demo_world.classifier import accuracies, load_classifier
from demo_world.latents import load_autoencoder
from demo_world.model import load_model
from demo_world.sampling import decode, sample_latents
from demo_world.scenes import Scene, caption, labels, sample_scene
from demo_world.storage import cache_folder, training_log

CAPTION_SEED = 5150
LABEL_PX = 26


def contact_sheet(pictures: NDArray[np.uint8], captions: list[str], columns: int) -> Image.Image:
    """Pictures [N, h, w, 3] in rows with their captions in two lines underneath."""
    height, width = pictures.shape[1:3]
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * (height + LABEL_PX)), (245, 245, 245))
    pen = ImageDraw.Draw(sheet)
    for i, (picture, text) in enumerate(zip(pictures, captions, strict=True)):
        x, y = i % columns * width, i // columns * (height + LABEL_PX)
        sheet.paste(Image.fromarray(picture), (x, y))
        words = text.split()
        half = len(words) // 2
        pen.text(
            (x + 2, y + height), f"{' '.join(words[:half])}\n{' '.join(words[half:])}", fill=(0, 0, 0), font_size=10
        )
    return sheet


def fresh_scenes(count: int) -> list[Scene]:
    """Scenes whose captions are drawn with a seed of their own."""
    rng = np.random.default_rng(CAPTION_SEED)
    return [sample_scene(rng) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="pictures to sample")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--last-weights", action="store_true", help="use the last weights, not their running average")
    parser.add_argument("--sheet", type=Path, default=None, help="contact sheet, by default samples.png in the cache")
    arguments = parser.parse_args()

    log, classifier, autoencoder = training_log("evaluate"), load_classifier(), load_autoencoder()
    model, step = load_model(averaged=not arguments.last_weights)
    scenes = fresh_scenes(arguments.count)
    captions = [caption(scene) for scene in scenes]
    started, parts = time.monotonic(), []
    for start in range(0, len(captions), 20):
        group = captions[start : start + 20]
        latents = sample_latents(model, group, CAPTION_SEED + start, arguments.steps, arguments.guidance)
        parts.append(decode(autoencoder, latents))
    pictures = np.concatenate(parts)
    log.info("step %d: %.2f s a picture", step, (time.monotonic() - started) / len(pictures))
    for name, share in accuracies(classifier, pictures, np.array([labels(scene) for scene in scenes])).items():
        log.info("step %d: %s right %.1f %% of %d", step, name, 100.0 * share, len(pictures))
    path = arguments.sheet or cache_folder() / "samples.png"
    contact_sheet(pictures[:80], captions[:80], columns=10).save(path)
    log.info("contact sheet: %s", path)


if __name__ == "__main__":
    main()
