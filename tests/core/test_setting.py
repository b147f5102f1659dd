"""Settings tell once what they do and what is allowed, and are checked by that."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import pytest
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.dci_core.sampling.strength import StrengthSchedule
from comfyui_dci.dci_core.setting import check_settings, setting, settings_of
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.dci_core.training.settings import TrainingSettings

SETTINGS: list[Any] = [DCISettings, StrengthSchedule, TrainingSettings, ICOScheme, CheckpointPlan]


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Paint:
    share: float = field(default=0.5, metadata=setting("How much.", "0 is none.", allowed=(0, 1)))
    weight: float = field(default=0.0, metadata=setting("How heavy.", offered=(-1, 1)))
    every: int | None = field(default=None, metadata=setting("How often.", allowed=(1, 9), name="paint_every"))
    colour: Colour = field(default=Colour.RED, metadata=setting("Which."))
    note: str = ""

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_field_of_the_settings_says_what_it_does(kind: Any) -> None:
    known = settings_of(kind)
    assert list(known) == [entry.name for entry in fields(kind)]
    for name, entry in known.items():
        assert entry.help.endswith(".") and entry.help[0].strip(), name
        assert not entry.neutral or entry.neutral.endswith("."), name


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_default_is_allowed_and_offered(kind: Any) -> None:
    for name, entry in settings_of(kind).items():
        value = getattr(kind(), name)
        for least, most in (ends for ends in (entry.allowed, entry.offered) if ends and value is not None):
            assert least <= value <= most, name


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_number_has_a_range(kind: Any) -> None:
    for name, entry in settings_of(kind).items():
        value = getattr(kind(), name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert entry.allowed or entry.offered, name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 1.5}, "share must be between 0 and 1, but got 1.5. 0 is none."),
        ({"share": math.nan}, "share must be between 0 and 1, but got nan. 0 is none."),
        ({"weight": math.inf}, "weight must be a finite number, but got inf."),
        ({"share": None}, "share must be between 0 and 1, but got None. 0 is none."),
        ({"every": 0}, "paint_every must be between 1 and 9, but got 0."),
        ({"colour": "green"}, "colour must be one of red, blue, but got 'green'."),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed_and_neutral(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError) as refusal:
        Paint(**given)
    assert str(refusal.value) == message


def test_what_is_allowed_is_kept_and_choices_become_members() -> None:
    paint = Paint(share=1, weight=-7.0, every=9, colour="blue", note="x")  # a choice as its text
    assert (paint.share, paint.weight, paint.every, paint.note) == (1, -7.0, 9, "x")
    assert paint.colour is Colour.BLUE
    assert Paint(every=None).every is None


def test_the_owner_stands_before_the_name() -> None:
    with pytest.raises(UserInputError, match="^The scheme's suffix must be between 0 and 16, but got 17.$"):
        ICOScheme(1, 17, 1)


def test_help_and_neutral_value_are_one_text() -> None:
    known = settings_of(Paint)
    assert (known["share"].text, known["colour"].text) == ("How much. 0 is none.", "Which.")
    assert "note" not in known
