"""What the study trains, samples and compares: plain data, no host and no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from study.prompts import AUTO, FIXED, PER_SET, UNLIKELY, Prompt, prompts_for

BATCH = 2  # references a step; as many class images are added
CONTEXT_RATE_FACTOR = (
    1.0  # [I] learns at the rate of K and V: at ten times as much it hides the subject (METHOD section 7)
)
STUDIO, ALL = "studio", "all"  # references: the two before a plain backdrop, or all six, in five contexts
CHOICE = ("poodle", "flamingo", "speedboat", "yarn")  # what settings are chosen on; of no reported figure
REPORTED = ("panda", "parrot", "shark", "zebra", "racing-car", "backpack", "teddy-bear", "violin")
MORE = ("sauropod", "derelict-house", "ice-skate", "fire-engine")
CLASS_NOUN, AUXILIARY_NOUN = "class noun", "auxiliary noun"
Value = float | str | bool


@dataclass(frozen=True)
class Method:
    """A way to fine-tune.

    Args:
        name: for tables and plots.
        checkpoints: optimizer steps that are looked at, ascending.
        mode: of the trainer.
        scheme: M, L, S.
        learning_rate: of all that is trained but [I], which has CONTEXT_RATE_FACTOR times as much.
        class_images: beside the references; 0 is none.
        references: STUDIO or ALL.
        ema_decay: of the moving average that the concept is; 0 is none.
    """

    name: str
    checkpoints: tuple[int, ...]
    mode: str = "ico"
    scheme: tuple[int, int, int] = (1, 1, 3)
    learning_rate: float = 1.2e-3
    class_images: int = 24
    references: str = STUDIO
    ema_decay: float = 0.0

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.checkpoints[-1]


@dataclass(frozen=True)
class Sampling:
    """A way to sample with a fine-tuned model.

    Args:
        name: for tables and plots; one name is one way.
        dci: fields of `DCISettings` that differ from their defaults, with their values; None samples plainly.
        strength: of the fine-tuned weights; 0 is the demo model itself.
        said_first: CLASS_NOUN or AUXILIARY_NOUN: what stands in place of "V* <class noun>" for a first share of the
            steps.
        said_until: that share, 0 … 1; 0 is neutral.
        auxiliary: rule of the auxiliary noun, see `auxiliary_noun_for`.
        entire_prompt: False is the paper's ablation.
    """

    name: str
    dci: tuple[tuple[str, Value], ...] | None = None
    strength: float = 1.0
    said_first: str = CLASS_NOUN
    said_until: float = 0.0
    auxiliary: str = FIXED
    entire_prompt: bool = True


@dataclass(frozen=True)
class Setting:
    """A checkpoint of a fine-tuning, and a way to sample with it."""

    method: Method
    steps: int
    sampling: Sampling


@dataclass(frozen=True)
class Plan:
    """What is trained and drawn.

    Args:
        name: of its results.
        subjects: keys of SUBJECTS.
        seeds: of the trainings, a training of every method for each subject and seed.
        settings: in the order in which they are done, each for all subjects and seeds before the next.
        prompt_sets: of twelve prompts.
        noises: pictures of each prompt, from the same noises in every setting.
        is_screened: whether trainings that have not learned their subject are repeated, see ``study.screening``.
    """

    name: str
    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: tuple[Setting, ...]
    prompt_sets: int = 1
    noises: int = 1
    is_screened: bool = False

    @property
    def pictures_of_a_cell(self) -> int:
        """Of one subject and training in one setting."""
        return self.prompt_sets * sum(PER_SET.values()) * self.noises

    @property
    def cells(self) -> int:
        """Of all subjects, trainings and settings."""
        return len(self.subjects) * len(self.seeds) * len(self.settings)

    @property
    def pictures(self) -> int:
        """Of all cells."""
        return self.cells * self.pictures_of_a_cell

    @property
    def methods(self) -> tuple[Method, ...]:
        """Its fine-tunings, the one that is repaired first."""
        return tuple(dict.fromkeys(setting.method for setting in self.settings))

    @property
    def training_steps(self) -> int:
        """Optimizer steps of all trainings."""
        return len(self.subjects) * len(self.seeds) * sum(method.steps for method in self.methods)

    def prompts(self, subject: str) -> list[Prompt]:
        """The prompts of a subject."""
        return prompts_for(subject, self.prompt_sets)

    def find(self, sampling: Sampling, method: Method | None = None, steps: int = 0) -> Setting | None:
        """Return a setting, or None where the plan lacks it.

        Args:
            sampling: of it.
            method: of it; None is the one that is repaired.
            steps: of it; 0 is the end of the training.
        """
        method = method or self.methods[0]
        wanted = Setting(method, steps or method.steps, sampling)
        return wanted if wanted in self.settings else None


PLAIN = Sampling("plain")
BASE = Sampling("demo model, class noun", strength=0.0, said_until=1.0)
CLASS_NOUN_ALONE = Sampling("class noun alone", said_until=1.0)
AUXILIARY_ALONE = Sampling("auxiliary prompt alone", said_first=AUXILIARY_NOUN, said_until=1.0)
STRENGTHS = (0.6, 0.8)
WEAKER = tuple(Sampling(f"weight strength {strength:g}", strength=strength) for strength in STRENGTHS)
INJECTION_STRENGTHS = (2.0, 0.0, -2.0)
FRACTIONS = (0.5, 0.3)  # the first does more in this model, see docs/evidence/study.md
ALL_STRENGTHS, ALL_FRACTIONS = (-2.0, -1.0, 0.0, 1.0, 2.0), (0.5, 0.3, 0.15)


def first_said(noun: str, fraction: float) -> Sampling:
    """The way that says a noun, CLASS_NOUN or AUXILIARY_NOUN, for a first share of the steps."""
    return Sampling(f"{noun} until {fraction:g}", said_first=noun, said_until=fraction)


def dci(fraction: float, strength: float) -> Sampling:
    """The way with two branches at T_a and λ, all else by default."""
    return Sampling(
        f"DCI T_a {fraction:g}, λ {strength:g}",
        dci=(("active_fraction", fraction), ("injection_strength", strength)),
    )


VARIED = dci(0.5, 2.0)  # what ablations and variants change one trait of: where most is repaired


def _variant(name: str, **changes: Value) -> Sampling:
    assert VARIED.dci is not None
    return replace(VARIED, name=name, dci=(*VARIED.dci, *changes.items()))


VARIANTS = (
    replace(VARIED, name="no entire prompt", entire_prompt=False),
    _variant("no mask: sum", blend="sum"),
    _variant("no mask: mean", blend="mean"),
    _variant("no deep aggregation", layers="last"),
    _variant("published constants", mask_preset="reference"),
    _variant("constants by area", mask_preset="resolution_normalized"),
    _variant("paper's formulas", mask_preset="paper"),
    _variant("exact guidance", share_guidance=False),
    _variant("shared noise", share_noise=True),
    replace(VARIED, name="auxiliary noun auto", auxiliary=AUTO),
    replace(VARIED, name="auxiliary noun unlikely", auxiliary=UNLIKELY),
)

EDITED = Method("ICO (1,1,3)", (80, 160, 240), learning_rate=1.4e-3, class_images=0, ema_decay=0.98)
"""Chosen by study.premise: plain sampling of it loses what its auxiliary prompt keeps, so that there is something to repair."""
OTHER_METHODS = (
    replace(EDITED, name="ICO (4,2,2)", scheme=(4, 2, 2)),
    replace(EDITED, name="Custom Diffusion", mode="custom_diffusion", scheme=(0, 0, 1)),
    replace(EDITED, name="textual inversion", mode="textual_inversion", scheme=(0, 0, 1), learning_rate=5e-3),
)


def over_steps(*methods: Method) -> tuple[Setting, ...]:
    """Fine-tunings sampled plainly at their checkpoints, the last first."""
    return tuple(Setting(method, steps, PLAIN) for method in methods for steps in reversed(method.checkpoints))


def repaired(*samplings: Sampling) -> tuple[Setting, ...]:
    """The end of the fine-tuning that is repaired, sampled in several ways."""
    return tuple(Setting(EDITED, EDITED.steps, sampling) for sampling in samplings)


CORE = Plan(
    "core",
    subjects=(*REPORTED, *MORE),
    seeds=(1, 2),
    settings=(
        *repaired(PLAIN, *(dci(FRACTIONS[0], strength) for strength in INJECTION_STRENGTHS), AUXILIARY_ALONE, BASE),
        *repaired(*(first_said(noun, FRACTIONS[0]) for noun in (CLASS_NOUN, AUXILIARY_NOUN)), *WEAKER),
        *over_steps(EDITED)[1:],
        *repaired(*(dci(FRACTIONS[1], strength) for strength in INJECTION_STRENGTHS)),
        *repaired(*(first_said(noun, FRACTIONS[1]) for noun in (CLASS_NOUN, AUXILIARY_NOUN))),
    ),
    is_screened=True,
)
WIDE = Plan(
    "wide",
    subjects=(*REPORTED, *MORE),
    seeds=(1,),
    settings=(
        *over_steps(EDITED),
        *repaired(*(dci(fraction, strength) for fraction in ALL_FRACTIONS for strength in ALL_STRENGTHS)),
        *repaired(*(first_said(noun, f) for noun in (CLASS_NOUN, AUXILIARY_NOUN) for f in ALL_FRACTIONS), *WEAKER),
        *repaired(AUXILIARY_ALONE, CLASS_NOUN_ALONE, BASE, *VARIANTS),
        *over_steps(*OTHER_METHODS),
    ),
    prompt_sets=2,
    noises=4,
    is_screened=True,
)
PLANS = {plan.name: plan for plan in (CORE, WIDE)}
