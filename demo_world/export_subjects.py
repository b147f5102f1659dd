"""Draw the reference images of every custom concept into the release folder, as the node DCIDemoSubject reads them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from demo_world.concepts import CONCEPTS, reference_images  # noqa: E402
from demo_world.storage import RELEASE, training_log, write_atomically  # noqa: E402

REFERENCE_SEED = 77


def main() -> None:
    for number, concept in enumerate(CONCEPTS):
        rng = np.random.default_rng([REFERENCE_SEED, number])
        for index, picture in enumerate(reference_images(concept, rng), start=1):
            image = Image.fromarray(picture)
            write_atomically(
                RELEASE / concept.name / f"{index}.png",
                lambda path, image=image: image.save(path, "PNG", optimize=True),
            )
    entries = [{"name": concept.name, "class_noun": concept.noun} for concept in CONCEPTS]
    write_atomically(RELEASE / "subjects.json", lambda path: path.write_text(json.dumps(entries, indent=1) + "\n"))
    training_log("subjects").info("wrote %d subjects to %s", len(CONCEPTS), RELEASE)


if __name__ == "__main__":
    main()
