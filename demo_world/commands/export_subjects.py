"""Draw the reference images of every custom subject into the release folder, as the node DCI Demo Subject reads them.

The list goes from subjects much like the training exemplars of their class noun to subjects unlike them, by the judge.
"""

from __future__ import annotations

import json
from functools import partial

import torch
from comfyui_dci.dci_core.files import write_atomically
from PIL import Image
from torch import Tensor

from demo_world.renderer import Renderer
from demo_world.storage import RELEASE, training_log
from demo_world.subjects import reference_images
from demo_world.vocabulary import SUBJECTS

QUALITY = 92
FOLDER = RELEASE / "subjects"


def images_of(pictures: Tensor) -> list[Image.Image]:
    """Pictures [B, 3, h, w] in 0 … 1 as images."""
    pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(each) for each in pixels]


def main() -> None:
    torch.set_num_threads(1)
    renderer = Renderer(exemplars=tuple(SUBJECTS))
    for subject in SUBJECTS:
        for number, image in enumerate(images_of(reference_images(renderer, subject)), start=1):
            save = partial(image.save, format="WEBP", quality=QUALITY, method=6)
            write_atomically(FOLDER / subject / f"{number}.webp", save)
    entries = [{"name": subject, "class_noun": noun} for subject, noun in SUBJECTS.items()]
    write_atomically(RELEASE / "subjects.json", lambda path: path.write_text(json.dumps(entries, indent=1) + "\n"))
    training_log("subjects").info("wrote %d subjects to %s", len(SUBJECTS), FOLDER)


if __name__ == "__main__":
    main()
