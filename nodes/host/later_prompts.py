"""What a graph, as it is queued, will do with a concept that is trained in it: a prompt that lacks V* is told before training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from comfy_execution.graph_utils import is_link

from ...dci_core.errors import UserInputError
from ...dci_core.prompt.words import EMBEDDING, no_placeholder, placeholder_pattern
from .lineage import Graph

BUILDER, APPLY = "AuxPromptBuilder", "DCIApplyConcept"


def check_later_prompts(graph: Graph, trainer: str, placeholder: str, class_noun: str) -> None:
    """Refuse a graph in which Aux Prompt Builder could not find the concept of a trainer, before it is trained.

    Only what the graph's widgets say is looked at; a prompt or a placeholder that another node makes is left to the builder.

    Args:
        graph: that is queued.
        trainer: id of the node that trains.
        placeholder, class_noun: of its concept.

    Raises:
        UserInputError: a prompt has none of the placeholders that its CLIP will know.
    """
    for name, node in graph.items():
        prompt, subject = (node["inputs"].get(key, "") for key in ("prompt", "subject"))
        if node["class_type"] != BUILDER or subject or not isinstance(prompt, str) or EMBEDDING in prompt:
            continue
        concepts = list(_applied(graph, name))
        if not any(source == trainer for source, _ in concepts):
            continue
        known = [placeholder if source == trainer and own == "" else own for source, own in concepts]
        names = [each for each in known if each]
        if len(names) == len(known) and not placeholder_pattern(names).search(prompt):
            raise UserInputError(
                f"The prompt of Aux Prompt Builder (node {name}), {prompt!r}, {no_placeholder(prompt, names[0])}, so it could not be "
                f'drawn after the training. Write "{names[0]} {class_noun}" where your subject belongs and queue again; the '
                "training has not begun."
            )


def _applied(graph: Graph, builder: str) -> Iterator[tuple[str, str | None]]:
    """The concepts on the way to a builder's CLIP: the node that each comes from, and the placeholder that is set for it, "" or unknown."""
    link = graph[builder]["inputs"].get("clip")
    while is_link(link) and link[0] in graph:
        node = graph[link[0]]
        if node["class_type"] == APPLY:
            own = node["inputs"].get("placeholder", "")
            yield _source(graph, node["inputs"].get("concept")), own if isinstance(own, str) else None
        link = node["inputs"].get("clip")


def _source(graph: Graph, link: Any) -> str:
    """The node that a concept comes from, through those that hand it on."""
    name = ""
    while is_link(link) and link[0] in graph:
        name = link[0]
        link = graph[name]["inputs"].get("concept")
    return name
