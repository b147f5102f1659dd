"""The judge reads what pictures show, and the gate counts what is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from demo_world import judge as judge_module
from demo_world.commands.train_judge import loss_of
from demo_world.degradation import degrade
from demo_world.fresh import fresh_scenes, fresh_subjects
from demo_world.gate import CAPTION_SEED, GATE, contact_sheet, gate_lines, interval, table
from demo_world.judge import Judge, Reading, Scores, load_judge, pool_cells
from demo_world.pool import CELLS, VIEW_PX, chunk_scenes, draw_views, view
from demo_world.renderer import Renderer
from demo_world.scenes import Scene
from demo_world.subjects import REFERENCE_CONTEXTS, reference_images
from demo_world.truth import Tally, tallies, truth_of
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, NOUNS, STYLES, SUBJECTS

SCENES = [
    Scene("panda", companion="guitar", context="on a beach"),
    Scene("red-apple", style="black and white photo of", colour="blue"),
    Scene("green-apple", style="line art of", colour="red"),
]


def certain(scenes: list[Scene]) -> Reading:
    """A reading that is sure of the truth."""
    truth = truth_of(scenes)

    def rows(numbers: torch.Tensor, classes: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(numbers, classes).float()

    return Reading(
        exemplar=rows(truth.exemplar, len(EXEMPLARS)),
        noun=rows(truth.noun, len(NOUNS)),
        second_noun=rows(truth.second_noun, 1 + len(NOUNS)),
        context=rows(truth.context, len(CONTEXTS)),
        style=rows(truth.style, len(STYLES)),
        colour=rows(truth.colour, len(COLOURS)),
    )


def test_truth_by_hand() -> None:
    truth = truth_of(SCENES)
    nouns = list(NOUNS)
    assert truth.noun.tolist() == [nouns.index("bear"), nouns.index("apple"), nouns.index("apple")]
    assert truth.second_noun.tolist() == [1 + nouns.index("guitar"), 0, 0]
    assert truth.exemplar[0] == EXEMPLARS.index("panda") and truth.context.tolist() == [3, 0, 0]
    assert truth.colour.tolist() == [0, 3, 1] and truth.coloured.tolist() == [False, False, True]


def test_what_is_right_is_counted_where_it_was_asked() -> None:
    found = tallies(certain(SCENES), truth_of(SCENES))
    assert {name: (tally.right, tally.of) for name, tally in found.items()} == {
        "exemplar": (3, 3),
        "noun": (3, 3),
        "second noun": (1, 1),
        "no second noun": (2, 2),
        "context": (3, 3),
        "style": (3, 3),
        "colour": (1, 1),
    }
    wrong = [replace(SCENES[0], companion="violin", exemplar="zebra"), SCENES[1], replace(SCENES[2], colour="")]
    found = tallies(certain(wrong), truth_of(SCENES))
    assert found["noun"].right == 2 and found["exemplar"].right == 2
    assert found["second noun"].right == 1  # a violin is a guitar here
    assert found["colour"].right == 1  # all colours are equally unlikely: the first, red, wins


def test_intervals_by_hand() -> None:
    low, high = interval(Tally(9, 10))
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)  # Wilson's, as in the literature
    assert interval(Tally(0, 0)) == (0.0, 1.0)


def test_the_gate_names_what_misses() -> None:
    found = tallies(certain(SCENES), truth_of(SCENES))
    found["noun"] = Tally(92, 100)
    lines = {line.what: line for line in gate_lines(found)}
    assert set(GATE) <= lines.keys() and "exemplar" not in lines
    assert not lines["noun"].passes and lines["style"].passes and lines["no second noun"].gate is None
    text = table(list(lines.values()))
    assert "| noun | 92.0 % | 85.0 … 95.9 % | 100 | 93 % | missed |" in text


def test_cells_without_weight_do_not_count() -> None:
    maps = torch.tensor([[[[1.0, 3.0], [5.0, 100.0]]]])
    weights = torch.tensor([[[1.0, 0.5], [0.5, 0.0]]])
    # mean (1 + 1.5 + 2.5) / 2, maximum 2.5
    assert torch.allclose(pool_cells(maps, weights), torch.tensor([[2.5, 2.5]]))
    assert torch.isfinite(pool_cells(maps, torch.zeros_like(weights))).all()


def test_readings_are_probabilities_at_any_size() -> None:
    torch.manual_seed(0)
    judge = Judge().eval()
    reading = judge.read(torch.rand(3, 3, 256, 256))
    for name in Reading.__dataclass_fields__:
        values = getattr(reading, name)
        assert len(values) == 3 and torch.allclose(values.sum(dim=1), torch.ones(3), atol=1e-5)
    shown = torch.rand(2, 3, VIEW_PX, VIEW_PX).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(judge.read(shown).noun, judge.read(view(shown)).noun, atol=1e-5)


def test_readings_of_parts_are_joined_in_order() -> None:
    parts = [certain(SCENES[:1]), certain(SCENES[1:])]
    joined, whole = Reading.joined(parts), certain(SCENES)
    assert all(torch.equal(getattr(joined, name), getattr(whole, name)) for name in Reading.__dataclass_fields__)
    assert Reading.joined(parts, "meta").noun.device.type == "meta"


def test_a_missing_companion_teaches_no_name() -> None:
    torch.manual_seed(0)
    scenes = [SCENES[1], SCENES[2]]
    scores = Judge()(torch.rand(2, 3, VIEW_PX, VIEW_PX))
    masks = torch.zeros(2, 2, CELLS, CELLS)
    loss = loss_of(scores, masks, truth_of(scenes))
    fields = {name: getattr(scores, name) for name in Scores.__dataclass_fields__}
    other = Scores(**{**fields, "companion": torch.randn_like(scores.companion)})
    assert torch.equal(loss, loss_of(other, masks, truth_of(scenes)))
    paired = truth_of([SCENES[0], SCENES[2]])
    assert not torch.equal(loss_of(scores, masks, paired), loss_of(other, masks, paired))


def test_fresh_scenes_are_not_those_of_training() -> None:
    trained = {repr(scene) for scene in chunk_scenes(0)[0]}
    pairs = [scene for scene in fresh_scenes(300) if scene.companion]
    assert len({repr(scene) for scene in pairs} & trained) < 3  # lone objects meet by chance
    assert fresh_scenes(5, CAPTION_SEED) != fresh_scenes(5) == fresh_scenes(7)[:5]
    subjects = fresh_subjects(60)
    assert [scene.exemplar for scene in subjects[: len(SUBJECTS)]] == list(SUBJECTS)


def test_degraded_pictures_stay_near() -> None:
    pictures = torch.rand(40, 3, 32, 32)
    degraded = degrade(pictures, torch.Generator().manual_seed(1))
    changed = (degraded - pictures).abs().flatten(1).amax(dim=1)
    assert 0.2 < float((changed == 0).float().mean()) < 0.8 and changed.max() < 1.0


def test_a_damaged_judge_is_told(tmp_path: Path) -> None:
    damaged = tmp_path / "judge.safetensors"
    damaged.write_bytes(judge_module.JUDGE_FILE.read_bytes()[:5000])
    for path in (damaged, tmp_path / "nothing.safetensors"):
        with pytest.raises(ValueError, match="cannot be read"):
            load_judge(path)


def test_the_shipped_judge_reads_drawings() -> None:
    """A sample of what `train_judge` measures on thousands."""
    names = tuple(SUBJECTS)[::4]
    renderer = Renderer(exemplars=(*names, "guitar"), variants=3)
    scenes = [
        Scene(name, companion=None if SUBJECTS[name] == "guitar" else "guitar", context=context)
        for name in names
        for context in CONTEXTS[1:25:6]
    ]
    pictures, _ = draw_views(renderer, scenes, torch.Generator().manual_seed(5))
    found = tallies(load_judge().read(pictures.float() / 255), truth_of(scenes))
    assert all(found[name].share >= 0.95 for name in ("exemplar", "noun", "second noun", "context", "style"))


def test_the_judge_knows_every_subject_by_its_reference_images() -> None:
    renderer, judge = Renderer(exemplars=tuple(SUBJECTS), variants=2), load_judge()
    found = torch.stack([judge.read(reference_images(renderer, name)).exemplar.argmax(dim=1) for name in SUBJECTS])
    right = found == torch.tensor([EXEMPLARS.index(name) for name in SUBJECTS])[:, None]
    assert found.shape == (len(SUBJECTS), len(REFERENCE_CONTEXTS)) and right.float().mean() > 0.98
    with pytest.raises(ValueError, match="no subject 'bear'"):
        reference_images(renderer, "bear")


def test_a_contact_sheet_shows_all() -> None:
    sheet = contact_sheet(torch.zeros(3, 8, 8, 3, dtype=torch.uint8).numpy(), ["a", "b c", "d e f"], 2, side_px=50)
    assert sheet.size == (100, 152)
