"""A graph whose prompt lacks V* is told before it trains; what only another node can say is left to it."""

from __future__ import annotations

from typing import Any

import pytest
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.host.later_prompts import check_later_prompts


def graph(prompt: Any = "a cat in snow", **builder: Any) -> dict[str, Any]:
    """Train, save, apply, build."""
    return {
        "train": {"class_type": "ICOTrainer", "inputs": {}},
        "save": {"class_type": "DCISaveConcept", "inputs": {"concept": ["train", 0]}},
        "apply": {"class_type": "DCIApplyConcept", "inputs": {"concept": ["save", 0], "clip": ["checkpoint", 1]}},
        "skip": {"class_type": "CLIPSetLastLayer", "inputs": {"clip": ["apply", 1]}},
        "build": {"class_type": "AuxPromptBuilder", "inputs": {"clip": ["skip", 0], "prompt": prompt, **builder}},
        "checkpoint": {"class_type": "CheckpointLoaderSimple", "inputs": {}},
        "write": {"class_type": "AnyText", "inputs": {}},
    }


def check(known: dict[str, Any], trainer: str = "train") -> None:
    check_later_prompts(known, trainer, "V*", "cat")


def test_a_prompt_without_the_placeholder_is_refused_with_what_to_write() -> None:
    message = (
        r"The prompt of Aux Prompt Builder \(node build\), 'a cat in snow', does not contain V\*, .* Write \"V\* cat\" .* "
        "training has not begun"
    )
    with pytest.raises(UserInputError, match=message):
        check(graph())
    with pytest.raises(UserInputError, match=r'it holds "V\*cat"'):
        check(graph("a V*cat"))


@pytest.mark.parametrize(
    "known",
    [
        graph("a v* cat in snow"),
        graph(["write", 0]),
        graph(subject="sks cat"),
        graph("embedding:my_concept cat"),
    ],
)
def test_what_can_be_drawn_or_is_not_known_yet_is_let_through(known: dict[str, Any]) -> None:
    check(known)


def test_a_placeholder_that_apply_concept_sets_is_the_one_that_counts() -> None:
    known = graph("a W* cat")
    known["apply"]["inputs"]["placeholder"] = "W*"
    check(known)
    known["apply"]["inputs"]["placeholder"] = ["write", 0]
    check(known)
    known["apply"]["inputs"]["placeholder"] = "X*"
    with pytest.raises(UserInputError, match=r"does not contain X\*"):
        check(known)


def test_another_concept_on_the_way_may_be_the_one_that_is_meant() -> None:
    known = graph("a W* dog")
    known["skip"] = {"class_type": "DCIApplyConcept", "inputs": {"clip": ["apply", 1], "concept": ["load", 0]}}
    known["load"] = {"class_type": "DCILoadConcept", "inputs": {}}
    check(known)
    known["skip"]["inputs"]["placeholder"] = "W*"
    check(known)


def test_prompts_of_other_trainings_are_not_looked_at() -> None:
    check(graph(), trainer="another")
    check({}, trainer="")
