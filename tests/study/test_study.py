"""The study asks what it says it asks, and keeps what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv
from torch import Tensor

import study.cells
from demo_world.scenes import caption
from demo_world.sprites import load_sprites
from demo_world.subjects import REFERENCE_CONTEXTS
from demo_world.vocabulary import COLOURS, SUBJECTS
from study.cells import AXES, Cell, Ledger, Scores
from study.plan import (
    CHOICE,
    CORE,
    EDITED,
    MORE,
    PLAIN,
    PLANS,
    REPORTED,
    WIDE,
    Plan,
    Sampling,
    Setting,
    dci,
)
from study.premise import GRID, PREMISE
from study.prompts import AUTO, KINDS, OWN_COLOUR, PLACEHOLDER, UNLIKELY, auxiliary_noun_for, prompts_for
from study.work import cells_of, trainings_of

TINY = replace(CORE, name="tiny", subjects=REPORTED[:2], seeds=(1, 2), settings=CORE.settings[:3])


@pytest.fixture(autouse=True)
def _fresh_digests() -> Iterator[None]:
    yield
    study.cells.file_digest.cache_clear()


def test_twelve_prompts_of_the_four_kinds_name_the_subject_once_and_twelve_more_stand_behind_them() -> None:
    for subject, noun in SUBJECTS.items():
        prompts = prompts_for(subject, sets=2)
        assert len(prompts) == len({prompt.text for prompt in prompts}) == 24 and prompts[:12] == prompts_for(subject)
        for half in (prompts[:12], prompts[12:]):
            counts = [sum(prompt.kind == kind for prompt in half) for kind in KINDS]
            assert dict(zip(KINDS, counts)) == {"context": 4, "second noun": 4, "style": 2, "colour": 2}
        for prompt in prompts:
            assert prompt.text.count(f"{PLACEHOLDER} {noun}") == 1 and prompt.plain_text == caption(prompt.scene)
            assert prompt.scene.exemplar == subject and PLACEHOLDER not in prompt.plain_text
    texts = [prompt.text for prompt in prompts_for("panda")]
    assert texts[0] == "photo of a V* bear on a tiled floor" and "photo of a purple V* bear" in texts
    with pytest.raises(ValueError, match="There is no subject 'quokka'"):
        prompts_for("quokka")
    with pytest.raises(ValueError, match="3 were asked for"):
        prompts_for("panda", 3)


def test_no_prompt_asks_for_a_context_of_a_reference_or_for_what_cannot_be_told() -> None:
    for subject in SUBJECTS:
        for prompt in prompts_for(subject, sets=2):
            scene = prompt.scene
            if prompt.kind in ("context", "second noun"):
                assert scene.context and scene.context not in REFERENCE_CONTEXTS
            assert not scene.colour or "black and white" not in scene.style
            assert not scene.colour or scene.colour != OWN_COLOUR.get(subject)
    asked = {frozenset(prompt.scene.context for prompt in prompts_for(subject)[:4]) for subject in SUBJECTS}
    assert len(asked) == len(SUBJECTS), "two subjects are asked for the same contexts"
    assert len({prompts_for(subject)[4].scene.companion for subject in REPORTED}) >= 6


def test_no_prompt_asks_for_the_colour_of_most_of_a_subject() -> None:
    asked = (*REPORTED, *MORE, *CHOICE)
    shares = {subject: colour_shares(sprite) for subject, sprite in zip(SUBJECTS, load_sprites(tuple(SUBJECTS))[:, 0])}
    for subject, colour in OWN_COLOUR.items():
        assert max(shares[subject], key=shares[subject].__getitem__) == colour, f"{subject} is listed as {colour}"
    for subject in asked:
        if subject not in OWN_COLOUR:
            assert max(shares[subject].values()) < 0.3, f"{subject} has a colour, but is not listed"
    for plan in (CORE, WIDE):
        for subject in plan.subjects:
            assert OWN_COLOUR.get(subject, "none") not in {prompt.scene.colour for prompt in plan.prompts(subject)}


def colour_shares(sprite: Tensor) -> dict[str, float]:
    """How much of what is seen of a sprite, uint8 [4, H, W], is nearest to each colour, by its colourfulness, 0 … 1."""
    seen = sprite.numpy() / 255.0
    colourfulness = (seen[:3].max(axis=0) - seen[:3].min(axis=0)) * seen[3] / seen[3].sum()
    hue = 360 * rgb_to_hsv(np.moveaxis(seen[:3], 0, -1))[..., 0]
    hues = {colour: degrees for colour, degrees in COLOURS.items() if degrees is not None}
    near = np.argmin([np.abs((hue - degrees + 180) % 360 - 180) for degrees in hues.values()], axis=0)
    return {colour: float(colourfulness[near == place].sum()) for place, colour in enumerate(hues)}


def test_the_auxiliary_noun_is_the_first_of_its_list_that_the_prompt_does_not_hold() -> None:
    panda, poodle = prompts_for("panda")[0], prompts_for("poodle")[0]
    assert auxiliary_noun_for(panda) == "dog" and auxiliary_noun_for(poodle) == "cat"
    with_dog = replace(panda, scene=replace(panda.scene, companion="dog"))
    assert auxiliary_noun_for(with_dog) == "cat"
    assert auxiliary_noun_for(panda, UNLIKELY) == "trophy" and auxiliary_noun_for(panda, AUTO) == "auto"
    assert panda.said_of("dog") == "photo of a dog on a tiled floor"
    coloured = next(prompt for prompt in prompts_for("panda") if prompt.kind == "colour")
    assert coloured.said_of("dog") == "photo of a purple dog"


def test_the_plans_are_as_large_as_they_say() -> None:
    assert CORE.subjects == (*REPORTED, *MORE) and len(CORE.subjects) == 12 and len(CORE.seeds) == 2
    assert CORE.pictures_of_a_cell == 12 and len(CORE.settings) == 17
    assert CORE.cells == 12 * 2 * 17 and CORE.pictures == 12 * 12 * 2 * 17
    assert CORE.training_steps == 12 * 2 * EDITED.steps
    assert WIDE.pictures_of_a_cell == 24 * 4 and WIDE.subjects == CORE.subjects
    assert WIDE.training_steps == 12 * sum(method.steps for method in WIDE.methods) and len(WIDE.methods) == 4


def test_settings_are_chosen_on_subjects_and_seeds_of_no_reported_figure() -> None:
    assert set(PREMISE.subjects) == set(CHOICE) and not set(CHOICE) & {*REPORTED, *MORE}
    assert {*CHOICE, *REPORTED, *MORE} <= set(SUBJECTS)
    assert not set(PREMISE.seeds) & {*CORE.seeds, *WIDE.seeds}
    assert {(method.class_images > 0, method.references) for method in GRID} == {
        (True, "studio"),
        (False, "studio"),
        (False, "all"),
    }
    chosen = next(method for method in GRID if (method.class_images, method.references) == (0, "studio"))
    same = {"name": EDITED.name, "checkpoints": EDITED.checkpoints}
    assert replace(chosen, **same) == EDITED and chosen.steps == EDITED.steps


@pytest.mark.parametrize("plan", [*PLANS.values(), PREMISE], ids=lambda plan: plan.name)
def test_a_name_means_one_thing_and_no_setting_comes_twice(plan: Plan) -> None:
    assert len(set(plan.settings)) == len(plan.settings)
    samplings = {setting.sampling for setting in plan.settings}
    assert len({sampling.name for sampling in samplings}) == len(samplings)
    assert len({method.name for method in plan.methods}) == len(plan.methods)
    for setting in plan.settings:
        assert setting.steps in setting.method.checkpoints


@pytest.mark.parametrize("method", [*CORE.methods, *WIDE.methods, *GRID], ids=lambda method: method.name)
def test_checkpoints_ascend(method: object) -> None:
    checkpoints = method.checkpoints  # type: ignore[attr-defined]
    assert all(early < late for early, late in pairwise(checkpoints)) and method.steps == checkpoints[-1]  # type: ignore[attr-defined]


def test_the_core_plan_has_the_paper_s_question() -> None:
    ways = {setting.sampling.name for setting in CORE.settings}
    for fraction in (0.3, 0.5):
        assert {dci(fraction, strength).name for strength in (-2, 0, 2)} <= ways
        assert {f"class noun until {fraction:g}", f"auxiliary noun until {fraction:g}"} <= ways
    assert {"weight strength 0.6", "weight strength 0.8", "auxiliary prompt alone"} <= ways
    assert sum(setting.sampling == PLAIN for setting in CORE.settings) == 3
    assert CORE.find(PLAIN) == Setting(EDITED, EDITED.steps, PLAIN) and CORE.find(Sampling("none")) is None


def test_whole_settings_come_first_over_all_subjects_and_trainings() -> None:
    trainings = trainings_of(TINY)
    assert trainings == [("panda", 1), ("parrot", 1), ("panda", 2), ("parrot", 2)]
    assert trainings_of(TINY, ["parrot"]) == [("parrot", 1), ("parrot", 2)]
    cells = list(cells_of(TINY, trainings))
    assert len(cells) == TINY.cells == 12
    assert [cell.setting for cell in cells[:4]] == [TINY.settings[0]] * 4
    assert [(cell.subject, cell.seed) for cell in cells[4:8]] == trainings


def test_cells_are_kept_by_everything_that_shapes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(TINY, "panda", 1, TINY.settings[0])
    setting = cell.setting
    others = [
        replace(cell, subject="parrot"),
        replace(cell, seed=2),
        replace(cell, setting=replace(setting, steps=150)),
        replace(cell, setting=replace(setting, method=replace(setting.method, learning_rate=1.0))),
        replace(cell, setting=replace(setting, method=replace(setting.method, references="all"))),
        replace(cell, setting=replace(setting, sampling=replace(PLAIN, strength=0.5))),
        replace(cell, setting=replace(setting, sampling=replace(PLAIN, dci=(("injection_strength", 1.0),)))),
        replace(cell, plan=replace(TINY, noises=3)),
        replace(cell, plan=replace(TINY, prompt_sets=2)),
    ]
    keys = {each.key(True) for each in [cell, *others]} | {cell.key(False)}
    assert len(keys) == len(others) + 2
    assert replace(cell, plan=replace(TINY, name="other", seeds=(1,))).key(True) in keys, (
        "results do not depend on these"
    )
    known = study.cells.file_digest
    for name in ("dci-demo.safetensors", "dci-demo-judge.safetensors", "dci-demo-clip.safetensors", "subjects/panda"):
        monkeypatch.setattr(study.cells, "file_digest", lambda file, name=name: "x" if file == name else known(file))
        assert cell.key(True) not in keys
    assert cell.key(False) not in keys, "the references changed"
    monkeypatch.setattr(study.cells, "file_digest", known)
    monkeypatch.setattr(study.cells, "REVISION", "another")
    assert cell.key(True) not in keys


def test_a_judge_of_another_day_leaves_the_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = study.cells.training_digest("panda", EDITED, 1)
    known = study.cells.file_digest
    monkeypatch.setattr(study.cells, "file_digest", lambda file: "x" if "judge" in file else known(file))
    assert study.cells.training_digest("panda", EDITED, 1) == before


def scores(seed: int, has_clip: bool = True) -> Scores:
    values = np.random.default_rng(seed).random((4, 24)).round(3)
    return Scores(*values) if has_clip else Scores(*values[:2])


def test_a_ledger_gives_back_what_was_written_and_keeps_the_rest(tmp_path: Path) -> None:
    cell, other = (Cell(TINY, "panda", 1, setting) for setting in TINY.settings[:2])
    ledger = Ledger(tmp_path, TINY, "panda", 1)
    assert not ledger.has(cell, True)
    with pytest.raises(KeyError, match="not finished"):
        ledger.read(cell)
    ledger.write(cell, scores(0))
    Ledger(tmp_path, TINY, "panda", 1).write(other, scores(1))
    found = Ledger(tmp_path, TINY, "panda", 1)
    for one, seed in ((cell, 0), (other, 1)):
        assert found.has(one, True) and found.has(one, False)
        for axis in AXES:
            assert getattr(found.read(one), axis).tolist() == getattr(scores(seed), axis).tolist()
    assert not Ledger(tmp_path, TINY, "panda", 2).has(replace(cell, seed=2), False)
    assert len(found.path.read_text().splitlines()) == 2 and found.path == tmp_path / "tiny" / "panda-1.jsonl"


def test_two_commands_at_once_keep_both_cells(tmp_path: Path) -> None:
    cell, other = (Cell(TINY, "panda", 1, setting) for setting in TINY.settings[:2])
    first, second = Ledger(tmp_path, TINY, "panda", 1), Ledger(tmp_path, TINY, "panda", 1)
    first.write(cell, scores(0))
    second.write(other, scores(1))
    assert all(Ledger(tmp_path, TINY, "panda", 1).has(one, True) for one in (cell, other)) and second.has(cell, True)


@pytest.mark.parametrize("damaged", [b'{"key": "0123', b"[1]", b'"text"', b"{}", b"\xff"])
def test_a_damaged_line_is_told_and_the_cell_is_done_again_without_it(tmp_path: Path, damaged: bytes) -> None:
    cell = Cell(TINY, "panda", 1, TINY.settings[0])
    ledger = Ledger(tmp_path, TINY, "panda", 1)
    ledger.write(cell, scores(0))
    ledger.path.write_bytes(ledger.path.read_bytes() + damaged)
    with pytest.raises(
        ValueError, match=r"panda-1\.jsonl, line 2, is damaged: .* Delete the line; its cell is done again"
    ):
        Ledger(tmp_path, TINY, "panda", 1)
    ledger.path.write_bytes(ledger.path.read_bytes().removesuffix(damaged))
    assert Ledger(tmp_path, TINY, "panda", 1).has(cell, True)


def test_cells_without_a_clip_are_done_again_for_one_and_do_without(tmp_path: Path) -> None:
    cell, ledger = Cell(TINY, "panda", 1, TINY.settings[0]), Ledger(tmp_path, TINY, "panda", 1)
    ledger.write(cell, scores(0, has_clip=False))
    assert ledger.has(cell, False) and not ledger.has(cell, True) and ledger.read(cell).clip_t is None
    ledger.write(cell, scores(1))
    assert ledger.has(cell, True) and ledger.read(cell).likeness.tolist() == scores(1).likeness.tolist()


def test_the_core_plan_s_cells_are_small_enough_to_be_kept(tmp_path: Path) -> None:
    cell, ledger = Cell(CORE, "panda", 1, CORE.settings[0]), Ledger(tmp_path, CORE, "panda", 1)
    ledger.write(cell, scores(0))
    assert ledger.path.stat().st_size * CORE.cells < 1e6
