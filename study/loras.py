"""Does the dial help a LoRA that no trainer of ours made? DCI by `subject` against less strength and the class noun first.

Overfitted LoRAs of subjects that the demo model has never seen, trained by the host's own node and drawn through its own
loader. Results are kept cell by cell in the cache folder; a stopped run goes on where it was. Run from the repository root:
python -m study.loras
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import comfy.sd
import nodes
import numpy as np
import torch
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from torch import Tensor

from demo_world.judge import Judge, load_judge
from demo_world.storage import cache_folder, training_log
from study.cells import DIGITS, JUDGE, digest, file_digest
from study.lora_training import INSTANCE, LORAS, STUDIED, WORD, Lora, load_lora, lora_file, phrase_of, training_digest
from study.prompts import PLACEHOLDER, Prompt, auxiliary_noun_for, prompts_for
from study.scoring import score
from study.statistics import Array
from study.studio import Studio, encode
from study.tables import write_text_atomically

PICTURES = 1  # of each prompt, from the same noise for every way
NOISE_SEED = 1
REVISION = 2  # of the results; change it, and all is drawn anew, when sampling changes
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
NOUN_UNTIL = (0.15, 0.3)
INJECTION_STRENGTHS = (-1.0, 0.0, 1.0, 2.0)
FRACTIONS = (0.5, 0.3, 0.2)
AUXILIARY_STRENGTHS = (1.0, 0.5, 0.0)
PROMPTS = (0, 4, 5, 8)  # places in `prompts_for`: a context, two second nouns, a style
MORE_PROMPTS = (1, 6, 7, 9)  # as many, for LoRAs that have learned their subject


@dataclass(frozen=True)
class Way:
    """A way to sample with a LoRA.

    Args:
        strength: of the LoRA; 0 is the demo model, for which the prompt says the class noun.
        noun_until: share of the denoising in which the prompt says the class noun before it names the subject; 0 is neutral.
        injection_strength: λ; None samples plainly.
        active_fraction: T_a.
        auxiliary_strength: share of the LoRA's strength that the auxiliary branch has, 0 … 1.
    """

    strength: float = 1.0
    noun_until: float = 0.0
    injection_strength: float | None = None
    active_fraction: float = 0.0
    auxiliary_strength: float = 1.0

    @property
    def name(self) -> str:
        """For tables."""
        if self.injection_strength is not None:
            told = f"DCI λ {self.injection_strength:g}, T_a {self.active_fraction:g}"
            return told if self.auxiliary_strength == 1 else f"{told}, auxiliary LoRA {self.auxiliary_strength:g}"
        if self.noun_until:
            return f"class noun until {self.noun_until:g}"
        return f"strength {self.strength:g}" if self.strength else "no LoRA, class noun"


BASE, PLAIN = Way(strength=0.0), Way()
WEAKER = tuple(Way(strength=strength) for strength in STRENGTHS)
NOUN_FIRST = tuple(Way(noun_until=until) for until in NOUN_UNTIL)


def dci_ways(active_fraction: float, auxiliary_strength: float) -> tuple[Way, ...]:
    """Ways over λ."""
    return tuple(
        Way(
            injection_strength=injection_strength,
            active_fraction=active_fraction,
            auxiliary_strength=auxiliary_strength,
        )
        for injection_strength in INJECTION_STRENGTHS
    )


WAYS = (
    BASE,
    *WEAKER,
    *NOUN_FIRST,
    *(way for fraction in FRACTIONS for auxiliary in AUXILIARY_STRENGTHS for way in dci_ways(fraction, auxiliary)),
)


def prompts_of(subject: str, lora: Lora) -> list[Prompt]:
    """The study's prompts that count for a LoRA."""
    prompts = prompts_for(subject)
    return [prompts[place] for place in (*PROMPTS, *(MORE_PROMPTS if lora.kind == INSTANCE else ()))]


def text_of(prompt: Prompt) -> str:
    """The prompt with the LoRA's word, e.g. "photo of a sks bear on a beach"."""
    return prompt.text.replace(PLACEHOLDER, WORD)


class Cells:
    """Finished prompts of one LoRA in each way, in a file.

    Args:
        folder: of all.
        subject: a key of SUBJECTS.
        lora: of it.
    """

    def __init__(self, folder: Path, subject: str, lora: Lora) -> None:
        self.path = folder / f"{subject}, {lora.name}.json"
        made_from = [training_digest(subject, lora), file_digest(JUDGE)]
        self._shaped_by = [*made_from, PICTURES, NOISE_SEED, REVISION]
        self._found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def _key(self, way: Way, prompt: Prompt) -> str:
        return digest([asdict(way), text_of(prompt), *self._shaped_by])

    def missing(self, way: Way, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the prompts that are not finished."""
        return [prompt for prompt in prompts if self._key(way, prompt) not in self._found]

    def write(self, scores: Mapping[tuple[Way, Prompt], Array]) -> None:
        """Store the (likeness, obedience) of prompts, [2] each, at once."""
        for (way, prompt), pair in scores.items():
            self._found[self._key(way, prompt)] = [way.name, text_of(prompt), *pair.round(DIGITS).tolist()]
        write_text_atomically(self.path, json.dumps(self._found, indent=0))

    def read(self, way: Way, prompt: Prompt) -> Array:
        """Return what was written, [2].

        Raises:
            KeyError: the prompt is not finished.
        """
        return np.array(self._found[self._key(way, prompt)][2:])


@torch.inference_mode()
def draw(
    studio: Studio, weights: dict[str, Tensor], subject: str, way: Way, prompts: Sequence[Prompt]
) -> Iterator[tuple[Prompt, Tensor]]:
    """Sample each prompt's pictures, [PICTURES, H, W, 3] in 0 … 1; noise is the same for every way.

    Args:
        studio: with the demo model.
        weights: of the LoRA file.
        subject: a key of SUBJECTS.
        way: to draw it.
        prompts: of it.
    """
    model, clip = comfy.sd.load_lora_for_models(
        studio.base.model, studio.base.clip, weights, way.strength, way.strength
    )
    if way.injection_strength is not None:
        settings = DCISettings(injection_strength=way.injection_strength, active_fraction=way.active_fraction)
        model, _ = apply_dci(model, settings)
    negative = encode(clip, "")
    for prompt in prompts:
        positive = _plain(clip, prompt, way) if way.injection_strength is None else _two(clip, subject, prompt, way)
        yield prompt, studio.sample(model, positive, negative, NOISE_SEED, range(PICTURES))


def _plain(clip: Any, prompt: Prompt, way: Way) -> list[Any]:
    if not way.strength:
        return encode(clip, prompt.plain_text)
    named = encode(clip, text_of(prompt))
    if not way.noun_until:
        return named
    limit, noun = nodes.ConditioningSetTimestepRange(), encode(clip, prompt.plain_text)
    return limit.set_range(noun, 0.0, way.noun_until)[0] + limit.set_range(named, way.noun_until, 1.0)[0]


def _two(clip: Any, subject: str, prompt: Prompt, way: Way) -> list[Any]:
    built = build_conditioning(
        clip,
        text_of(prompt),
        auxiliary_noun_for(prompt),
        subject=phrase_of(subject),
        auxiliary_lora_strength=way.auxiliary_strength,
    )
    return built.conditioning


@torch.no_grad()
def judged(judge: Judge, drawn: Iterable[tuple[Prompt, Tensor]]) -> dict[Prompt, Array]:
    """(Likeness, obedience) of each prompt, the mean of its pictures, [2]."""
    found = {}
    for prompt, pictures in drawn:
        scores = score(judge, pictures, [prompt] * len(pictures))
        found[prompt] = np.array([scores.likeness.mean(), scores.obedience.mean()])
    return found


def missing(folder: Path, subjects: Sequence[str]) -> Iterator[tuple[str, Lora, Way, list[Prompt]]]:
    """What is not finished, all LoRAs of a way before the next way."""
    for way in WAYS:
        for lora in LORAS:
            for subject in subjects:
                if prompts := Cells(folder, subject, lora).missing(way, prompts_of(subject, lora)):
                    yield subject, lora, way, prompts


def run(subjects: Sequence[str]) -> None:
    """Train and draw what is missing of some subjects."""
    log, studio, judge = training_log("loras"), Studio(cache_folder() / "study"), load_judge()
    weights = {(subject, lora): load_lora(lora_file(studio, subject, lora)) for lora in LORAS for subject in subjects}
    folder = cells_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for subject, lora, way, prompts in missing(folder, subjects):
        started = time.monotonic()
        found = judged(judge, draw(studio, weights[subject, lora], subject, way, prompts))
        Cells(folder, subject, lora).write({(way, prompt): pair for prompt, pair in found.items()})
        likeness, obedience = np.mean(list(found.values()), axis=0)
        setting, seconds = f"{subject}, {lora.name}, {way.name}", time.monotonic() - started
        log.info("%s: likeness %.2f, obedience %.2f, %.0f s", setting, likeness, obedience, seconds)


def cells_folder() -> Path:
    """Where results are kept."""
    return cache_folder() / "study" / "loras" / "cells"


def main() -> None:
    from study.lora_report import write_report

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="only write the report from what is there")
    parser.add_argument("--only", nargs="+", metavar="SUBJECT", help="do these subjects and no report")
    arguments = parser.parse_args()
    if not arguments.report:
        run([subject for subject in STUDIED if not arguments.only or subject in arguments.only])
    if not arguments.only:
        write_report()


if __name__ == "__main__":
    main()
