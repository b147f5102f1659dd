"""Words between V* and its noun, as in "V* red car": what it brings that the auxiliary noun takes the noun's place.

The published code replaces the exact phrase "V* <noun>" only; of "a V* red car" it makes "a dog red car", which still says
the class noun. Run from the repository root, with the study's fine-tunings there (they are made if not):
python -m study.words_between
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.files import write_atomically
from comfyui_dci.dci_core.prompt import pairs
from comfyui_dci.dci_core.prompt.phrase import Span
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.sampling import conditioning, prompt_reading
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from torch import Tensor

from demo_world.classifier import NAMES, Classifier, load_judge
from demo_world.concepts import Concept
from demo_world.storage import cache_folder, training_log
from demo_world.vocabulary import COLOURS, CONTEXTS
from study.cells import CELLS
from study.plan import EDITED, EDITED_AT, PLACEHOLDER, SEEDS, STUDIED, VARIED
from study.statistics import Array
from study.studio import Studio, encode
from study.tables import as_csv, with_interval

RESULT = CELLS.with_name("words_between.csv")
SUBJECTS = STUDIED[:4]
PICTURES = 2  # of each prompt
WAYS: dict[str, dict[str, Any]] = {
    "T_a 0.5, λ 1": {"auxiliary_steps": "single", **VARIED},  # as the study's ablations
    "the defaults": {},
}
RULES = ("the exact phrase", "words between")
MEASURES = ("likeness", "context obeyed", "colour obeyed")


def prompt_of(concept: Concept, colour: str, context: str) -> str:
    """The prompt, e.g. "photo of a V* red car on grass"."""
    return f"photo of a {PLACEHOLDER} {colour} {concept.noun} {context}"


@contextmanager
def exact_phrase() -> Iterator[None]:
    """Let "V* <noun>" alone be replaced in P_a and be T(P), as in the published code."""

    def merged(prompt: str, placeholder: str, class_noun: str, others: Sequence[str] = ()) -> str:
        return re.sub(rf"({re.escape(placeholder)}) {re.escape(class_noun)}(?!\w)", r"\1", prompt)

    def phrase_alone(prompt: str, placeholder: str, class_noun: str, others: Sequence[str] = ()) -> list[Span]:
        found = re.finditer(rf"({re.escape(placeholder)})(?: ({re.escape(class_noun)})(?!\w))?", prompt)
        return [match.span(group) for match in found for group in (1, 2) if match[group]]

    with (
        patch.object(pairs, "merge_concept_phrase", merged),
        patch.object(prompt_reading, "concept_words", phrase_alone),
    ):
        yield


@torch.inference_mode()
def draw(studio: Studio, concept: Concept, text: str, way: str | None, rule: str) -> Tensor:
    """Sample a prompt's pictures, [PICTURES, H, W, 3] in 0 … 1, plainly where ``way`` is None; always from the same noise."""
    trained = load_concept(studio.fine_tune(concept, EDITED, EDITED_AT))
    model, clip = apply_concept(studio.base.model, studio.base.clip, trained)
    positive = encode(clip, text)
    if way is not None:
        model, _ = apply_dci(model, DCISettings(**WAYS[way]))
        with exact_phrase() if rule == RULES[0] else nullcontext():
            positive = conditioning.build_conditioning(clip, text, "dog").conditioning
    return studio.sample(model, positive, encode(clip, ""), SEEDS[0], PICTURES)


@torch.no_grad()
def judged(judge: Classifier, pictures: Tensor, concept: Concept, colour: str, context: str) -> Array:
    """``MEASURES`` of pictures, their mean, each 0 … 1."""
    heads = judge(pictures.movedim(-1, 1).float())
    asked = {"subject": concept.name, "context": context, "colour": colour}
    of_each = [heads[head].softmax(dim=1)[:, NAMES[head].index(name)] for head, name in asked.items()]
    return np.array([float(values.mean()) for values in of_each])


def table(found: Mapping[tuple[str, str], Array]) -> str:
    """CSV of means over subjects with 95 % intervals; last what the second rule adds, in pairs.

    Args:
        found: [subjects, MEASURES] by way and rule.
    """
    lines = [["sampling", "P_a is made by", *MEASURES]]
    for (way, rule), values in found.items():
        lines.append([way, rule, *map(with_interval, values.T)])
        if rule == RULES[1]:
            gain = values - found[way, RULES[0]]
            lines.append([way, "difference", *(with_interval(one, "+.2f") for one in gain.T)])
    return as_csv(lines)


def main() -> None:
    log, studio, judge = training_log("words_between"), Studio(cache_folder() / "study"), load_judge()
    prompts = [(colour, context) for colour in COLOURS if colour for context in CONTEXTS if context]
    settings = [(None, ""), *((way, rule) for way in WAYS for rule in RULES)]
    found: dict[tuple[str, str], Array] = {}
    for way, rule in settings:
        of_subjects = []
        for concept in SUBJECTS:
            scores = [
                judged(judge, draw(studio, concept, prompt_of(concept, *scene), way, rule), concept, *scene)
                for scene in prompts
            ]
            of_subjects.append(np.mean(scores, axis=0))
            log.info("%s, %s, %s: %s", way or "plain", rule, concept.name, of_subjects[-1].round(3))
        found[way or "plain", rule] = np.array(of_subjects)
    write_atomically(RESULT, lambda path: path.write_text(table(found)))


if __name__ == "__main__":
    main()
