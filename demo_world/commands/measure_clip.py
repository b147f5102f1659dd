"""Measure the shipped CLIP on fresh drawings: does it find their captions, every trait, and the same subject again?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from demo_world.clip import CLIP_FILE, clip_scorer
from demo_world.contrastive import said
from demo_world.fresh import fresh_scenes, fresh_subjects
from demo_world.renderer import Renderer
from demo_world.scenes import Scene, caption
from demo_world.storage import training_log
from demo_world.truth import COLOURLESS
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUN_OF, NOUNS, STYLES
from study.alignment import ClipScorer

SEED = 4711
CAPTIONS = 64  # to choose from, one of which is right


def draw(renderer: Renderer, scenes: Sequence[Scene]) -> Tensor:
    """Drawings as images, [B, H, W, 3] in 0 … 1."""
    generator = torch.Generator().manual_seed(SEED)
    starts = range(0, len(scenes), 50)
    parts = [renderer.draw(scenes[start : start + 50], generator).pictures for start in starts]
    return torch.cat(parts).movedim(1, -1).cpu()


def retrieval(images: Tensor, texts: Tensor, scenes: Sequence[Scene], rng: np.random.Generator) -> float:
    """How often a picture's own caption is nearest among CAPTIONS that mean different things, 0 … 1.

    Args:
        images: features of the pictures, [B, D].
        texts: features of their captions, [B, D].
        scenes: B of them.
        rng: chooses the others.
    """
    scores, right = images @ texts.T, 0
    for own, scene in enumerate(scenes):
        order = (int(number) for number in rng.permutation(len(scenes)))
        others = [number for number in order if said(scenes[number]) != said(scene)][: CAPTIONS - 1]
        right += bool((scores[own, own] > scores[own, others]).all())
    return right / len(scenes)


def variants(scene: Scene) -> dict[str, list[Scene]]:
    """The scene with each trait as it could be, by the trait's name; its own is first.

    "second noun" is asked where there is one, "no second noun" where there is none, against every companion; "colour"
    where one was asked for and can be seen.
    """
    sprites = [exemplars[0] for exemplars in NOUNS.values()]
    others = [sprite for sprite in sprites if NOUN_OF[sprite] != scene.noun]
    paired = "second noun" if scene.companion else "no second noun"
    found = {
        "noun": [replace(scene, exemplar=sprite) for sprite in sprites if NOUN_OF[sprite] != scene.second_noun],
        paired: [replace(scene, companion=sprite) for sprite in (None, *others)],
        "context": [replace(scene, context=context) for context in CONTEXTS],
        "style": [replace(scene, style=style) for style in STYLES],
    }
    if scene.colour and scene.style not in COLOURLESS:
        found["colour"] = [replace(scene, colour=colour) for colour in COLOURS if colour]
    return {name: [scene, *(each for each in all_ if said(each) != said(scene))] for name, all_ in found.items()}


def zero_shot(scorer: ClipScorer, images: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """How often the caption with the right trait is nearest among those with any, by the trait's name, 0 … 1."""
    right: dict[str, list[bool]] = {}
    for features, scene in zip(images, scenes, strict=True):
        for name, scenes_of_trait in variants(scene).items():
            scores = scorer.text_features([caption(each) for each in scenes_of_trait]) @ features
            right.setdefault(name, []).append(int(scores.argmax()) == 0)
    return {name: sum(found) / len(found) for name, found in right.items()}


def likeness(images: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Mean cosines of pairs of pictures, by what their main objects have in common."""
    cosines = images @ images.T
    kinds: dict[str, Callable[[Scene, Scene], bool]] = {
        "same sprite": lambda a, b: a.exemplar == b.exemplar,
        "same noun only": lambda a, b: a.exemplar != b.exemplar and a.noun == b.noun,
        "other noun": lambda a, b: a.noun != b.noun,
    }
    pairs = [(i, j) for i in range(len(scenes)) for j in range(i)]
    values = {name: [cosines[i, j] for i, j in pairs if of(scenes[i], scenes[j])] for name, of in kinds.items()}
    return {name: float(torch.stack(found).mean()) if found else float("nan") for name, found in values.items()}


def report(scorer: ClipScorer, renderer: Renderer, count: int) -> list[str]:
    """Lines with all figures on `count` fresh drawings of training sprites and as many of custom subjects."""
    lines = []
    for title, scenes in {"training sprites": fresh_scenes(count), "subjects": fresh_subjects(count)}.items():
        images = scorer.image_features(draw(renderer, scenes))
        texts = scorer.text_features([caption(scene) for scene in scenes])
        own = float((images * texts).sum(dim=1).mean())
        found = retrieval(images, texts, scenes, np.random.default_rng(SEED))
        shares = {f"caption among {CAPTIONS}": found, **zero_shot(scorer, images, scenes)}
        lines += [
            f"{title}: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items()),
            f"{title}, cosines: own caption {own:.3f}, "
            + ", ".join(f"{name} {value:.3f}" for name, value in likeness(images, scenes).items()),
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=CLIP_FILE, help="of the CLIP")
    parser.add_argument("--count", type=int, default=300, help="drawings of training sprites, and of subjects")
    arguments = parser.parse_args()
    log = training_log("measure_clip")
    for line in report(clip_scorer(arguments.file), Renderer(), arguments.count):
        log.info(line)


if __name__ == "__main__":
    main()
