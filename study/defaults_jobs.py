"""The measurements that defaults are chosen by, as jobs: each writes rows, or waits for a subject that is not trained yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.nodes.host.demo_model import Subject
from torch import Tensor

from study.defaults_bench import AUTHORS, PAIRS, PATHS, PICTURES, PLAIN, STEPS, Bench, Drawn, Recipe, Way
from study.defaults_scores import distance, mean, moment_distance, scores_of_images, scores_of_latents
from study.prompts import PLACEHOLDER


class Writer:
    """Rows of one worker, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")

    def __call__(self, **row: Any) -> None:
        rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()}
        self._file.write(json.dumps(rounded) + "\n")
        self._file.flush()


Job = Callable[[Bench, Writer], bool]
"""Measures, and tells whether it could: False when what it needs is not trained yet."""


def _with_concept(
    subject: Subject, recipe: Recipe, step: int, measure: Callable[[Bench, Writer, Any, Any], None]
) -> Job:
    """A job that needs a trained subject: it waits for the file, then measures with the concept's model and CLIP."""

    def job(bench: Bench, write: Writer) -> bool:
        path = bench.concept_file(subject, recipe, step)
        if path is not None:
            measure(bench, write, *bench.applied(path))
        return path is not None

    return job


def _facts(bench: Bench, subject: Subject, recipe: Recipe, step: int, seed: int) -> dict[str, Any]:
    """The columns that tell what a row was measured on."""
    return {
        "world": bench.world.name,
        "subject": subject.name,
        "recipe": recipe.name,
        "step": step,
        "seed": seed,
    }


def training_job(subject: Subject, recipe: Recipe, checkpoints: Sequence[int], seed: int) -> Job:
    """Train, then sample every checkpoint plainly: with V*, with the auxiliary noun, and at the end with V* but no noun."""

    def job(bench: Bench, write: Writer) -> bool:
        bench.train(subject, recipe, checkpoints)
        tasks = [task for task in bench.world.tasks(subject) for _ in range(PICTURES)]
        noun = bench.world.auxiliary_noun(subject)
        for step in checkpoints:
            path = bench.concept_file(subject, recipe, step)
            assert path is not None
            model, clip = bench.applied(path)
            info = load_concept(path).info
            evaluation: dict[str, Any] = next(
                (e for e in reversed(info.history.get("evaluations", ())) if e["step"] <= step), {}
            )
            concept = scores_of_latents(bench, bench.plain(model, clip, [t.text for t in tasks], seed), subject, tasks)
            other = [t.with_noun(subject, noun) for t in tasks]
            auxiliary = scores_of_latents(bench, bench.plain(model, clip, other, seed), subject, tasks)
            bare = float("nan")
            if step == max(checkpoints):
                _, alone = bench.applied(path, add_class_noun=False)
                texts = [t.text.replace(f"{PLACEHOLDER} {subject.class_noun}", PLACEHOLDER) for t in tasks]
                bare = scores_of_latents(bench, bench.plain(model, alone, texts, seed), subject, tasks)[0]
            write(
                table="training",
                world=bench.world.name,
                subject=subject.name,
                **asdict(recipe),
                step=step,
                seed=seed,
                change=bench.change(path),
                loss=evaluation.get("loss"),
                loss_alone=evaluation.get("loss_without_contexts"),
                start=info.history.get("start"),
                likeness=concept[0],
                obedience=concept[1],
                second=concept[2],
                auxiliary_obedience=auxiliary[1],
                auxiliary_second=auxiliary[2],
                likeness_without_noun=bare,
            )
        return True

    return job


def path_job(subject: Subject, recipe: Recipe, step: int, seed: int, variant: dict[str, Any]) -> Job:
    """Judge every way of the auxiliary branch at one setting: pictures, range, correlation of both latents."""

    def measure(bench: Bench, write: Writer, model: Any, clip: Any) -> None:
        noun, run = bench.world.auxiliary_noun(subject), dict(variant)
        given = {"injection_strength": run.pop("strength", 2.0), "active_fraction": run.pop("fraction", 0.3)}
        how = Way(**run)
        for name, way in PATHS.items():
            scores, deviations, correlations = [], [], []
            for task in bench.world.tasks(subject):
                drawn = bench.dual(model, clip, task.text, noun, seed, {**given, **way}, how)
                scores.append(scores_of_latents(bench, drawn.latents, subject, [task] * PAIRS))
                deviations += drawn.deviations
                correlations += drawn.correlations[1:]
            write(
                table="paths",
                **_facts(bench, subject, recipe, step, seed),
                **asdict(how),
                **given,
                path=name,
                likeness=mean(scores, 0),
                obedience=mean(scores, 1),
                second=mean(scores, 2),
                least=min(deviations),
                most=max(deviations),
                correlation=sum(correlations) / max(len(correlations), 1),
            )

    return _with_concept(subject, recipe, step, measure)


def distance_job(
    subject: Subject, recipe: Recipe, step: int, seed: int, strength: float, fraction: float, cfg: float
) -> Job:
    """Compare each way's final latents at 20 steps with the authors' 200-step run (η = 0)."""

    def measure(bench: Bench, write: Writer, model: Any, clip: Any) -> None:
        noun = bench.world.auxiliary_noun(subject)
        given = {"injection_strength": strength, "active_fraction": fraction}
        for task in bench.world.tasks(subject)[1::3]:
            aim = bench.dual(model, clip, task.text, noun, seed, {**given, **AUTHORS}, Way(200, cfg))
            plain = [bench.plain(model, clip, [task.text] * PAIRS, seed, Way(steps, cfg)) for steps in (200, STEPS)]
            row = {
                "table": "distance",
                "world": bench.world.name,
                "subject": subject.name,
                "recipe": recipe.name,
                "seed": seed,
                "strength": strength,
                "fraction": fraction,
                "cfg": cfg,
                "task": task.text,
            }
            write(
                **row,
                path="authors, 200 steps",
                correlation=sum(aim.correlations) / len(aim.correlations),
                least=min(aim.deviations),
                most=max(aim.deviations),
            )
            write(**row, path="plain, 20 steps against 200", distance=distance(plain[1], plain[0]))
            write(**row, path="no DCI against the authors' run", distance=distance(plain[1], aim.latents))
            for name, way in PATHS.items():
                drawn = bench.dual(model, clip, task.text, noun, seed, {**given, **way}, Way(cfg=cfg))
                write(**row, path=name, distance=distance(drawn.latents, aim.latents))

    return _with_concept(subject, recipe, step, measure)


def stochastic_job(subject: Subject, recipe: Recipe, step: int, seed: int) -> Job:
    """Compare distributions with the authors' default (200 steps, η = 1 in both branches): judge's scores and latents' moments."""

    def measure(bench: Bench, write: Writer, model: Any, clip: Any) -> None:
        noun, count = bench.world.auxiliary_noun(subject), 16
        given = {"injection_strength": 2.0, "active_fraction": 0.3}
        ways = {
            f"{name}, η {eta:g}": {**way, "auxiliary_eta": eta} for name, way in PATHS.items() for eta in (0.0, 1.0)
        }
        for task in bench.world.tasks(subject)[3:4]:

            def draw(way: dict[str, Any], steps: int, start: int, text: str = task.text) -> Tensor:
                how = Way(steps, sampler="euler_ancestral")
                return bench.dual(model, clip, text, noun, start, {**given, **way}, how, count).latents

            authors = {**AUTHORS, "auxiliary_eta": 1.0}
            aim = draw(authors, 200, seed)
            row = {
                "table": "stochastic",
                "world": bench.world.name,
                "subject": subject.name,
                "task": task.text,
                "seed": seed,
            }
            for name, latents in [
                ("authors, 200 steps", aim),
                ("authors, 200 steps, other seeds", draw(authors, 200, seed + 999)),
                *((name, draw(way, STEPS, seed + 7)) for name, way in ways.items()),
            ]:
                scores = scores_of_latents(bench, latents, subject, [task] * count)
                write(**row, path=name, likeness=scores[0], obedience=scores[1], moments=moment_distance(latents, aim))

    return _with_concept(subject, recipe, step, measure)


def fraction_job(subject: Subject, recipe: Recipe, step: int, seed: int, fraction: float, path_name: str) -> Job:
    """Judge pictures at 20 steps for one active fraction and λ from -2 to 2; 0 is plain sampling."""

    def measure(bench: Bench, write: Writer, model: Any, clip: Any) -> None:
        noun = bench.world.auxiliary_noun(subject)
        pictures: dict[float, list[Tensor]] = {}
        for strength in (-2.0, 0.0, 2.0) if fraction else (0.0,):
            scores, weights = [], []
            for task in bench.world.tasks(subject):
                settings = {"injection_strength": strength, "active_fraction": fraction or 0.01, **PATHS[path_name]}
                drawn = (
                    bench.dual(model, clip, task.text, noun, seed, settings, PLAIN)
                    if fraction
                    else Drawn(bench.plain(model, clip, [task.text] * PAIRS, seed))
                )
                images = bench.decode(drawn.latents)
                pictures.setdefault(strength, []).append(images)
                scores.append(scores_of_images(bench, images, subject, [task] * PAIRS))
                weights.append(drawn.weight)
            write(
                table="fractions",
                **_facts(bench, subject, recipe, step, seed),
                fraction=fraction,
                path=path_name,
                strength=strength,
                likeness=mean(scores, 0),
                obedience=mean(scores, 1),
                second=mean(scores, 2),
                weight=sum(weights) / len(weights),
            )
        if fraction:
            low, high = torch.cat(pictures[-2.0]), torch.cat(pictures[2.0])
            write(
                table="span",
                **_facts(bench, subject, recipe, step, seed),
                fraction=fraction,
                path=path_name,
                span=float((low - high).abs().mean() * 255),
            )

    return _with_concept(subject, recipe, step, measure)


def dial_job(subject: Subject, recipe: Recipe, step: int, seed: int) -> Job:
    """How far λ from -2 to 2 turns pictures and weights, by mask preset; T_a 0.3."""

    def measure(bench: Bench, write: Writer, model: Any, clip: Any) -> None:
        noun = bench.world.auxiliary_noun(subject)
        tasks = bench.world.tasks(subject)[::2]
        plain = torch.cat([bench.decode(bench.plain(model, clip, [t.text] * PAIRS, seed)) for t in tasks])
        for preset in ("resolution_normalized", "reference", "calibrated"):
            images, weights = {}, {}
            for strength in (-2.0, 0.0, 2.0):
                settings = {"injection_strength": strength, "active_fraction": 0.3, "mask_preset": preset}
                drawn = [bench.dual(model, clip, t.text, noun, seed, settings, PLAIN) for t in tasks]
                images[strength] = torch.cat([bench.decode(each.latents) for each in drawn])
                weights[strength] = sum(each.weight for each in drawn) / len(drawn)
            write(
                table="dial",
                **_facts(bench, subject, recipe, step, seed),
                preset=preset,
                weight_low=weights[-2.0],
                weight_middle=weights[0.0],
                weight_high=weights[2.0],
                span=float((images[2.0] - images[-2.0]).abs().mean() * 255),
                from_plain=float((images[0.0] - plain).abs().mean() * 255),
            )

    return _with_concept(subject, recipe, step, measure)
