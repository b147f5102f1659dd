"""What the study trains, samples and compares: plain data, no host and no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from demo_world.concepts import CONCEPTS, Concept
from demo_world.scenes import Scene, caption
from demo_world.vocabulary import COLOURS, CONTEXTS, NOUNS, STYLES, with_article

PLACEHOLDER = "V*"
REVISION = "0.1.0"  # of the results; change it, and all is computed anew, when training or sampling changes
SEEDS = (1, 2)  # of the noises; all is run with the first, then what has a second with the next
PICTURES = 2  # of every prompt and seed, a batch: the host draws their noises one after the other
TRAINING_SEED = 1
BATCH = 2  # references a step; as many class images are added
LEARNING_RATE = 1e-3  # of K, V and [T]; the demo model is small
HIGH_LEARNING_RATE = 3e-3
TOKEN_LEARNING_RATE = 3e-2  # of [T] in textual inversion, which has nothing else to learn with
CONTEXT_RATE_FACTOR = 10.0  # of [I] against the others, as in the paper's code
INJECTION_STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
FRACTIONS = (0.05, 0.15, 0.3, 0.5)  # T_a: the paper's range, and what 0.15 of 64 x 64 latents is at 16 x 16
COMPANIONS = 5  # second nouns per concept
_STUDIED = (
    "violet_tiger",
    "badged_panda",
    "striped_taxi",
    "blue_castle",
    "pink_duck",
    "blue_tulip",
    "dotted_octopus",
    "badged_lizard",
)
STUDIED: tuple[Concept, ...] = tuple(concept for concept in CONCEPTS if concept.name in _STUDIED)


@dataclass(frozen=True)
class Prompt:
    """A prompt with its ground truth.

    Args:
        kind: "context", "second noun", "colour" or "style", the paper's four kinds.
        scene: what the picture must show, the concept standing for the scene's noun.
    """

    kind: str
    scene: Scene

    @property
    def text(self) -> str:
        """The concept prompt, e.g. "photo of a V* cat on grass"."""
        scene = self.scene
        noun = with_article(f"{scene.colour} {scene.noun}".strip())
        concept = " ".join(word for word in ("a", scene.colour, PLACEHOLDER, scene.noun) if word)
        return self.plain_text.replace(noun, concept, 1)

    @property
    def plain_text(self) -> str:
        """The prompt without the placeholder, e.g. "photo of a cat on grass"."""
        return caption(self.scene)


def prompts_for(concept: Concept) -> list[Prompt]:
    """Twenty prompts of the paper's four kinds: every context, five companions, every colour and style."""
    noun = concept.noun
    others = [other for other in NOUNS if other != noun]
    first = CONCEPTS.index(concept) * COMPANIONS  # each concept meets other companions
    companions = [
        (others[(first + step) % len(others)], CONTEXTS[1 + (first + step) % (len(CONTEXTS) - 1)])
        for step in range(COMPANIONS)
    ]
    return [
        *(Prompt("context", Scene(noun, context=context)) for context in CONTEXTS if context),
        *(Prompt("second noun", Scene(noun, second_noun=other, context=context)) for other, context in companions),
        *(Prompt("colour", Scene(noun, colour=colour)) for colour in COLOURS if colour),
        *(Prompt("style", Scene(noun, style=style)) for style in STYLES if style != "photo of"),
    ]


@dataclass(frozen=True)
class Method:
    """A way to fine-tune.

    Args:
        name: for tables and plots.
        mode: of the trainer.
        scheme: M, L, S.
        regularized: with class images beside the references.
        learning_rate: of what is trained but [I], which has ten times as much.
    """

    name: str
    mode: str
    scheme: tuple[int, int, int]
    regularized: bool = True
    learning_rate: float = LEARNING_RATE


TEXTUAL_INVERSION = Method(
    "textual inversion", "textual_inversion", (0, 0, 1), regularized=False, learning_rate=TOKEN_LEARNING_RATE
)
METHODS: tuple[Method, ...] = (
    TEXTUAL_INVERSION,
    Method("Custom Diffusion", "custom_diffusion", (0, 0, 1)),
    Method("ICO (4,2,2)", "ico", (4, 2, 2)),
    Method("ICO (1,1,3)", "ico", (1, 1, 3)),
)


def _at_high_rate(method: Method) -> Method:
    return replace(method, name=f"{method.name} at {HIGH_LEARNING_RATE:g}", learning_rate=HIGH_LEARNING_RATE)


@dataclass(frozen=True)
class Trial:
    """Fine-tunings at one learning rate.

    Args:
        methods: of fine-tuning; the last is the one that the two branches repair.
        checkpoints: optimizer steps that are looked at.
        edited_at: the checkpoint that is repaired: late, so that there is something to repair.
        seeds: of its noises, a part of `SEEDS`.
    """

    methods: tuple[Method, ...]
    checkpoints: tuple[int, ...]
    edited_at: int
    seeds: tuple[int, ...]

    @property
    def edited(self) -> Method:
        """The fine-tuning that is repaired."""
        return self.methods[-1]


USUAL_RATE = Trial(METHODS, (100, 200, 400, 800), 800, SEEDS)
HIGH_RATE = Trial((TEXTUAL_INVERSION, *map(_at_high_rate, METHODS[1:])), (50, 100, 200, 400), 400, SEEDS[:1])
TRIALS = (USUAL_RATE, HIGH_RATE)
EDITED, EDITED_AT = USUAL_RATE.edited, USUAL_RATE.edited_at


def checkpoints_of(method: Method) -> tuple[int, ...]:
    """All checkpoints of a fine-tuning that some trial looks at."""
    return tuple(sorted({steps for trial in TRIALS if method in trial.methods for steps in trial.checkpoints}))


@dataclass(frozen=True)
class Sampling:
    """A way to sample with a fine-tuned model.

    Args:
        name: for tables and plots.
        dci: fields of `DCISettings` that differ from their defaults; None samples plainly.
        strength: of the fine-tuned weights.
        noun_until: share of the denoising in which the prompt says a noun before it says "V* <noun>"; 0 is neutral.
        auxiliary_noun: of the two branches, or said first; None is the study's usual one for the branches, the class
            noun to be said first; USUAL_NOUN is the usual one for both.
        entire_prompt: False is the ablation.
    """

    name: str
    dci: dict[str, float | str | bool] | None = None
    strength: float = 1.0
    noun_until: float = 0.0
    auxiliary_noun: str | None = None
    entire_prompt: bool = True


USUAL_NOUN = "usual"
USUAL = {"mask_preset": "resolution_normalized"}  # 16 x 16 latents: the published constants are for 64 x 64
VARIED: dict[str, Any] = {
    **USUAL,
    "injection_strength": 1.0,
    "active_fraction": 0.5,
}  # what the ablations change one trait of


def dci_name(fraction: float, strength: float) -> str:
    """The name of a two-branch setting."""
    return f"DCI T_a {fraction:g}, λ {strength:g}"


def _dci(name: str, **changes: float | str | bool) -> Sampling:
    return Sampling(name, dci={**USUAL, **changes})


@dataclass(frozen=True)
class Figure:
    """One comparison of the paper.

    Args:
        name: of its table.
        title: of its section.
        methods: fine-tunings it looks at.
        steps: checkpoints it looks at.
        samplings: at each of these.
        seeds: of its noises.
    """

    name: str
    title: str
    methods: tuple[Method, ...]
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    samplings: tuple[Sampling, ...] = field(default=(Sampling("plain"),))


PLAIN = Sampling("plain")
BASE = Sampling("weight strength 0", strength=0.0)  # the demo model itself, for which V* is nothing

DCI_SWEEP = tuple(
    _dci(dci_name(fraction, strength), active_fraction=fraction, injection_strength=strength)
    for fraction in reversed(FRACTIONS)
    for strength in INJECTION_STRENGTHS
)
FREE = (
    *(Sampling(f"weight strength {strength:g}", strength=strength) for strength in (0.25, 0.5, 0.75)),
    *(Sampling(f"noun until {fraction:g}", noun_until=fraction) for fraction in FRACTIONS[1:]),
)
PREMISE = (
    BASE,
    PLAIN,
    Sampling("the class noun alone", noun_until=1.0),
    Sampling("the auxiliary prompt alone", noun_until=1.0, auxiliary_noun=USUAL_NOUN),
    *(
        Sampling(f"auxiliary prompt until {fraction:g}", noun_until=fraction, auxiliary_noun=USUAL_NOUN)
        for fraction in FRACTIONS[1:]
    ),
)  # the last three: what two branches would do with W_a = 1 everywhere

ABLATIONS = (
    Sampling(dci_name(0.5, 1.0), dci=VARIED),
    Sampling("no mask: sum", dci={**VARIED, "blend": "sum"}),
    Sampling("no mask: mean", dci={**VARIED, "blend": "mean"}),
    Sampling("no entire prompt", dci=VARIED, entire_prompt=False),
    Sampling("no deep aggregation", dci={**VARIED, "layers": "last"}),
    Sampling("published constants", dci={**VARIED, "mask_preset": "reference"}),
    Sampling("paper's formulas", dci={**VARIED, "mask_preset": "paper"}),
    Sampling("exact guidance", dci={**VARIED, "share_guidance": False}),
    Sampling("shared noise", dci={**VARIED, "share_noise": True}),
    Sampling("another auxiliary noun", dci=VARIED, auxiliary_noun="umbrella"),
    Sampling("an unknown auxiliary noun", dci=VARIED, auxiliary_noun="quokka"),
    Sampling("the likeliest auxiliary noun (auto)", dci=VARIED, auxiliary_noun="auto"),
)


def _figures(trial: Trial, name: str, title: str) -> tuple[Figure, ...]:
    edited = (trial.edited,), (trial.edited_at,), trial.seeds
    return (
        Figure(f"dci{name}", f"DCI: λ and T_a (figure 6){title}", *edited, (BASE, PLAIN, *DCI_SWEEP)),
        Figure(f"premise{name}", f"What each prompt can do alone{title}", *edited, PREMISE),
        Figure(f"alternatives{name}", f"What costs nothing instead{title}", *edited, (BASE, *FREE)),
        Figure(
            f"finetuning{name}", f"Fine-tuning (figures 6 and 8){title}", trial.methods, trial.checkpoints, trial.seeds
        ),
        Figure(
            f"ablations{name}", f"Ablations and variants at λ = 1, T_a = 0.5 (figure 10){title}", *edited, ABLATIONS
        ),
    )


FIGURES = (
    *_figures(USUAL_RATE, "", ""),
    *_figures(HIGH_RATE, "_high_rate", f", learning rate {HIGH_LEARNING_RATE:g}"),
)


def auxiliary_noun_for(concept: Concept, prompt: Prompt) -> str:
    """The study's usual noun to stand in for the concept: the first common one that the prompt does not hold."""
    taken = {concept.noun, prompt.scene.second_noun}
    return next(noun for noun in ("dog", "cat", "car") if noun not in taken)
