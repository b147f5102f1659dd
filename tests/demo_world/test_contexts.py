"""Contexts are painted as the demo model learned them, and the bank of them holds what the painters paint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from demo_world import backgrounds
from demo_world.backgrounds import background, background_bank, bank_path
from demo_world.contexts import PAINTERS, SIZE_PX, context_number, paint_context
from demo_world.storage import CACHE_VARIABLE, training_log
from demo_world.vocabulary import CONTEXTS

MEAN_COLOURS = {
    "": (211, 193, 186),
    "on grass": (92, 160, 65),
    "in the snow": (220, 230, 244),
    "on a beach": (199, 202, 173),
    "at night": (25, 29, 69),
    "on a brick wall": (172, 98, 79),
    "on a wooden floor": (175, 122, 76),
    "in the water": (51, 143, 204),
    "on a red carpet": (181, 49, 46),
    "in a forest": (71, 109, 48),
    "in the desert": (231, 176, 108),
    "in space": (24, 15, 40),
    "on a tiled floor": (138, 144, 149),
    "in a city": (117, 126, 136),
    "at sunset": (155, 87, 97),
    "on a mountain": (133, 165, 176),
    "on autumn leaves": (177, 103, 38),
    "on a stage": (121, 54, 51),
    "on a road": (131, 162, 146),
    "in the rain": (124, 135, 150),
    "in a flower field": (141, 160, 86),
    "on the moon": (109, 111, 117),
    "on a marble table": (233, 233, 237),
    "in the clouds": (162, 202, 242),
    "in a library": (115, 89, 77),
}
"""Of variant 0; within a level, for the sine of single precision is not the same on every processor."""


def picture(context: str, variant: int = 0) -> NDArray[np.uint8]:
    return paint_context(context, np.random.default_rng([CONTEXTS.index(context), variant]))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = training_log("backgrounds")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_every_context_has_its_painter_in_order() -> None:
    assert tuple(PAINTERS) == CONTEXTS == tuple(MEAN_COLOURS)
    assert len(set(PAINTERS.values())) == len(CONTEXTS)
    assert [context_number(context) for context in CONTEXTS] == list(range(len(CONTEXTS)))


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_looks_as_the_model_learned_it(context: str) -> None:
    assert picture(context).mean((0, 1)) == pytest.approx(MEAN_COLOURS[context], abs=1)


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_same_generator_paints_the_same_bytes(context: str) -> None:
    first, again, other = picture(context, 3), picture(context, 3), picture(context, 4)
    assert first.shape == (SIZE_PX, SIZE_PX, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_context_differs_from_every_other() -> None:
    pictures = [picture(context).astype(float) for context in CONTEXTS]
    distances = {
        (CONTEXTS[i], CONTEXTS[j]): float(np.abs(pictures[i] - pictures[j]).mean())
        for i in range(len(CONTEXTS))
        for j in range(i)
    }
    assert not {pair: distance for pair, distance in distances.items() if distance < 10}  # levels


def test_an_unknown_context_is_told_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'on sand'.*'on a beach'"):
        paint_context("on sand", np.random.default_rng(0))
    with pytest.raises(ValueError, match="'on sand'"):
        background("on sand", 0)


def test_a_background_is_its_variant_channels_first() -> None:
    one = background("in a city", 2)
    assert one.dtype == torch.uint8 and one.shape == (3, SIZE_PX, SIZE_PX) and one.is_contiguous()
    assert np.array_equal(one.permute(1, 2, 0).numpy(), picture("in a city", 2))
    with pytest.raises(ValueError, match="-1"):
        background("in a city", -1)


def test_the_bank_holds_the_variants_of_every_context(cache: Path) -> None:
    bank = background_bank(2)
    assert bank.dtype == torch.uint8 and bank.shape == (len(CONTEXTS), 2, 3, SIZE_PX, SIZE_PX)
    for number, context in enumerate(CONTEXTS):
        for variant in range(2):
            assert np.array_equal(bank[number, variant].permute(1, 2, 0).numpy(), picture(context, variant))
    assert torch.equal(background_bank(1), bank[:, :1])
    assert {file.name for file in cache.iterdir()} == {bank_path(1).name, bank_path(2).name}


def test_an_empty_bank_is_refused(cache: Path) -> None:
    with pytest.raises(ValueError, match="0 variants"):
        background_bank(0)
    assert not list(cache.iterdir())


def test_a_kept_bank_is_read_not_painted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = background_bank(1)

    def refuse(context: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        raise AssertionError(f"{context!r} is painted again")

    monkeypatch.setattr(backgrounds, "paint_context", refuse)
    assert torch.equal(background_bank(1), bank)


@pytest.mark.parametrize("damage", ["cut", "other tensor", "other shape", "other type", "nothing"])
def test_a_damaged_bank_is_painted_anew_and_told(cache: Path, log: pytest.LogCaptureFixture, damage: str) -> None:
    bank = background_bank(1)
    path = bank_path(1)
    whole = path.read_bytes()
    log.clear()
    if damage == "cut":
        path.write_bytes(whole[:-1])
    elif damage == "nothing":
        path.write_bytes(b"")
    else:
        spoilt = {
            "other tensor": {"pictures": bank},
            "other shape": {"backgrounds": bank[:, :, :, 1:].contiguous()},
            "other type": {"backgrounds": bank.float()},
        }
        save_file(spoilt[damage], path)
    assert torch.equal(background_bank(1), bank)
    assert [path.name in record.getMessage() for record in log.records if record.levelno == logging.WARNING] == [True]
    assert path.read_bytes() == whole and torch.equal(load_file(path)["backgrounds"], bank)


def test_changed_painters_never_meet_old_pictures(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path_factory.mktemp("source") / "painter.py"
    monkeypatch.setattr(backgrounds, "_SOURCES", (SimpleNamespace(__file__=str(source)),))
    source.write_text("GREEN = 1\n", encoding="utf-8")
    before = bank_path(1)
    assert bank_path(1) == before
    source.write_text("GREEN = 2\n", encoding="utf-8")
    assert bank_path(1) != before and bank_path(1).parent == before.parent == cache


def test_the_name_of_a_bank_depends_on_all_that_paints() -> None:
    painters = {painter.__module__ for painter in PAINTERS.values()}
    watched = {module.__name__ for module in backgrounds._SOURCES}
    assert watched == painters | {"demo_world.contexts", "demo_world.painting_tools"}
