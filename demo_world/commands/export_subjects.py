"""Draw the reference images of every custom subject into the release folder, as the node DCI Demo Subject reads them.

The list goes from subjects much like the training exemplars of their class noun to subjects unlike them, by the judge:
run it again when the judge was trained anew. What an earlier export left there is removed.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from comfyui_dci.dci_core.files import write_atomically
from PIL import Image
from torch import Tensor

from demo_world.judge import load_judge
from demo_world.renderer import Renderer
from demo_world.storage import RELEASE, training_log
from demo_world.subjects import class_distance, reference_images, remove_others
from demo_world.vocabulary import SUBJECTS

QUALITY = 92


def images_of(pictures: Tensor) -> list[Image.Image]:
    """Pictures [B, 3, h, w] in 0 … 1 as images."""
    pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(each) for each in pixels]


def write_pictures(folder: Path, pictures: dict[str, Tensor]) -> None:
    """Write a folder of WEBP files, 1, 2, …, for every subject; nothing else stays in there.

    Args:
        folder: target.
        pictures: by name of the subject, [B, 3, h, w] in 0 … 1.
    """
    written = set()
    for subject, drawn in pictures.items():
        for number, image in enumerate(images_of(drawn), start=1):
            save = partial(image.save, format="WEBP", quality=QUALITY, method=6)
            write_atomically(path := folder / subject / f"{number}.webp", save)
            written.add(path)
    remove_others(folder, written)


def subject_list(distances: dict[str, float]) -> list[dict[str, str | float]]:
    """The entries of the list, by ascending distance.

    Args:
        distances: of subjects from their class, 0 … 1; see ``class_distance``.
    """
    order = sorted(distances, key=lambda subject: distances[subject])
    return [
        {"name": subject, "class_noun": SUBJECTS[subject], "distance": round(distances[subject], 2)}
        for subject in order
    ]


def main() -> None:
    torch.set_num_threads(1)
    renderer, judge = Renderer(exemplars=tuple(SUBJECTS)), load_judge()
    pictures = {subject: reference_images(renderer, subject) for subject in SUBJECTS}
    distances = {subject: class_distance(judge.read(drawn).exemplar, subject) for subject, drawn in pictures.items()}
    write_pictures(RELEASE / "subjects", pictures)
    text = json.dumps(subject_list(distances), indent=1)
    write_atomically(RELEASE / "subjects.json", lambda path: path.write_text(text + "\n"))
    training_log("subjects").info("wrote %d subjects to %s", len(SUBJECTS), RELEASE / "subjects")


if __name__ == "__main__":
    main()
