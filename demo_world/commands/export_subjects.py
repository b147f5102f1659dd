"""Draw the reference images of every custom concept into the release folder, as the node DCIDemoSubject reads them."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
from comfyui_dci.dci_core.files import write_atomically
from PIL import Image

from demo_world.concepts import CONCEPTS, reference_images
from demo_world.storage import RELEASE, training_log

REFERENCE_SEED = 77


def main() -> None:
    for number, concept in enumerate(CONCEPTS):
        rng = np.random.default_rng([REFERENCE_SEED, number])
        for index, picture in enumerate(reference_images(concept, rng), start=1):
            save = partial(Image.fromarray(picture).save, format="PNG", optimize=True)
            write_atomically(RELEASE / concept.name / f"{index}.png", save)
    entries = [{"name": concept.name, "class_noun": concept.noun} for concept in CONCEPTS]
    write_atomically(RELEASE / "subjects.json", lambda path: path.write_text(json.dumps(entries, indent=1) + "\n"))
    training_log("subjects").info("wrote %d subjects to %s", len(CONCEPTS), RELEASE)


if __name__ == "__main__":
    main()
