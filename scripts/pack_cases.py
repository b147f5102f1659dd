"""How other packs are wired beside DCI: graphs in API form on the demo model, one small step for each use of a pack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Link = list[Any]
Graph = dict[str, dict[str, Any]]

CONCEPT = "try_packs"
ADAPTER = "try_packs.safetensors"
VISION = "try_packs_vision.safetensors"
SCENE = "with an umbrella at night"
ACTIVE_FRACTION = 0.3


@dataclass(frozen=True)
class Wires:
    """What the sampler will be wired to, and its class."""

    model: Link
    positive: Link
    negative: Link
    sampler: str = "KSampler"


Step = Callable[[Graph, Wires], Wires]


@dataclass(frozen=True)
class Case:
    """One use of a pack.

    Args:
        pack: name of its repository.
        use: what of it is used, for the table.
        node: a node class that must be offered for it.
        step: adds it to a graph.
        picture: id of the node that draws what the pack sees, for a pack that changes no latent; else "".
    """

    pack: str
    use: str
    node: str
    step: Step
    picture: str = ""


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
            prompt=f"photo of a V* car {SCENE}",
            auxiliary_noun="cat",
            entire_prompt=True,
        ),
        "negative": text("sketch of a cup"),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
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


def _half_mask(graph: Graph, name: str, x: int) -> Link:
    """Add a mask of one half of the image and return its link."""
    graph["nothing"] = node("SolidMask", value=0.0, width=128, height=128)
    graph["half"] = node("SolidMask", value=1.0, width=64, height=128)
    graph[name] = node("MaskComposite", destination=["nothing", 0], source=["half", 0], x=x, y=0, operation="add")
    return [name, 0]


def _ip_adapter(graph: Graph, wires: Wires) -> Wires:
    graph |= {
        "adapter": node("IPAdapterModelLoader", ipadapter_file=ADAPTER),
        "vision": node("CLIPVisionLoader", clip_name=VISION),
        "reference": node("DCIDemoSubject", subject="teal_fox"),
        "first": node("ImageFromBatch", image=["reference", 0], batch_index=0, length=1),
        "pack": node(
            "IPAdapterAdvanced",
            model=wires.model,
            ipadapter=["adapter", 0],
            image=["first", 0],
            clip_vision=["vision", 0],
            weight=1.0,
            weight_type="linear",
            combine_embeds="concat",
            start_at=0.0,
            end_at=1.0,
            embeds_scaling="V only",
        ),
    }
    return replace(wires, model=["pack", 0])


def _scheduled_lora(graph: Graph, wires: Wires) -> Wires:
    graph["pack"] = node(
        "PCLazyLoraLoader", model=wires.model, clip=["subject", 1], text=f"[<lora:{CONCEPT}:0.5>::0.6]"
    )
    for name in ("positive", "negative"):
        graph[name]["inputs"]["clip"] = ["pack", 1]
    return replace(wires, model=["pack", 0])


def _couple_text(graph: Graph, words: str) -> Link:
    graph["pack"] = node("PCTextEncode", clip=["subject", 1], text=words)
    return ["pack", 0]


def _couple_as_positive(graph: Graph, wires: Wires) -> Wires:
    return replace(wires, positive=_couple_text(graph, f"a car {SCENE} FILL() COUPLE(0 0.5, 0 1) photo of a house"))


def _couple_combined(graph: Graph, wires: Wires) -> Wires:
    couple = _couple_text(graph, f"a car {SCENE} FILL() COUPLE(0 0.5, 0 1) photo of a house")
    graph["combined"] = node("ConditioningCombine", conditioning_1=wires.positive, conditioning_2=couple)
    return replace(wires, positive=["combined", 0])


def _couple_on_model(graph: Graph, wires: Wires) -> Wires:
    graph["other"] = text("photo of a house")
    graph["pack"] = node(
        "AttentionCouplePPM",
        model=wires.model,
        base_cond=wires.positive,
        base_mask=_half_mask(graph, "left", 0),
        cond_1=["other", 0],
        mask_1=_half_mask(graph, "right", 64),
    )
    return replace(wires, model=["pack", 0])


def _negative_weights(graph: Graph, wires: Wires) -> Wires:
    graph["pack"] = node("CLIPNegPip", model=wires.model, clip=["subject", 1])
    for name in ("positive", "negative"):
        graph[name]["inputs"]["clip"] = ["pack", 1]
    graph["positive"]["inputs"]["prompt"] += " (on grass:-1.0)"
    return replace(wires, model=["pack", 0])


def _heat_maps(graph: Graph, wires: Wires) -> Wires:
    """The analyzer cannot read learned vectors: it gets the base CLIP and a plain word in the place of each of the three."""
    graph |= {
        "tokens": node("CLIPTextEncodeWithTokens", clip=["base", 1], text=f"photo of a car car car car {SCENE}"),
        "image": node("VAEDecode", samples=["sampler", 0], vae=["base", 2]),
        "analyzer": node(
            "DAAMAnalyzer",
            clip=["base", 1],
            tokens=["tokens", 1],
            heatmaps=["sampler", 1],
            attentions="umbrella",
            caption=False,
            alpha=1.0,
            images=["image", 0],
        ),
        "picture": node("SaveImage", images=["analyzer", 0], filename_prefix="try_packs"),
    }
    return replace(wires, sampler="KSamplerDAAM")


def _dense_regions(graph: Graph, wires: Wires) -> Wires:
    """Two regions: the prompt on the left, a house on the right; the pack's own conditioning is the positive."""
    graph["other"] = text("photo of a house")
    regions = {
        "one": (wires.positive, _half_mask(graph, "left", 0)),
        "two": (["other", 0], _half_mask(graph, "right", 64)),
    }
    model = wires.model
    for name, (conditioning, mask) in regions.items():
        graph[name] = node("DenseDiffusionAddCondNode", model=model, conditioning=conditioning, strength=1.0, mask=mask)
        model = [name, 0]
    graph["pack"] = node("DenseDiffusionApplyNode", model=model)
    return replace(wires, model=["pack", 0], positive=["pack", 1])


def _dense_regions_of_ours(graph: Graph, wires: Wires) -> Wires:
    """The same regions, but the positive is put together by the host's Concat, so that it is still ours."""
    dense = _dense_regions(graph, wires)
    graph["both"] = node("ConditioningConcat", conditioning_to=wires.positive, conditioning_from=["other", 0])
    return replace(dense, positive=["both", 0])


_IP, _CONTROL, _PPM = "ComfyUI_IPAdapter_plus", "comfyui-prompt-control", "ComfyUI-ppm"
_DAAM, _DENSE = "comfyui-daam", "ComfyUI_densediffusion"
CASES = (
    Case(_IP, "IPAdapter Advanced", "IPAdapterAdvanced", _ip_adapter),
    Case(_CONTROL, "a scheduled LoRA", "PCLazyLoraLoader", _scheduled_lora),
    Case(_CONTROL, "COUPLE combined with our positive", "PCTextEncode", _couple_combined),
    Case(_CONTROL, "COUPLE in place of our positive", "PCTextEncode", _couple_as_positive),
    Case(_PPM, "Attention Couple", "AttentionCouplePPM", _couple_on_model),
    Case(_PPM, "CLIP NegPip", "CLIPNegPip", _negative_weights),
    Case(_DAAM, "KSampler for DAAM", "KSamplerDAAM", _heat_maps, "picture"),
    Case(_DENSE, "its own conditioning as positive", "DenseDiffusionApplyNode", _dense_regions),
    Case(_DENSE, "the model only, Concat as positive", "DenseDiffusionApplyNode", _dense_regions_of_ours),
)
