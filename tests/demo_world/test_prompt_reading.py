"""What a prompt asks for beside its subject, and how much of it a judge saw."""

from __future__ import annotations

import pytest
import torch

from demo_world.judge import Reading
from demo_world.prompt_reading import Asked, all_shown, asked_of, shown_of
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, NOUNS, PHOTO, STYLES


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("photo of a V* bear", Asked()),
        ("photo of a V* bear with a guitar on a beach", Asked("on a beach", "guitar")),
        ("photo of a V* bear on a beach with a guitar", Asked("on a beach", "guitar")),
        ("line art of a V* bear with an umbrella", Asked("", "umbrella", "line art of")),
        ("photo of a blue V* bear in a city", Asked("in a city", colour="blue")),
        ("A drawing of a V* bear, at sunset.", Asked("at sunset", style="drawing of")),
        ("black and white photo of a V* bear in space", Asked("in space", style="black and white photo of")),
        (
            "pixel art of a yellow V* bear with a book in the rain",
            Asked("in the rain", "book", "pixel art of", "yellow"),
        ),
        ("photo of a V* bear on a red carpet", Asked("on a red carpet")),
        ("a V* bear in a flower field", Asked("in a flower field")),
        ("photo of a V* bear with a flower in the snow", Asked("in the snow", "flower")),
        ("photo of a V* bear with a red apple", Asked()),  # a companion's colour is none of this world's phrases
        ("photo of a V* bear with a bear in a forest", Asked("in a forest")),
        ("photo of a V* bear with a zebra on the moonlit road", Asked()),
        ("photo of a V* bear with glasses", Asked()),
        ("photo of a V* bear in front of a green wall", Asked()),
        ("photo of a red V* bear in front of a green wall", Asked(colour="red")),
        ("a blue print, photo of a V* bear", Asked()),
        ("photo of a small red V* in front of a green wall", Asked(colour="red")),
        ("a V* blue bear", Asked(colour="blue")),
        ("photo of a V* bear at sunset on a beach", Asked("on a beach")),  # one context, the longest
        ("", Asked()),
    ],
)
def test_the_words_of_the_world_are_found(prompt: str, expected: Asked) -> None:
    assert asked_of(prompt, "panda") == expected


def test_an_unknown_subject_is_told() -> None:
    with pytest.raises(ValueError, match="no subject 'yeti'; choose one of"):
        asked_of("photo of a V* bear", "yeti")


def reading() -> Reading:
    """Two pictures, in which the probability of a class is its number in thousandths, and one half more in the second."""

    def rows(count: int) -> torch.Tensor:
        return torch.stack([torch.arange(count) / 1000, torch.arange(count) / 1000 + 0.5])

    sizes = (len(EXEMPLARS), len(NOUNS), 1 + len(NOUNS), len(CONTEXTS), len(STYLES), len(COLOURS))
    return Reading(*(rows(size) for size in sizes))


def test_each_wish_is_looked_up_under_its_own_name() -> None:
    shown = shown_of(Asked("on a beach", "cat", "line art of", "blue"), reading())
    numbers = {"cat": 2, "line art": 2, "blue": 3, "on a beach": 3}  # the dog is noun 1, for noun 0 is none
    assert list(shown) == list(numbers)
    for name, number in numbers.items():
        assert torch.allclose(shown[name], torch.tensor([number / 1000, number / 1000 + 0.5]))


def test_obedience_is_that_all_is_shown() -> None:
    shown = {"cat": torch.tensor([0.5, 1.0]), "blue": torch.tensor([0.25, 0.5]), "at night": torch.tensor([1.0, 0.0])}
    assert all_shown(shown).tolist() == [0.125, 0.0]
    assert all_shown({"cat": shown["cat"]}).tolist() == [0.5, 1.0]


def test_a_photo_in_its_own_colours_is_no_wish_and_a_plain_backdrop_only_the_last() -> None:
    assert list(shown_of(Asked(style=PHOTO), reading())) == ["plain backdrop"]
    assert list(shown_of(Asked(second_noun="cat"), reading())) == ["cat"]
    assert shown_of(Asked(), reading())["plain backdrop"].tolist() == [0.0, 0.5]
