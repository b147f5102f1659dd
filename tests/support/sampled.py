"""The host's own custom-sampling nodes around a tiny model, and what they were seen to do."""

from __future__ import annotations

from typing import Any

import comfy_extras.nodes_custom_sampler as custom
import comfy_extras.nodes_perpneg as perpneg
import torch
from comfy.patcher_extension import WrappersMP
from scenes import encode, scene


class GivenNoise:
    """A NOISE object with a noise of one's own."""

    def __init__(self, noise: torch.Tensor, seed: int = 3) -> None:
        self.noise, self.seed = noise, seed

    def generate_noise(self, latent: dict[str, Any]) -> torch.Tensor:
        return self.noise


def guider_of(kind: str, model: Any, positive: Any, negative: Any) -> Any:
    """Return a GUIDER as its node makes it."""
    other = encode(scene().clip, "a painting")
    if kind.startswith("dual"):
        style = "nested" if "nested" in kind else "regular"
        return custom.DualCFGGuider.execute(model, positive, other, negative, 4.0, 3.0, style).result[0]
    if kind == "perp-neg":
        return perpneg.PerpNegGuider.execute(model, positive, negative, other, 5.0, 0.8).result[0]
    if kind == "basic":
        return custom.BasicGuider.execute(model, positive).result[0]
    if kind == "two models":
        return custom.DualModelGuider.execute(model, positive, 5.0, scene().base.model, negative).result[0]
    return custom.CFGGuider.execute(model, positive, negative, 5.0).result[0]


@torch.inference_mode()
def sample_guider(guider: Any, model: Any, noise: Any = None, steps: int = 4) -> torch.Tensor:
    """Return what SamplerCustomAdvanced makes with Euler."""
    sigmas = custom.BasicScheduler.execute(model, "normal", steps, 1.0).result[0]
    sampler = custom.KSamplerSelect.execute("euler").result[0]
    noise = noise or custom.RandomNoise.execute(3).result[0]
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    return custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]["samples"]


def watching_latents(model: Any) -> tuple[Any, list[torch.Tensor]]:
    """Return a clone of the model and the list that collects the latent of each of the sampler's model calls."""
    seen: list[torch.Tensor] = []
    watched = model.clone()

    def watch(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(x.clone())
        return executor(x, *args, **kwargs)

    watched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "watch", watch)
    return watched, seen
