"""What the study asks of a subject: prompts of the paper's four kinds with their ground truth, and auxiliary nouns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo_world.scenes import Scene, caption
from demo_world.subjects import REFERENCE_CONTEXTS
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, PHOTO, STYLES, SUBJECTS, with_article

PLACEHOLDER = "V*"
PER_SET = {"context": 4, "second noun": 4, "style": 2, "colour": 2}  # prompts of each kind in a set of twelve
KINDS = tuple(PER_SET)
MOST_SETS = 2
CONTEXT_SEED = 0  # of the order of contexts
FIXED, UNLIKELY, AUTO = "fixed", "unlikely", "auto"
AUXILIARY_NOUNS: dict[str, tuple[str, ...]] = {FIXED: ("dog", "cat", "car"), UNLIKELY: ("trophy", "bell", "key")}
COMPANIONS: tuple[str, ...] = (
    *("guitar", "umbrella", "balloon", "pizza", "cactus", "candle", "robot", "apple", "gift", "drum", "castle"),
    *("mushroom", "trumpet", "pumpkin", "rocket", "chair", "cup", "cake", "lamp", "penguin", "octopus", "banana"),
    *("tent", "hat", "crown", "camera", "ghost", "owl", "turtle", "frog", "book", "anchor"),
)
NEW_CONTEXTS = tuple(context for context in CONTEXTS if context not in REFERENCE_CONTEXTS)
OTHER_STYLES = tuple(style for style in STYLES if style != PHOTO)
# A subject is not asked to take the colour that most of it has: a painted one can be told, but it is a small change.
OWN_COLOUR = {
    **dict.fromkeys(("flamingo", "parrot", "racing-car", "backpack", "violin", "fire-engine"), "red"),
    **dict.fromkeys(("orangutan", "derelict-house", "teddy-bear"), "red"),
    **dict.fromkeys(("speedboat", "yarn"), "blue"),
    "sauropod": "green",
}


@dataclass(frozen=True)
class Prompt:
    """A prompt with its ground truth.

    Args:
        kind: of ``KINDS``: recontextualisation, an added object in a new context, artistic variation, property change.
        scene: what the picture must show, the subject as its exemplar.
    """

    kind: str
    scene: Scene

    @property
    def text(self) -> str:
        """The concept prompt, e.g. "photo of a V* bear on a beach"."""
        scene = self.scene
        noun = with_article(f"{scene.colour} {scene.noun}".strip())
        concept = " ".join(word for word in ("a", scene.colour, PLACEHOLDER, scene.noun) if word)
        return self.plain_text.replace(noun, concept, 1)

    @property
    def plain_text(self) -> str:
        """The prompt with the class noun alone, e.g. "photo of a bear on a beach"."""
        return caption(self.scene)

    def said_of(self, noun: str) -> str:
        """Return the prompt with another noun in place of "V* <class noun>", as an auxiliary prompt is made."""
        return self.text.replace(f"{PLACEHOLDER} {self.scene.noun}", noun)


def prompts_for(subject: str, sets: int = 1) -> list[Prompt]:
    """The study's prompts of a subject: contexts in an order of its own; companions, styles and colours turn from subject to subject.

    Args:
        subject: a key of SUBJECTS.
        sets: 1 gives twelve, 2 gives twelve more behind them.

    Returns:
        In each set, the kinds in the order of ``KINDS``. No context of a reference picture is asked for.

    Raises:
        ValueError: there is no such subject, or another number of sets.
    """
    if subject not in SUBJECTS:
        raise ValueError(f"There is no subject {subject!r}; choose one of {list(SUBJECTS)}.")
    if not 1 <= sets <= MOST_SETS:
        raise ValueError(f"There are 1 to {MOST_SETS} sets of prompts, but {sets} were asked for.")
    return [prompt for number in range(sets) for prompt in _set_of(subject, number)]


def _set_of(subject: str, number: int) -> list[Prompt]:
    place = list(SUBJECTS).index(subject)

    def chosen(words: Sequence[str], start: int, kind: str) -> list[str]:
        """The kind's words of this set: those of one set follow those of the set before."""
        count = PER_SET[kind]
        return [words[(start + number * count + step) % len(words)] for step in range(count)]

    companions = [noun for noun in COMPANIONS if noun != SUBJECTS[subject]]
    colours = [colour for colour in COLOURS if colour not in ("", OWN_COLOUR.get(subject))]
    order = np.random.default_rng([CONTEXT_SEED, place]).permutation(len(NEW_CONTEXTS))
    contexts = [NEW_CONTEXTS[step] for step in order]
    beside = contexts[MOST_SETS * PER_SET["context"] :]  # companions stand in contexts that are not asked for alone
    pairs = zip(chosen(companions, 5 * place, "second noun"), chosen(beside, 0, "second noun"), strict=True)
    return [
        *(Prompt("context", Scene(subject, context=context)) for context in chosen(contexts, 0, "context")),
        *(Prompt("second noun", Scene(subject, NOUNS[noun][0], context)) for noun, context in pairs),
        *(Prompt("style", Scene(subject, style=style)) for style in chosen(OTHER_STYLES, place, "style")),
        *(Prompt("colour", Scene(subject, colour=colour)) for colour in chosen(colours, place, "colour")),
    ]


def auxiliary_noun_for(prompt: Prompt, rule: str = FIXED) -> str:
    """The auxiliary noun of a prompt.

    Args:
        prompt: of the subject.
        rule: FIXED and UNLIKELY take the first noun of their list that the prompt does not hold; AUTO leaves the choice to
            the text encoder.
    """
    if rule == AUTO:
        return AUTO
    taken = {prompt.scene.noun, prompt.scene.second_noun}
    return next(noun for noun in AUXILIARY_NOUNS[rule] if noun not in taken)
