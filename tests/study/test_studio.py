"""Small cells of the study, from fine-tuning to what is kept, on the demo model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import study.plan
import study.studio
import study.work
from demo_world.judge import Judge
from demo_world.vocabulary import SUBJECTS
from study.batches import batches, stacked
from study.cells import Cell, Ledger
from study.plan import (
    ALL,
    AUXILIARY_NOUN,
    BASE,
    CLASS_NOUN,
    CORE,
    EDITED,
    PLAIN,
    STUDIO,
    VARIANTS,
    Plan,
    Sampling,
    Setting,
    dci,
    first_said,
)
from study.premise import PREMISE
from study.prompts import Prompt, prompts_for
from study.studio import Studio, encode, noise_seed, positive_of, references
from study.work import Critics, Limits, add_options, do, results_of, run, trainings_of

SUBJECT = "panda"
METHOD = replace(EDITED, name="short", checkpoints=(1, 2), class_images=0)
SETTING = Setting(METHOD, 2, PLAIN)
PLAN = Plan("tiny", (SUBJECT,), (1,), (SETTING, Setting(METHOD, 1, PLAIN)))
BRANCHES = dci(0.5, 1.0)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("concepts"))


@pytest.fixture(scope="module")
def trained(studio: Studio) -> Path:
    return studio.fine_tune(SUBJECT, METHOD, 2, seed=1)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study.studio, "STEPS", 2)


@pytest.fixture(scope="module")
def plain(studio: Studio, trained: Path) -> torch.Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study.studio, "STEPS", 2)
        return studio.draw(trained, asked(), PLAIN, 1, 7)


def asked() -> list[Prompt]:
    """A context and a colour."""
    prompts = prompts_for(SUBJECT)
    return [prompts[0], prompts[-1]]


def test_a_run_keeps_every_checkpoint_and_runs_once(studio: Studio, trained: Path) -> None:
    first = studio.fine_tune(SUBJECT, METHOD, 1, seed=1)
    assert first != trained and first.is_file() and trained.is_file()
    written = trained.stat().st_mtime_ns
    assert studio.fine_tune(SUBJECT, METHOD, 2, seed=1) == trained and trained.stat().st_mtime_ns == written


def test_contexts_learn_at_the_rate_of_the_weights_and_class_images_stand_beside_the_references(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(study.studio, "train_concept", lambda *given: seen.extend(given))
    monkeypatch.setattr(
        study.studio, "class_images", lambda noun, count: ([torch.zeros(64, 64, 3) + 0.5] * count, [noun] * count)
    )
    with pytest.raises(StopIteration):  # nothing was trained
        studio.fine_tune(SUBJECT, replace(EDITED, name="seen", class_images=5), EDITED.steps, seed=3)
    _, inputs, settings, storage = seen
    assert settings.context_learning_rate == settings.learning_rate == EDITED.learning_rate
    assert (settings.steps, settings.seed, settings.batch_size) == (EDITED.steps, 3, 2)
    assert storage.plan.steps == EDITED.checkpoints
    assert len(inputs.images) == 2 and set(inputs.regularization_captions) == {"bear"}
    assert len(inputs.regularization_images) == 5 and inputs.class_noun == "bear"


def test_two_of_the_six_references_stand_before_a_plain_backdrop() -> None:
    every, plain_ones = references(SUBJECT, ALL), references(SUBJECT, STUDIO)
    assert every.shape == (6, 256, 256, 3) and torch.equal(plain_ones, every[[0, 3]])


@pytest.mark.parametrize(
    "how",
    [
        Sampling("weaker", strength=0.5),
        first_said(CLASS_NOUN, 0.5),
        first_said(AUXILIARY_NOUN, 0.5),
        BRANCHES,
        next(way for way in VARIANTS if not way.entire_prompt),
        next(way for way in VARIANTS if way.auxiliary == "auto"),
    ],
    ids=lambda how: how.name,
)
def test_every_way_to_sample_draws_pictures_of_its_own(
    studio: Studio, trained: Path, plain: torch.Tensor, how: Sampling
) -> None:
    images = studio.draw(trained, asked()[:1], how, 1, 7)
    assert images.shape == (1, 256, 256, 3) and images.min() >= 0 and images.max() <= 1
    assert not torch.equal(images, plain[:1])


@pytest.mark.parametrize("how", [PLAIN, BRANCHES, first_said(CLASS_NOUN, 0.5)], ids=lambda how: how.name)
def test_a_picture_is_the_same_alone_and_in_a_batch(studio: Studio, trained: Path, how: Sampling) -> None:
    prompts = prompts_for(SUBJECT)[
        1:4:2
    ]  # "in the desert", "in a city": as many words, which share a batch with two branches too
    together = studio.draw(trained, prompts, how, 1, 7)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(studio, "batch", 1)
    alone = studio.draw(trained, prompts, how, 1, 7)
    monkey.undo()
    assert (together - alone).abs().mean() < 0.02 < (together[0] - together[1]).abs().mean()


def test_every_prompt_and_picture_has_its_own_noise_and_every_setting_the_same(
    studio: Studio, trained: Path, plain: torch.Tensor
) -> None:
    assert torch.equal(studio.draw(trained, asked(), PLAIN, 1, 7), plain)
    same_prompt = studio.draw(trained, asked()[:1], PLAIN, 2, 7)
    assert (same_prompt[0] - plain[0]).abs().mean() < 0.02 < (same_prompt[0] - same_prompt[1]).abs().mean()
    assert len({noise_seed(subject, seed) for subject in SUBJECTS for seed in (1, 2, 3)}) == 3 * len(SUBJECTS)


def test_the_demo_model_at_strength_0_draws_the_class_noun(studio: Studio, trained: Path) -> None:
    (drawn,) = studio.draw(trained, asked()[:1], BASE, 1, 7)
    clip, text = studio.base.clip, asked()[0].plain_text
    with torch.inference_mode():
        known = studio.sample(studio.base.model, encode(clip, text), encode(clip, ""), 7, [0])
    assert torch.equal(drawn, known[0])


def test_prompts_share_a_batch_where_their_words_stand_at_the_same_places(studio: Studio, trained: Path) -> None:
    from comfyui_dci.dci_core.concept.file import load_concept
    from comfyui_dci.nodes.host.concepts.applying import apply_concept

    with torch.inference_mode():
        _, clip = apply_concept(studio.base.model, studio.base.clip, load_concept(trained), 1.0)
        prompts = [
            prompts_for(SUBJECT)[place] for place in (1, 3, 2, 10)
        ]  # "in the desert", "in a city", "at sunset", "purple"
        branches = [positive_of(clip, prompt, BRANCHES) for prompt in prompts]
        one = [positive_of(clip, prompt, PLAIN) for prompt in prompts]
        made = [rows for rows, _ in batches(branches, repeats=2, size=3)]
        assert made == [[0, 1, 2], [3], [4, 5], [6, 7]]
        assert [rows for rows, _ in batches(one, repeats=2, size=16)] == [[*range(8)]]
        rows, conditioning = next(batches(branches, repeats=2, size=3))
        ((text, options),) = conditioning
        assert text.shape[0] == options["pooled_output"].shape[0] == 3
        assert torch.equal(text[2:], branches[1][0][0]) and torch.equal(text[:1], text[1:2])
        carried = options["dci"]
        assert torch.equal(carried.cross_attn[2:], branches[1][0][1]["dci"].cross_attn)
        with pytest.raises(ValueError, match="words at the same places"):
            stacked([branches[0], branches[2]])
        with pytest.raises(ValueError, match="differ in start_percent"):
            stacked([[[one[0][0][0], {"start_percent": start}]] for start in (0.0, 0.5)])
        with pytest.raises(ValueError, match="others do not"):
            stacked([one[0], [[one[0][0][0], {}]]])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, studio: Studio, tmp_path: Path) -> Critics:
    """Two prompts, an untrained judge, and files of the test alone."""
    monkeypatch.setattr(study.plan, "prompts_for", lambda subject, sets: prompts_for(subject)[:2])
    monkeypatch.setattr(study.work, "CELLS", tmp_path)
    monkeypatch.setattr(study.work, "Studio", lambda folder, batch: studio)
    critics = Critics(Judge().eval(), None)
    monkeypatch.setattr(study.work, "load_critics", lambda has_clip: critics)
    return critics


def test_a_cell_is_trained_drawn_scored_and_kept_and_not_done_again(
    studio: Studio, trained: Path, quick: Critics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Cell] = []

    def counted(studio: Studio, critics: Critics, cell: Cell) -> Any:
        done.append(cell)
        return results_of(studio, critics, cell)

    monkeypatch.setattr(study.work, "results_of", counted)
    limits = Limits(has_clip=False)
    first_only = replace(PLAN, settings=PLAN.settings[:1])
    run(first_only, trainings_of(PLAN), limits)
    ledger = Ledger(tmp_path, PLAN, SUBJECT, 1)
    first, second = (Cell(PLAN, SUBJECT, 1, setting) for setting in PLAN.settings)
    assert ledger.has(first, False) and not ledger.has(second, False)
    scores = ledger.read(first)
    assert scores.likeness.shape == (2,) and (scores.obedience > 0).all() and (scores.likeness > 0).all()
    run(PLAN, trainings_of(PLAN), limits)
    assert [cell.setting for cell in done] == list(PLAN.settings)
    run(PLAN, trainings_of(PLAN), limits)
    assert len(done) == 2


def test_when_the_time_is_over_no_cell_is_begun(quick: Critics, tmp_path: Path) -> None:
    run(PLAN, trainings_of(PLAN), Limits(minutes=0.0, has_clip=False))
    assert not list(tmp_path.rglob("*.jsonl"))


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "quokka"), "Unknown subjects quokka; the plan has panda"),
        (("--workers", "0"), "--workers 0 and --batch"),
        (("--minutes", "-1"), "--minutes -1 above 0"),
    ],
)
def test_what_cannot_be_followed_is_told_before_any_work(words: Sequence[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        do(PLAN, options(*words), "study.run")
    assert message in str(stopped.value)


def test_without_a_clip_the_command_that_makes_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(study.work, "CLIP_FILE", tmp_path / "none.safetensors")
    with pytest.raises(SystemExit) as stopped:
        do(PREMISE, options(), "study.premise")
    assert "train_clip" in str(stopped.value) and "--no-clip" in str(stopped.value)


def test_workers_share_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[Any] = []
    monkeypatch.setattr(study.work, "run", lambda plan, trainings, limits: shares.append((trainings, limits)))
    for number in ("0", "1"):
        with pytest.raises(SystemExit) as stopped:
            do(CORE, options("--share", number, "2", "--no-clip", "--minutes", "5", "--batch", "3"), "study.run")
        assert not stopped.value.code
    (first, limits), (second, _) = shares
    assert limits == Limits(5.0, 3, has_clip=False)
    assert sorted([*first, *second]) == sorted(trainings_of(CORE)) and len(first) == len(second) == 12
