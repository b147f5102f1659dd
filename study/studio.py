"""Fine-tune and sample the demo model in this process, through the pack's own functions and the host's samplers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demo_world.concepts import Concept
from study.pack import NAME, load_pack
from study.plan import PICTURES, SEED, Prompt, Sampling, auxiliary_noun_for

SIZE_PX = 128
STEPS = 20
GUIDANCE = 5.0


class Studio:
    """The demo model, loaded once.

    Args:
        folder: where fine-tuned concepts are kept.
    """

    def __init__(self, folder: Path) -> None:
        load_pack()
        self.folder = folder
        self.demo = import_module(f"{NAME}.nodes.host.demo_model")
        self.applying = import_module(f"{NAME}.nodes.host.applying")
        self.conditioning = import_module(f"{NAME}.nodes.host.conditioning")
        self.sampling = import_module(f"{NAME}.nodes.host.sampling")
        self.settings = import_module(f"{NAME}.dci_core.settings")
        self.concept_file = import_module(f"{NAME}.dci_core.concept_file")
        self.nodes = import_module("nodes")  # the host's
        with torch.inference_mode():
            self.model, self.clip, self.vae = self.demo.load_demo_model()

    @torch.inference_mode()
    def draw(self, concept_file: Path, concept: Concept, prompt: Prompt, how: Sampling) -> Tensor:
        """Sample the study's pictures of a prompt, [PICTURES, H, W, 3] in 0 … 1; noise is the same for every setting."""
        trained = self.concept_file.load_concept(concept_file)
        model, clip = self.applying.apply_concept(self.model, self.clip, trained, how.strength)
        positive = self._positive(clip, concept, prompt, how)
        negative = self._encode(clip, "")
        if how.dci is not None:
            model, _ = self.sampling.apply_dci(model, self.settings.DCISettings(**how.dci))
        latent = {"samples": torch.zeros(PICTURES, 4, SIZE_PX // 8, SIZE_PX // 8)}
        (drawn,) = self.nodes.common_ksampler(
            model, SEED, STEPS, GUIDANCE, "euler", "normal", positive, negative, latent
        )
        pictures: Tensor = self.vae.decode(drawn["samples"])
        return pictures

    def _positive(self, clip: Any, concept: Concept, prompt: Prompt, how: Sampling) -> list[Any]:
        if how.dci is not None:
            noun = how.auxiliary_noun or auxiliary_noun_for(concept, prompt)
            return self.conditioning.build_conditioning(clip, prompt.text, noun, how.entire_prompt).conditioning
        concept_text = self._encode(clip, prompt.text)
        if not how.noun_until:
            return concept_text
        noun_text = self._encode(clip, prompt.plain_text)
        limit = self.nodes.ConditioningSetTimestepRange()
        return (
            limit.set_range(noun_text, 0.0, how.noun_until)[0] + limit.set_range(concept_text, how.noun_until, 1.0)[0]
        )

    def _encode(self, clip: Any, text: str) -> list[Any]:
        return self.nodes.CLIPTextEncode().encode(clip, text)[0]
