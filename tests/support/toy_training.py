"""A toy run: one real cross-attention layer, a fixed text encoder, everything in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.prediction import Prediction
from comfyui_dci.dci_core.training.concept_training import ConceptTraining
from comfyui_dci.dci_core.training.data import ImageSet, RegularizationSet, TextConditioning
from comfyui_dci.dci_core.training.ico import PromptWords
from comfyui_dci.dci_core.training.model import DiffusionModel
from comfyui_dci.dci_core.training.prompts import PromptParts
from comfyui_dci.dci_core.training.settings import TrainingSettings
from torch import Tensor, nn

WIDTH, LENGTH, CHANNELS, TIMESTEPS = 4, 8, 2, 20
SCHEME = ICOScheme(1, 1, 2)


class ToyDenoiser:
    """One cross-attention layer; only the weights of its K and V projections are exposed."""

    def __init__(self, text_width: int, draw: Callable[..., Tensor]) -> None:
        self.to_k, self.to_v = (nn.Linear(text_width, WIDTH, bias=False, dtype=torch.float64) for _ in range(2))
        self.initial = {"attn2.to_k": draw(WIDTH, text_width), "attn2.to_v": draw(WIDTH, text_width)}
        self.projections: Mapping[str, nn.Parameter] = {"attn2.to_k": self.to_k.weight, "attn2.to_v": self.to_v.weight}
        with torch.no_grad():
            for name, weight in self.projections.items():
                weight.copy_(self.initial[name])
        self.key_value_norms = {name: float(value.norm()) for name, value in self.initial.items()}
        self.query, self.out, self.time = draw(WIDTH, CHANNELS), draw(CHANNELS, WIDTH), draw(TIMESTEPS, WIDTH)
        self.seen: list[tuple[Tensor, Tensor, TextConditioning]] = []

    def __call__(self, noisy: Tensor, timesteps: Tensor, text: TextConditioning) -> Tensor:
        self.seen.append((noisy.detach(), timesteps, text))
        pixels = noisy.flatten(2).transpose(1, 2)  # [B, N, D]
        query = F.linear(pixels, self.query) + self.time[timesteps][:, None]
        key, value = self.to_k(text.context), self.to_v(text.context)
        out = F.linear(F.scaled_dot_product_attention(query, key, value), self.out)
        pooled = 0.0 if text.pooled is None else text.pooled.sum(dim=1).view(-1, 1, 1)
        return (out + pooled).transpose(1, 2).unflatten(-1, noisy.shape[-2:])

    def deltas(self) -> dict[str, Tensor]:
        return {name: value.detach().float() - self.initial[name].float() for name, value in self.projections.items()}


class ToyEncoder:
    """Each text encoder lets every token see those before it; their outputs stand side by side as in SDXL."""

    def __init__(self, names: tuple[str, ...], draw: Callable[..., Tensor], pooled: bool) -> None:
        self.weights = {name: draw(WIDTH, WIDTH) for name in names}
        self.pooled = pooled
        self.seen: list[tuple[dict[str, Tensor], list[int]]] = []

    def __call__(self, prompts: Mapping[str, Tensor], end_positions: Sequence[int]) -> TextConditioning:
        self.seen.append(({name: prompt.detach().clone() for name, prompt in prompts.items()}, list(end_positions)))
        order = torch.arange(1, LENGTH + 1, dtype=torch.float64)[:, None]
        encoded = [torch.tanh(prompts[n] @ w).cumsum(dim=1) / order for n, w in self.weights.items()]
        context = torch.cat(encoded, dim=-1)
        return TextConditioning(context, context[range(len(context)), end_positions] if self.pooled else None)


def toy(
    settings: TrainingSettings | None = None,
    names: tuple[str, ...] = ("clip_l",),
    images: int = 3,
    variants: int = 2,
    class_images: int = 0,
    pooled: bool = False,
    prediction: Prediction = Prediction.EPSILON,
    captions: Mapping[str, Sequence[Tensor]] | None = None,
) -> ConceptTraining:
    """Build the same run each time."""
    settings = settings or toy_settings()
    scheme, generator = settings.prompt_scheme, torch.Generator().manual_seed(99)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    text_width = WIDTH * len(names)
    regularization = None
    denoiser, encoder = ToyDenoiser(text_width, draw), ToyEncoder(names, draw, pooled)
    if not settings.mode.projections:
        denoiser.projections = {}
    words = {name: PromptWords(draw(WIDTH), draw(1, WIDTH), draw(WIDTH), draw(WIDTH), LENGTH) for name in names}
    tokens = {name: draw(scheme.concept_vectors, WIDTH) for name in names}
    contexts = {name: draw(images, scheme.contexts, WIDTH) for name in names}
    references = ImageSet(draw(images, variants, CHANNELS, 2, 2))
    if class_images:
        text = TextConditioning(
            draw(class_images, LENGTH, text_width), draw(class_images, text_width) if pooled else None
        )
        regularization = RegularizationSet(draw(class_images, variants, CHANNELS, 2, 2), text=text)
    sigmas = torch.linspace(0.1, 5.0, TIMESTEPS, dtype=torch.float64)
    model = DiffusionModel(denoiser, encoder, sigmas, prediction)
    prompts = PromptParts(words, tokens, contexts, captions)
    return ConceptTraining(settings, model, prompts, references, regularization)


def toy_settings(**changes: Any) -> TrainingSettings:
    given = {"scheme": SCHEME, "steps": 3, "learning_rate": 1e-3, "context_learning_rate": 1e-2, "seed": 5}
    return TrainingSettings(**(given | changes))


def trained(run: ConceptTraining) -> dict[str, nn.Parameter]:
    """Everything that may change, by name."""
    return (
        dict(run.model.denoiser.projections)
        | {f"[T] {name}": value for name, value in run.prompts.tokens.items()}
        | {f"[I] {name}": value for name, value in run.prompts.contexts.items()}
    )


def frozen(run: ConceptTraining) -> dict[str, Tensor]:
    """Everything that must not change."""
    denoiser = run.model.denoiser
    tensors = {"query": denoiser.query, "out": denoiser.out, "time": denoiser.time, "sigmas": run.model.sigmas}
    tensors |= {f"encoder {name}": value for name, value in run.model.encoder.weights.items()}
    tensors |= {f"initial {name}": value for name, value in denoiser.initial.items()}
    for name, words in run.prompts.words.items():
        tensors |= {f"{name} {part}": getattr(words, part) for part in ("start", "noun", "end", "padding")}
    tensors["latents"] = run.references.latents
    if run.regularization:
        tensors |= {"class latents": run.regularization.latents, "captions": run.regularization.text.context}
    return tensors


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}
