"""A quick picture from the network that is being trained: Euler steps with guidance, without touching the run."""

from __future__ import annotations

import torch
from torch import Tensor

from .concept_training import ConceptTraining
from .data import TextConditioning
from .diffusion import denoised_latents
from .ico import assemble_free_prompt


def preview_latents(
    training: ConceptTraining,
    words: dict[str, tuple[Tensor, ...]],
    height: int,
    width: int,
    steps: int = 12,
    guidance: float = 6.0,
    seed: int = 0,
) -> Tensor:
    """Return x₀ sampled from the concept as it is now, its moving average where there is one.

    Args:
        training: the run; neither its weights nor its random numbers change.
        words: embeddings before, between and after V*, [n, D] each, per text encoder: one more than there are V*.
        height, width: of the latent.
        steps: of Euler's method over equally spaced timesteps.
        guidance: scale of classifier-free guidance against the empty prompt; 1 is none.
        seed: of the starting noise.

    Returns:
        [1, D, height, width].
    """
    like = training.references.latents[0]  # [F, D, h, w]
    noise = torch.randn(1, like.shape[1], height, width, generator=torch.Generator().manual_seed(seed))
    times = torch.linspace(training.model.sigmas.shape[0] - 1, 0, steps).round().long()
    sigmas = torch.cat([training.model.sigmas[times].float(), torch.zeros(1)]).tolist()
    with training.result(), torch.no_grad():
        text = _both_prompts(training, words)
        x = noise.to(like) * sigmas[0]
        for number, time in enumerate(times):
            denoised = _denoised(training, x, time, sigmas[number], text, guidance)
            x = x + (x - denoised) / sigmas[number] * (sigmas[number + 1] - sigmas[number])
    return x


def _both_prompts(training: ConceptTraining, words: dict[str, tuple[Tensor, ...]]) -> TextConditioning:
    """Encode the prompt and the empty one, which differ in where they end."""
    concept = {
        name: assemble_free_prompt(training.prompts.words[name], _joined(parts, training.prompts.tokens[name]))
        for name, parts in words.items()
    }
    empty = {name: assemble_free_prompt(some, some.noun[:0]) for name, some in training.prompts.words.items()}
    texts = [
        training.model.encoder({n: p for n, (p, _) in prompts.items()}, [next(iter(prompts.values()))[1]])
        for prompts in (concept, empty)
    ]
    pooled = [text.pooled for text in texts if text.pooled is not None]
    return TextConditioning(torch.cat([text.context for text in texts]), torch.cat(pooled) if pooled else None)


def _joined(parts: tuple[Tensor, ...], concept: Tensor) -> Tensor:
    return torch.cat([parts[0], *(piece for part in parts[1:] for piece in (concept, part))])


def _denoised(
    training: ConceptTraining, x: Tensor, time: Tensor, sigma: float, text: TextConditioning, guidance: float
) -> Tensor:
    noisy = (x / (1.0 + sigma**2) ** 0.5).expand(2, -1, -1, -1)
    predicted = training.model.denoiser(noisy, time.expand(2).to(x.device), text)
    with_prompt, without = denoised_latents(training.model.prediction, predicted.to(x), x, sigma).chunk(2)
    return without + guidance * (with_prompt - without)
