"""A ready tiny world for sampling tests: a model with a concept applied, its conditionings, and samplers."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import nodes as host_nodes
import torch
from comfyui_dci.dci_core.concept.concept import Concept, ConceptInfo
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.families import family_of
from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from comfyui_dci.nodes.host.weights import base_hash, key_value_weights

from workbench.tiny import Tiny, tiny

PROMPT = "a V* cat in times square, at night"


class Scene(NamedTuple):
    """Objects as a workflow would have them after Apply Concept and the text encodes."""

    base: Tiny
    concept: Concept
    model: Any
    clip: Any
    positive: Any
    negative: Any


@cache
def scene(family: str = "sd1", dtype: torch.dtype = torch.float32) -> Scene:
    """Return the scene of a family; it is shared, so tests must not change it."""
    with torch.inference_mode():
        base = tiny(family, dtype=dtype)
        concept = random_concept(base)
        model, clip = apply_concept(base.model, base.clip, concept)
        return Scene(base, concept, model, clip, positive(clip), encode(clip, "blurry"))


def random_concept(base: Tiny, seed: int = 7, class_noun: str = "cat", placeholder: str = "V*") -> Concept:
    """Return a concept of random changes that fits a tiny model."""
    generator = torch.Generator().manual_seed(seed)
    deltas = {
        name: 0.1 * torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5
        for name, weight in key_value_weights(base.model).items()
    }
    widths = {
        name: getattr(base.clip.cond_stage_model, name).transformer.get_input_embeddings().weight.shape[1]
        for name in family_of(base.model).text_encoders
    }
    tokens = {name: 0.05 * torch.randn(3, width, generator=generator) for name, width in widths.items()}
    info = ConceptInfo(
        family=family_of(base.model).name,
        class_noun=class_noun,
        placeholder=placeholder,
        prefix=1,
        suffix=1,
        concept_vectors=3,
        steps=1,
        seed=seed,
        base_hash=base_hash(base.model),
    )
    return Concept(deltas, tokens, info)


@torch.inference_mode()
def positive(clip: Any, prompt: str = PROMPT, noun: str = "dog", **options: Any) -> Any:
    """Return a positive conditioning that carries its auxiliary text."""
    return build_conditioning(clip, prompt, noun, **options).conditioning


@torch.inference_mode()
def encode(clip: Any, text: str) -> Any:
    """Return what the stock CLIPTextEncode node returns."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def dci(model: Any, **settings: Any) -> Any:
    """Return a clone of the model with DCI applied; λ = 1 and a long active part, so that effects show."""
    return apply_dci(model, DCISettings(**{"injection_strength": 1.0, "active_fraction": 0.5, **settings}))[0]


@torch.inference_mode()
def ksample(
    model: Any,
    positive: Any,
    negative: Any,
    sampler: str = "euler",
    steps: int = 4,
    size: int = 8,
    batch: int = 1,
    latent: dict[str, Any] | None = None,
    **options: Any,
) -> torch.Tensor:
    """Return the latent that the stock KSampler node makes; its scheduler, cfg and seed are among the options."""
    latent = latent or {"samples": torch.zeros(batch, 4, size, size)}
    given = {"scheduler": "normal", "cfg": 5.0, "seed": 3, **options}
    (result,) = host_nodes.common_ksampler(
        model, steps=steps, sampler_name=sampler, positive=positive, negative=negative, latent=latent, **given
    )
    return result["samples"]


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference over the largest value of ``b``."""
    return ((a - b).abs().max() / b.abs().max()).item()
