"""Graphs in API form in which other packs are tried: the demo model, a learned subject, and one step for each use of a pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Link = list[Any]
Graph = dict[str, dict[str, Any]]

CONCEPT = "try_packs"
SCENE = "with an umbrella at night"


@dataclass(frozen=True)
class Wires:
    """What the sampler will be wired to, and its class."""

    model: Link
    positive: Link
    negative: Link
    sampler: str = "KSampler"


Step = Callable[[Graph, Wires], Wires]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    """Return a node in API form."""
    return {"class_type": kind, "inputs": inputs}


def training_graph(demo: Graph) -> Graph:
    """Return the part of the shipped demo graph that learns and saves a concept, with few steps and another name."""
    graph = {name: node(demo[name]["class_type"], **demo[name]["inputs"]) for name in ("1", "2", "10", "11")}
    graph["10"]["inputs"] |= {"steps": 10}
    graph["11"]["inputs"] |= {"name": CONCEPT}
    return graph


def sampling_graph(run: int, *steps: Step) -> Graph:
    """Return a graph that samples the learned subject after the steps given and saves the latent.

    Args:
        run: a number of its own makes the host sample again; samplers do not read it.
        steps: of packs and of DCI, in the order in which their nodes stand.
    """
    graph = {
        "base": node("DCIDemoModel"),
        "concept": node("DCILoadConcept", name=f"{CONCEPT}.safetensors"),
        "subject": node("DCIApplyConcept", model=["base", 0], clip=["base", 1], concept=["concept", 0], strength=1.0),
        "positive": node(
            "AuxPromptBuilder",
            clip=["subject", 1],
            prompt=f"photo of a V* bear {SCENE}",
            auxiliary_noun="cat",
            entire_prompt=True,
        ),
        "negative": text("drawing of a cup"),
        "latent": node("EmptyLatentImage", width=256, height=256, batch_size=1),
    }
    wires = Wires(["subject", 0], ["positive", 0], ["negative", 0])
    for step in steps:
        wires = step(graph, wires)
    graph["sampler"] = node(
        wires.sampler,
        model=wires.model,
        positive=wires.positive,
        negative=wires.negative,
        latent_image=["latent", 0],
        seed=0,
        steps=6,
        cfg=5.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
        run=run,
    )
    graph["save"] = node("SaveLatent", samples=["sampler", 0], filename_prefix="try_packs")
    return graph


def text(words: str) -> dict[str, Any]:
    """Return a text encode with the concept's CLIP."""
    return node("CLIPTextEncode", clip=["subject", 1], text=words)


def dci(active_fraction: float) -> Step:
    """Return the step that applies DCI; 0 switches it off."""

    def step(graph: Graph, wires: Wires) -> Wires:
        graph["dci"] = node(
            "DCIApply",
            model=wires.model,
            injection_strength=1.0,
            active_fraction=active_fraction,
            share_guidance=True,
            mask_preset="resolution_normalized",
            blend="masks",
            layers="all",
            share_noise=False,
        )
        return replace(wires, model=["dci", 0])

    return step
