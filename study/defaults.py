"""Measure what defaults are chosen by: the auxiliary branch's way, the active fraction, class images, rates, the noun.

Each measurement is a job; rows go to a file of their worker at once. Jobs that need a fine-tuned subject wait for its file.
Subjects and seeds that defaults are chosen on are not those of the tables.

    python study/defaults.py [--until SECONDS] [--worker N]                measure on the demo model
    python study/defaults_report.py ROWS.jsonl ...                              tables in docs/results/defaults
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from demo_world.storage import cache_folder, training_log  # noqa: E402
from study.pack import NAME, load_pack  # noqa: E402
from study.worlds import PLACEHOLDER, Subject, Task, World  # noqa: E402

STEPS, GUIDANCE = 20, 7.0
CHOICE_SEED, REPORT_SEED = 11, 4242
PICTURES = 4  # of each prompt, plainly sampled
PAIRS = 2  # with two branches


@dataclass(frozen=True)
class Recipe:
    """How a subject is trained. Rates are multiples of the preset's (the authors', scaled to the model).

    Args:
        key_values, tokens, contexts: of the rates of K and V, [T] and [I].
        class_images: how many, drawn by the base model.
        batch: reference images a step; as many class images are added.
        steps: optimiser steps.
    """

    key_values: float = 1.0
    tokens: float = 1.0
    contexts: float = 1.0
    class_images: int = 100
    batch: int = 2
    steps: int = 900

    @property
    def name(self) -> str:
        rates = "-".join(f"{rate:g}" for rate in (self.key_values, self.tokens, self.contexts))
        return f"rates {rates}, {self.class_images} class images, batch {self.batch}"


PATHS: dict[str, dict[str, Any]] = {
    "shared, single steps": {"auxiliary_steps": "single", "share_noise": False},
    "shared, single steps, the concept's noise": {"auxiliary_steps": "single", "share_noise": True},
    "shared, fine steps": {"auxiliary_steps": "fine", "share_noise": False},
    "shared, fine steps, the concept's noise": {"auxiliary_steps": "fine", "share_noise": True},
    "shared, stable factor": {"auxiliary_steps": "single", "share_noise": False, "stable": True},
    "exact": {"share_guidance": False, "share_noise": False},
    "exact, the concept's noise": {"share_guidance": False, "share_noise": True},
}
AUTHORS = PATHS["shared, single steps"]


@dataclass
class Drawn:
    """Pictures of one run and what was seen of its auxiliary branch."""

    latents: Tensor
    deviations: list[float] = field(default_factory=list)
    correlations: list[float] = field(default_factory=list)
    weight: float = float("nan")


class Bench:
    """A world's model, loaded once.

    Args:
        world: to measure in.
        folder: where trained concepts and class images are kept.
    """

    def __init__(self, world: World, folder: Path) -> None:
        load_pack()
        self.world, self.folder = world, folder / world.name
        part = lambda name: import_module(f"{NAME}.{name}")  # noqa: E731
        self.applying, self.conditioning = part("nodes.host.applying"), part("nodes.host.conditioning")
        self.sampling, self.run, self.weights = (
            part("nodes.host.sampling"),
            part("nodes.host.run"),
            part("nodes.host.weights"),
        )
        self.settings, self.files = part("dci_core.settings"), part("dci_core.concept_file")
        self.training_settings, self.training_run = part("dci_core.training_settings"), part("dci_core.training_run")
        self.ico, self.inputs, self.trainer = (
            part("dci_core.ico"),
            part("nodes.host.run_inputs"),
            part("nodes.host.trainer"),
        )
        self.nodes = import_module("nodes")  # the host's
        import_module("comfy.utils").PROGRESS_BAR_ENABLED = False
        self.model, self.clip, self.vae = world.load()
        self.seen: list[Any] = []
        self._watch()

    def rates(self, recipe: Recipe) -> tuple[float, float, float]:
        """Final rates of K and V, [T] and [I]: the authors' on SD1.x, scaled to this model's weights and embeddings."""
        weights = self.weights.key_value_weights(self.model)
        width = next(iter(weights.values())).shape[1]
        table = self.clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight
        used = table.float()[table.float().abs().sum(1) > 0]
        deviation = float(used.std())
        return (
            recipe.key_values * 6e-5 * (768 / width) ** 0.5,
            recipe.tokens * 6e-5 * deviation / 0.014,
            recipe.contexts * 6e-4 * deviation / 0.014,
        )

    def concept_file(self, subject: Subject, recipe: Recipe, step: int) -> Path | None:
        found = list(self._run_folder(subject, recipe).glob(f"*/step_{step:06d}.safetensors"))
        return found[0] if found else None

    def train(self, subject: Subject, recipe: Recipe, checkpoints: Sequence[int]) -> None:
        """Train a subject, keeping the concept of each checkpoint."""
        if self.concept_file(subject, recipe, max(checkpoints)):
            return
        key_values, tokens, contexts = self.rates(recipe)
        settings = self.training_settings.TrainingSettings(
            scheme=self.ico.ICOScheme(1, 1, 3), steps=recipe.steps, batch_size=recipe.batch, learning_rate=key_values,
            token_learning_rate=tokens, context_learning_rate=contexts, seed=1, evaluate_every=min(checkpoints),
        )  # fmt: skip
        others, captions = self.class_images(subject.noun, recipe.class_images) if recipe.class_images else ([], [])
        with torch.inference_mode():
            inputs = self.inputs.TrainingInputs(
                images=self.world.references(subject), class_noun=subject.noun, regularization_images=others,
                regularization_captions=captions, resolution_px=self.world.size_px,
            )  # fmt: skip
            storage = self.trainer.Storage(
                self._run_folder(subject, recipe), self.training_run.CheckpointPlan(steps=tuple(checkpoints))
            )
            self.trainer.train_concept(
                self.model, self.clip, self.vae, inputs, settings, lambda step, loss: None, PLACEHOLDER, storage=storage
            )

    def class_images(self, noun: str, count: int) -> tuple[list[Tensor], list[str]]:
        """Pictures that the base model draws of a noun, in many scenes; drawn once and kept."""
        path = self.folder / "class_images" / f"{noun}.pt"
        captions = self.world.class_captions(noun)
        captions = [captions[number % len(captions)] for number in range(400)]
        drawn = 100 if count <= 100 else 400
        path = path.with_stem(f"{noun}_{drawn}")
        if not path.exists():
            pictures = []
            for start in range(0, drawn, 20):
                latents = self.plain(self.model, self.clip, captions[start : start + 20], 70000 + start)
                pictures.append((self.decode(latents) * 255).round().byte())
            path.parent.mkdir(parents=True, exist_ok=True)
            mine = path.with_suffix(f".{os.getpid()}")
            torch.save(torch.cat(pictures), mine)
            mine.replace(path)
        images = torch.load(path, weights_only=True)[:count].float() / 255
        return list(images), captions[:count]

    def applied(self, path: Path) -> tuple[Any, Any]:
        with torch.inference_mode():
            return self.applying.apply_concept(self.model, self.clip, self.files.load_concept(path), 1.0)

    def change(self, path: Path) -> float:
        """How far K and V have moved, relative to their norm."""
        deltas = self.files.load_concept(path).key_value_deltas
        weights = self.weights.key_value_weights(self.model)
        moved = sum(float(delta.float().pow(2).sum()) for delta in deltas.values())
        return (moved / sum(float(weights[name].float().pow(2).sum()) for name in deltas)) ** 0.5

    @torch.inference_mode()
    def encode(self, clip: Any, texts: Sequence[str]) -> list[Any]:
        """One conditioning with a row for each text."""
        found = [clip.encode_from_tokens(clip.tokenize(text), return_pooled=True) for text in texts]
        longest = max(cond.shape[1] for cond, _ in found)
        assert all(cond.shape[1] == longest for cond, _ in found)
        return [[torch.cat([cond for cond, _ in found]), {"pooled_output": torch.cat([pooled for _, pooled in found])}]]

    @torch.inference_mode()
    def plain(
        self, model: Any, clip: Any, texts: Sequence[str], seed: int, steps: int = STEPS, cfg: float = 5.0,
        sampler: str = "euler",
    ) -> Tensor:  # fmt: skip
        return self._sample(
            model, self.encode(clip, texts), self.encode(clip, [""]), len(texts), seed, steps, cfg, sampler
        )

    @torch.inference_mode()
    def dual(
        self, model: Any, clip: Any, text: str, noun: str, seed: int, settings: dict[str, Any], count: int = PAIRS,
        steps: int = STEPS, cfg: float = GUIDANCE, sampler: str = "euler",
    ) -> Drawn:  # fmt: skip
        """Sample a batch of one prompt with two branches."""
        positive = self.conditioning.build_conditioning(clip, text, noun).conditioning
        given = {name: value for name, value in settings.items() if name != "stable"}
        patched, _ = self.sampling.apply_dci(model, self.settings.DCISettings(**given))
        self.seen.clear()
        self.run.STABLE = settings.get("stable", False)
        latents = self._sample(patched, positive, self.encode(clip, [""]), count, seed, steps, cfg, sampler)
        run = self.seen[-1]
        report = run.report()
        return Drawn(latents, list(report.deviations), list(run.correlations), report.mean_weight)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat([self.vae.decode(part).cpu() for part in latents.split(16)]).clamp(0, 1)

    def _sample(
        self, model: Any, positive: Any, negative: Any, count: int, seed: int, steps: int, cfg: float, sampler: str
    ) -> Tensor:
        edge = self.world.size_px // 8
        latent = {"samples": torch.zeros(count, 4, edge, edge)}
        (drawn,) = self.nodes.common_ksampler(model, seed, steps, cfg, sampler, "normal", positive, negative, latent)
        return drawn["samples"].cpu()  # type: ignore[no-any-return]

    def _run_folder(self, subject: Subject, recipe: Recipe) -> Path:
        return self.folder / "trainings" / f"{subject.name}, {recipe.name}, {recipe.steps} steps"

    def _watch(self) -> None:
        """Keep each run's object, correlate both latents at its active calls, and offer the "stable factor" candidate."""
        seen, host_run = self.seen, self.run

        class Watched(host_run.Run):  # type: ignore[misc, name-defined]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.correlations: list[float] = []
                seen.append(self)

            def predict(self, executor: Any, x: Tensor, *rest: Any) -> Tensor:
                before = self.active_calls
                output = super().predict(executor, x, *rest)
                if self.active_calls > before:
                    pair = torch.stack([self.model_input.flatten().float(), x.flatten().float()])
                    self.correlations.append(float(torch.corrcoef(pair)[0, 1]))
                return output

            def _move_to(self, sigma: float, *rest: Any) -> None:
                if getattr(host_run, "STABLE", False) and sigma != self.sigma and self.shared.were_used:
                    scale, ratio = self.guider.cfg, sigma / self.sigma
                    stable = (1.0 - ratio**scale) / (1.0 - ratio)  # contracts by r^s, as infinitely many short steps do
                    unconditional = (scale * self.conditional - self.denoised) / (scale - 1.0)
                    self.denoised = unconditional + stable * (self.conditional - unconditional)
                super()._move_to(sigma, *rest)

        self.sampling.Run = Watched


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
            info = bench.files.load_concept(path).info
            evaluation = next((e for e in reversed(info.history.get("evaluations", ())) if e["step"] <= step), {})
            concept = _scores(bench, bench.plain(model, clip, [t.text for t in tasks], seed), subject, tasks)
            other = [t.with_noun(subject, noun) for t in tasks]
            auxiliary = _scores(bench, bench.plain(model, clip, other, seed), subject, tasks)
            bare = float("nan")
            if step == max(checkpoints):
                alone = _without_nouns(clip)
                texts = [t.text.replace(f"{PLACEHOLDER} {subject.noun}", PLACEHOLDER) for t in tasks]
                bare = _scores(bench, bench.plain(model, alone, texts, seed), subject, tasks)[0]
            write(
                table="training", world=bench.world.name, subject=subject.name, **asdict(recipe), step=step, seed=seed,
                change=bench.change(path), loss=evaluation.get("loss"), loss_alone=evaluation.get("loss_without_contexts"),
                start=info.history.get("start"), likeness=concept[0], obedience=concept[1], second=concept[2],
                auxiliary_obedience=auxiliary[1], auxiliary_second=auxiliary[2], likeness_without_noun=bare,
            )  # fmt: skip
        return True

    return job


def path_job(subject: Subject, recipe: Recipe, step: int, seed: int, variant: dict[str, Any]) -> Job:
    """Judge every way of the auxiliary branch at one setting: pictures, range, correlation of both latents."""

    def job(bench: Bench, write: Writer) -> bool:
        path = bench.concept_file(subject, recipe, step)
        if path is None:
            return False
        model, clip = bench.applied(path)
        noun, run = bench.world.auxiliary_noun(subject), dict(variant)
        given = {"injection_strength": run.pop("strength", 2.0), "active_fraction": run.pop("fraction", 0.3)}
        for name, way in PATHS.items():
            scores, deviations, correlations = [], [], []
            for task in bench.world.tasks(subject):
                drawn = bench.dual(model, clip, task.text, noun, seed, {**given, **way}, **run)
                scores.append(_scores(bench, drawn.latents, subject, [task] * PAIRS))
                deviations += drawn.deviations
                correlations += drawn.correlations[1:]
            write(
                table="paths", world=bench.world.name, subject=subject.name, recipe=recipe.name, step=step, seed=seed,
                **{"steps": STEPS, "cfg": GUIDANCE, "sampler": "euler", **run}, **given, path=name, likeness=_mean(scores, 0),
                obedience=_mean(scores, 1), second=_mean(scores, 2), least=min(deviations), most=max(deviations),
                correlation=sum(correlations) / max(len(correlations), 1),
            )  # fmt: skip
        return True

    return job


def distance_job(
    subject: Subject, recipe: Recipe, step: int, seed: int, strength: float, fraction: float, cfg: float
) -> Job:
    """Compare each way's final latents at 20 steps with the authors' 200-step run (η = 0)."""

    def job(bench: Bench, write: Writer) -> bool:
        path = bench.concept_file(subject, recipe, step)
        if path is None:
            return False
        model, clip = bench.applied(path)
        noun = bench.world.auxiliary_noun(subject)
        given = {"injection_strength": strength, "active_fraction": fraction}
        for task in bench.world.tasks(subject)[1::3]:
            aim = bench.dual(model, clip, task.text, noun, seed, {**given, **AUTHORS}, steps=200, cfg=cfg)
            plain = [bench.plain(model, clip, [task.text] * PAIRS, seed, steps, cfg) for steps in (200, STEPS)]
            row = {
                "table": "distance", "world": bench.world.name, "subject": subject.name, "recipe": recipe.name, "seed": seed,
                "strength": strength, "fraction": fraction, "cfg": cfg, "task": task.text,
            }  # fmt: skip
            write(**row, path="authors, 200 steps", correlation=sum(aim.correlations) / len(aim.correlations),
                  least=min(aim.deviations), most=max(aim.deviations))  # fmt: skip
            write(**row, path="plain, 20 steps against 200", distance=_distance(plain[1], plain[0]))
            write(**row, path="no DCI against the authors' run", distance=_distance(plain[1], aim.latents))
            for name, way in PATHS.items():
                drawn = bench.dual(model, clip, task.text, noun, seed, {**given, **way}, cfg=cfg)
                write(**row, path=name, distance=_distance(drawn.latents, aim.latents))
        return True

    return job


def stochastic_job(subject: Subject, recipe: Recipe, step: int, seed: int) -> Job:
    """Compare distributions with the authors' default (200 steps, η = 1 in both branches): judge's scores and latents' moments."""

    def job(bench: Bench, write: Writer) -> bool:
        path = bench.concept_file(subject, recipe, step)
        if path is None:
            return False
        model, clip = bench.applied(path)
        noun, count = bench.world.auxiliary_noun(subject), 16
        given = {"injection_strength": 2.0, "active_fraction": 0.3}
        ways = {
            f"{name}, η {eta:g}": {**way, "auxiliary_eta": eta} for name, way in PATHS.items() for eta in (0.0, 1.0)
        }
        for task in bench.world.tasks(subject)[3:4]:

            def draw(way: dict[str, Any], steps: int, start: int, text: str = task.text) -> Tensor:
                settings = {**given, **way}
                return bench.dual(
                    model, clip, text, noun, start, settings, count, steps, sampler="euler_ancestral"
                ).latents

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
                scores = _scores(bench, latents, subject, [task] * count)
                write(**row, path=name, likeness=scores[0], obedience=scores[1], moments=_moment_distance(latents, aim))
        return True

    return job


def fraction_job(subject: Subject, recipe: Recipe, step: int, seed: int, fraction: float, path_name: str) -> Job:
    """Judge pictures at 20 steps for one active fraction and λ from -2 to 2; 0 is plain sampling."""

    def job(bench: Bench, write: Writer) -> bool:
        path = bench.concept_file(subject, recipe, step)
        if path is None:
            return False
        model, clip = bench.applied(path)
        noun = bench.world.auxiliary_noun(subject)
        pictures: dict[float, list[Tensor]] = {}
        for strength in (-2.0, 0.0, 2.0) if fraction else (0.0,):
            scores, weights = [], []
            for task in bench.world.tasks(subject):
                settings = {"injection_strength": strength, "active_fraction": fraction or 0.01, **PATHS[path_name]}
                drawn = (
                    bench.dual(model, clip, task.text, noun, seed, settings, cfg=5.0)
                    if fraction
                    else Drawn(bench.plain(model, clip, [task.text] * PAIRS, seed))
                )
                images = bench.decode(drawn.latents)
                pictures.setdefault(strength, []).append(images)
                scores.append(_scores(bench, None, subject, [task] * PAIRS, images))
                weights.append(drawn.weight)
            write(
                table="fractions", world=bench.world.name, subject=subject.name, recipe=recipe.name, step=step, seed=seed,
                fraction=fraction, path=path_name, strength=strength, likeness=_mean(scores, 0), obedience=_mean(scores, 1),
                second=_mean(scores, 2), weight=sum(weights) / len(weights),
            )  # fmt: skip
        if fraction:
            low, high = torch.cat(pictures[-2.0]), torch.cat(pictures[2.0])
            write(
                table="span", world=bench.world.name, subject=subject.name, recipe=recipe.name, step=step, seed=seed,
                fraction=fraction, path=path_name, span=float((low - high).abs().mean() * 255),
            )  # fmt: skip
        return True

    return job


def dial_job(subject: Subject, recipe: Recipe, step: int, seed: int) -> Job:
    """How far λ from -2 to 2 turns pictures and weights, by mask preset; T_a 0.3."""

    def job(bench: Bench, write: Writer) -> bool:
        path = bench.concept_file(subject, recipe, step)
        if path is None:
            return False
        model, clip = bench.applied(path)
        noun = bench.world.auxiliary_noun(subject)
        tasks = bench.world.tasks(subject)[::2]
        plain = torch.cat([bench.decode(bench.plain(model, clip, [t.text] * PAIRS, seed, cfg=5.0)) for t in tasks])
        for preset in ("resolution_normalized", "reference", "calibrated"):
            images, weights = {}, {}
            for strength in (-2.0, 0.0, 2.0):
                settings = {"injection_strength": strength, "active_fraction": 0.3, "mask_preset": preset}
                drawn = [bench.dual(model, clip, t.text, noun, seed, settings, cfg=5.0) for t in tasks]
                images[strength] = torch.cat([bench.decode(each.latents) for each in drawn])
                weights[strength] = sum(each.weight for each in drawn) / len(drawn)
            write(
                table="dial", world=bench.world.name, subject=subject.name, recipe=recipe.name, step=step, seed=seed,
                preset=preset, weight_low=weights[-2.0], weight_middle=weights[0.0], weight_high=weights[2.0],
                span=float((images[2.0] - images[-2.0]).abs().mean() * 255),
                from_plain=float((images[0.0] - plain).abs().mean() * 255),
            )  # fmt: skip
        return True

    return job


def _scores(
    bench: Bench, latents: Tensor | None, subject: Subject, tasks: Sequence[Task], images: Tensor | None = None
) -> tuple[float, float, float]:
    """Mean likeness, obedience, and obedience of second objects."""
    if images is None:
        assert latents is not None
        images = bench.decode(latents)
    judged = bench.world.judge(images, subject, tasks)
    seconds = [obedience for (_, obedience), task in zip(judged, tasks) if task.kind == "second noun"]
    return (
        sum(likeness for likeness, _ in judged) / len(judged),
        sum(obedience for _, obedience in judged) / len(judged),
        sum(seconds) / len(seconds) if seconds else float("nan"),
    )


def _mean(scores: Sequence[tuple[float, ...]], column: int) -> float:
    values = [score[column] for score in scores if score[column] == score[column]]
    return sum(values) / len(values)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).flatten(1).norm(dim=1).div(other.flatten(1).norm(dim=1)).mean())


def _moment_distance(one: Tensor, other: Tensor) -> float:
    """Fréchet distance of normal distributions fitted to the latents' means over a 2 × 2 grid, [B, 4, h, w]."""
    pooled = [torch.nn.functional.adaptive_avg_pool2d(each.double(), 2).flatten(1) for each in (one, other)]
    means = [each.mean(0) for each in pooled]
    spreads = [torch.cov(each.T) for each in pooled]
    values = torch.linalg.eigvals(spreads[0] @ spreads[1]).real.clamp(min=0).sqrt().sum()
    return float((means[0] - means[1]).pow(2).sum() + spreads[0].trace() + spreads[1].trace() - 2 * values)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[bool]:
    """Whether this worker is the one to do a job."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        yield False
        return
    try:
        yield True
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _without_nouns(clip: Any) -> Any:
    """The CLIP as it reads V* alone, as written."""
    tokenizer = import_module(f"{NAME}.nodes.host.tokenizer")
    from dataclasses import fields, replace

    known = tokenizer.known_concepts(clip)
    names = [each.name for each in fields(known[0])]
    if "adds_noun" not in names and "add_class_noun" not in names:
        return clip
    switch = "adds_noun" if "adds_noun" in names else "add_class_noun"
    return tokenizer._clip_knowing(clip, tuple(replace(each, **{switch: False}) for each in known))


def work(bench: Bench, jobs: Sequence[tuple[str, Job]], folder: Path, worker: int, until: float) -> None:
    """Do jobs nobody else does, in order; those whose training is missing come again later."""
    log = training_log(f"defaults.{worker}")
    write = Writer(folder / f"rows_{bench.world.name}_{worker}.jsonl")
    waiting = list(jobs)
    while waiting and time.monotonic() < until:
        later = []
        for name, job in waiting:
            if time.monotonic() >= until:
                break
            mark = folder / "done" / bench.world.name / name.replace("/", "_")
            with _one_at_a_time(mark) as mine:
                if not mine:
                    continue
                started = time.monotonic()
                done = job(bench, write)
                log.info("%s: %s, %.0f s", name, "done" if done else "waits", time.monotonic() - started)
                if not done:
                    mark.unlink()
                    later.append((name, job))
        if len(later) == len(waiting):
            time.sleep(5)
        waiting = later


TRAINED = Recipe(12, 12, 1, steps=150)
"""A concept to look at defaults with: the small model needs K, V and [T] to move faster than SD does."""
LAST = 150
CHECKPOINTS = (75, 150, 300)
FRACTIONS = (0.0, 0.15, 0.3, 0.5, 0.7)
"""Latents of 16 × 16 average less noise away than SD's 64 × 64: the noise that is left at T_a 0.15, 0.2, 0.3 there is a quarter as
much here, at 0.50, 0.57, 0.70 (and at 0.31, 0.37, 0.49 on 32 × 32)."""
VARIANTS: tuple[dict[str, Any], ...] = (
    {"cfg": 5.0}, {"steps": 30}, {"sampler": "dpmpp_2m"}, {"sampler": "euler_ancestral"}, {"strength": 0.0},
)  # fmt: skip
DISTANCES = ((2.0, 0.3, 7.0), (2.0, 0.15, 7.0), (0.0, 0.3, 7.0), (2.0, 0.3, 5.0))
"""λ, T_a and guidance of the runs that are compared with the authors' 200 steps."""
FINE = "shared, fine steps"


def jobs_of(subjects: Sequence[Subject], seed: int, full: bool) -> list[tuple[str, Job]]:
    """All jobs for some subjects, the trainings that others need first.

    Args:
        subjects: of the world.
        seed: of the pictures.
        full: everything that defaults are chosen by, or what the tables show of the choice.
    """
    jobs: list[tuple[str, Job]] = []

    def add(name: str, subject: Subject, job: Job) -> None:
        jobs.append((f"{name}, {subject.name}, seed {seed}", job))

    for subject in subjects:
        add(f"train {TRAINED.name}", subject, training_job(subject, TRAINED, CHECKPOINTS[:2], seed))
    for strength, fraction, cfg in DISTANCES if full else DISTANCES[:1]:
        for subject in subjects[:2]:
            job = distance_job(subject, TRAINED, LAST, seed, strength, fraction, cfg)
            add(f"distance {strength:g} {fraction:g} {cfg:g}", subject, job)
    for subject in subjects:
        add("paths", subject, path_job(subject, TRAINED, LAST, seed, {}))
        for fraction in FRACTIONS:
            add(f"fraction {fraction:g}", subject, fraction_job(subject, TRAINED, LAST, seed, fraction, FINE))
        add("dial", subject, dial_job(subject, TRAINED, LAST, seed))
    for subject in subjects[:2] if full else ():
        for variant in VARIANTS:
            text = ", ".join(f"{name} {value}" for name, value in variant.items())
            add(f"paths {text}", subject, path_job(subject, TRAINED, LAST, seed, variant))
        for recipe in (
            Recipe(12, 12, 12, steps=150), *(Recipe(12, 12, 1, class_images=count, steps=300) for count in (0, 25, 100, 400)),
            Recipe(12, 12, 1, batch=1, steps=300), Recipe(12, 12, 1, batch=3, steps=300),
        ):  # fmt: skip
            add(
                f"train {recipe.name}",
                subject,
                training_job(subject, recipe, CHECKPOINTS[: 2 if recipe.steps == 150 else 3], seed),
            )
        add("stochastic", subject, stochastic_job(subject, TRAINED, LAST, seed))
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", choices=["choice", "reported"], default="choice")
    parser.add_argument("--count", type=int, default=4, help="how many subjects")
    parser.add_argument("--folder", type=Path, default=cache_folder() / "defaults")
    parser.add_argument("--until", type=float, default=1e9, help="seconds after which no new job is begun")
    parser.add_argument("--worker", type=int, default=0, help="number of this worker; start several for several cores")
    parser.add_argument("--world", default="study.worlds:DemoWorld", help="module:class")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.until
    module, _, name = arguments.world.partition(":")
    from demo_world.host import import_host

    import_host()
    import comfy.cli_args

    comfy.cli_args.args.force_fp32 = True
    load_pack()
    import_module("nodes")  # the host's, before a world may change the path
    world: World = getattr(import_module(module), name)()
    subjects = world.choice if arguments.subjects == "choice" else world.reported
    seed = CHOICE_SEED if arguments.subjects == "choice" else REPORT_SEED
    bench = Bench(world, arguments.folder)
    few = subjects[: arguments.count]
    jobs = jobs_of(few, seed, full=arguments.subjects == "choice")
    work(bench, jobs, arguments.folder, arguments.worker, until)


if __name__ == "__main__":
    main()
