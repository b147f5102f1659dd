"""How other packs are wired beside DCI, one step for each use of a pack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pack_graphs import CONCEPT, SCENE, Graph, Link, Step, Wires, node, text

NAMED = f"embedding:{CONCEPT} bear"
ADAPTER = "try_packs.safetensors"
VISION = "try_packs_vision.safetensors"


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


def _half_mask(graph: Graph, name: str, x: int) -> Link:
    """Add a mask of one half of the image and return its link."""
    graph["nothing"] = node("SolidMask", value=0.0, width=256, height=256)
    graph["half"] = node("SolidMask", value=1.0, width=128, height=256)
    graph[name] = node("MaskComposite", destination=["nothing", 0], source=["half", 0], x=x, y=0, operation="add")
    return [name, 0]


def _ip_adapter(graph: Graph, wires: Wires) -> Wires:
    graph |= {
        "adapter": node("IPAdapterModelLoader", ipadapter_file=ADAPTER),
        "vision": node("CLIPVisionLoader", clip_name=VISION),
        "reference": node("DCIDemoSubject", subject="poodle"),
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


def _encode_with(graph: Graph, clip: Link) -> None:
    for name in ("positive", "negative"):
        graph[name]["inputs"]["clip"] = clip


def _load_loras(graph: Graph, wires: Wires, clip: Link, text: str) -> Wires:
    graph["pack"] = node("PCLazyLoraLoader", model=wires.model, clip=clip, text=text)
    _encode_with(graph, ["pack", 1])
    return replace(wires, model=["pack", 0])


def _scheduled_lora(graph: Graph, wires: Wires) -> Wires:
    return _load_loras(graph, wires, ["subject", 1], f"[<lora:{CONCEPT}:0.5>::0.6]")


def _without_apply_concept(graph: Graph, wires: Wires) -> Wires:
    """Use the learned subject by stock means: no Apply Concept, and a prompt that names it by its embedding."""
    del graph["subject"], graph["concept"]

    def on_base(value: Any) -> Any:
        return ["base", value[1]] if isinstance(value, list) and value[0] == "subject" else value

    for entry in graph.values():
        entry["inputs"] = {name: on_base(value) for name, value in entry["inputs"].items()}
    graph["positive"]["inputs"] |= {"prompt": f"photo of a {NAMED} {SCENE}", "subject": NAMED}
    return replace(wires, model=on_base(wires.model))


def _all_loras_scheduled(graph: Graph, wires: Wires) -> Wires:
    wires = _without_apply_concept(graph, wires)
    return _load_loras(graph, wires, ["base", 1], f"[<lora:{CONCEPT}:1>:<lora:{CONCEPT}:0.5>:0.1]")


def _auxiliary_loras_at_half(graph: Graph, wires: Wires) -> Wires:
    wires = _all_loras_scheduled(graph, wires)
    graph["positive"]["inputs"]["auxiliary_lora_strength"] = 0.5
    return wires


def _scheduled_prompt(graph: Graph, wires: Wires) -> Wires:
    """The pack's schedule calls our node for each of its prompts."""
    wires = _all_loras_scheduled(graph, wires)
    builder = f'NODE(AuxPromptBuilder, prompt, auxiliary_noun "cat"; subject "{NAMED}")'
    words = f"{builder} photo of a {NAMED} [{SCENE}:on grass:0.2]"
    graph["positive"] = node("PCLazyTextEncode", clip=["pack", 1], text=words)
    return wires


def _hooks_from_text(graph: Graph, wires: Wires) -> Wires:
    wires = _without_apply_concept(graph, wires)
    graph["hooks"] = node("PCLoraHooksFromText", text=f"<lora:{CONCEPT}:0.5> [<lora:{CONCEPT}:0.5>::0.6]")
    how = {"apply_to_conds": True, "schedule_clip": True}
    graph["pack"] = node("SetClipHooks", clip=["base", 1], hooks=["hooks", 0], **how)
    _encode_with(graph, ["pack", 0])
    return wires


def _couple_text(graph: Graph, words: str) -> Link:
    graph["pack"] = node("PCTextEncode", clip=["subject", 1], text=words)
    return ["pack", 0]


def _couple_as_positive(graph: Graph, wires: Wires) -> Wires:
    return replace(wires, positive=_couple_text(graph, f"a bear {SCENE} FILL() COUPLE(0 0.5, 0 1) photo of a house"))


def _couple_combined(graph: Graph, wires: Wires) -> Wires:
    couple = _couple_text(graph, f"a bear {SCENE} FILL() COUPLE(0 0.5, 0 1) photo of a house")
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
        mask_1=_half_mask(graph, "right", 128),
    )
    return replace(wires, model=["pack", 0])


def _negative_weights(graph: Graph, wires: Wires) -> Wires:
    graph["pack"] = node("CLIPNegPip", model=wires.model, clip=["subject", 1])
    _encode_with(graph, ["pack", 1])
    graph["positive"]["inputs"]["prompt"] += " (on grass:-1.0)"
    return replace(wires, model=["pack", 0])


def _heat_maps(graph: Graph, wires: Wires) -> Wires:
    """The analyzer cannot read learned vectors: it gets the base CLIP and a plain word in the place of each of the three."""
    graph |= {
        "tokens": node("CLIPTextEncodeWithTokens", clip=["base", 1], text=f"photo of a bear bear bear bear {SCENE}"),
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
        "two": (["other", 0], _half_mask(graph, "right", 128)),
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
    Case(_CONTROL, "scheduled LoRAs only, `subject`", "PCLazyLoraLoader", _all_loras_scheduled),
    Case(_CONTROL, "the same, auxiliary LoRA strength 0.5", "PCLazyLoraLoader", _auxiliary_loras_at_half),
    Case(_CONTROL, "scheduled LoRAs and prompts, `subject`", "PCLazyTextEncode", _scheduled_prompt),
    Case(_CONTROL, "LoRA hooks from text, `subject`", "PCLoraHooksFromText", _hooks_from_text),
    Case(_CONTROL, "COUPLE combined with our positive", "PCTextEncode", _couple_combined),
    Case(_CONTROL, "COUPLE in place of our positive", "PCTextEncode", _couple_as_positive),
    Case(_PPM, "Attention Couple", "AttentionCouplePPM", _couple_on_model),
    Case(_PPM, "CLIP NegPip", "CLIPNegPip", _negative_weights),
    Case(_DAAM, "KSampler for DAAM", "KSamplerDAAM", _heat_maps, "picture"),
    Case(_DENSE, "its own conditioning as positive", "DenseDiffusionApplyNode", _dense_regions),
    Case(_DENSE, "the model only, Concat as positive", "DenseDiffusionApplyNode", _dense_regions_of_ours),
)
