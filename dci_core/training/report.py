"""What a finished run says about itself: how far K and V have moved, and whether V* or the contexts took the subject in."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..concept.concept import ConceptInfo
from .presets import LEARNED, PresetName, RunValues
from .settings import TrainingSettings

USUAL_CHANGE = (0.04, 0.12)
"""‖ΔW‖/‖W‖ of K and V at the authors' earliest and last judged step (187 and 899) with their numbers: 0.041 and 0.114 on the first demo
model (METHOD section 7, "Strength of training"), 0.049 and 0.123 on the present one with the rates brought to its scale."""
FAR_CHANGE = (0.02, 0.4)
"""Below and above it is far outside. Below half the least nothing of a subject was seen; from 0.4 on the first demo model obeyed prompts a
quarter less than before and lost what its auxiliary noun knew (docs/results/defaults/training.csv)."""
LEAST_LEARNED = 0.02
"""Share of the start's loss that must have been learned before anything is said about who learned it."""
LEAST_SHARE = 0.6
"""What V* should at least have of what was learned. On the demo model (four subjects, with and without class images, 600 steps) the three
runs below it gave pictures of likeness 0.02 … 0.10, the five above it 0.08 … 0.40 (docs/results/defaults/rows.jsonl)."""
NO_CLASS_IMAGES = (
    "No class images: the auxiliary noun's power rests on a model that still knows its class. Connect DCI Class Images."
)


def relative_change(changes: Mapping[str, Tensor], norms: Mapping[str, float]) -> float | None:
    """Return ‖ΔW‖/‖W‖ over all weights together (2-norms of their entries).

    Args:
        changes: what was added to each weight.
        norms: 2-norm of each weight before; only weights named here count.

    Returns:
        0 for weights that have not moved; None when no weight is named, or all are 0.
    """
    before = sum(norm**2 for norm in norms.values())
    moved = sum(float(changes[name].double().square().sum()) for name in norms)
    return (moved / before) ** 0.5 if before else None


def learned_share(start: Mapping[str, float], now: Mapping[str, float]) -> float | None:
    """Return how much of what a run has learned V* has without the image contexts.

    share = (a₀ - a)/(a₀ - l), a being the loss of "V* <noun>" alone before (a₀) and now, l the loss with contexts now.

    Args:
        start, now: "loss" and "loss_without_contexts" on the same fixed noise, before the first step and now.

    Returns:
        1 when the contexts have nothing that V* lacks, 0 or less when they have all; None without contexts, and when too little
        was learned (``LEAST_LEARNED`` of a₀) for the quotient to mean anything.
    """
    if "loss_without_contexts" not in start or "loss_without_contexts" not in now:
        return None
    before = start["loss_without_contexts"]
    learned = before - now["loss"]
    if not learned > LEAST_LEARNED * before:
        return None
    return (before - now["loss_without_contexts"]) / learned


def start_text(values: RunValues, preset: PresetName, settings: TrainingSettings, class_images: int) -> str:
    """Return what a run will be like, and in a second line what is missing, if anything is.

    Args:
        values: what it is trained with.
        preset: what they were completed from.
        settings: what is trained.
        class_images: how many there are.
    """
    mode = settings.mode
    trained = (bool(mode.projections), mode.learns_tokens, mode.learns_contexts)
    lines = [values.text(preset, class_images > 0, [name for name, is_trained in zip(LEARNED, trained) if is_trained])]
    if settings.mode.projections and not class_images:
        lines.append(NO_CLASS_IMAGES)
    return "\n".join(lines)


def end_report(info: ConceptInfo) -> tuple[str, list[str]]:
    """Return what a finished concept says about its run, and what there is to warn of, each with what to do.

    Args:
        info: of the finished concept; what its history lacks, older files for example, is left out.
    """
    history, said, warnings = info.history, [f"{info.steps} steps"], []
    change = history.get("key_value_change")
    if change is not None:
        least, most = USUAL_CHANGE
        said.append(
            f"K and V moved by {change:.3f} of their size ({least:g} … {most:g} is where the paper's figures lie)"
        )
        warnings += _change_warnings(change)
    start, end = history.get("start"), history.get("end")
    if start and end:
        said.append(f"loss on fixed noise {start['loss']:.4f} → {end['loss']:.4f}")
        if "loss_without_contexts" in start and "loss_without_contexts" in end:
            said.append(
                f'of "V* {info.class_noun}" alone {start["loss_without_contexts"]:.4f} → {end["loss_without_contexts"]:.4f}'
            )
        share = learned_share(start, end)
        if share is not None:
            said.append(f"V* has {share:.0%} of what was learned")
            warnings += _share_warnings(share, info)
    return "; ".join(said) + ".", warnings


def _change_warnings(change: float) -> list[str]:
    least, most = FAR_CHANGE
    if change < least:
        return [
            f"K and V have hardly moved (below {least:g}): the subject can hardly be in them. Take more steps or a higher learning_rate."
        ]
    if change > most:
        return [
            f"K and V have moved very far (above {most:g}): expect prompts to be ignored. Take an earlier checkpoint, fewer steps or a "
            "lower learning_rate."
        ]
    return []


def _share_warnings(share: float, info: ConceptInfo) -> list[str]:
    if share >= LEAST_SHARE:
        return []
    contexts = info.prefix + info.suffix
    told = (
        f"The image contexts have taken the subject in, and pictures are made without them: V* has only {share:.0%} of what was learned; "
        f"{LEAST_SHARE:.0%} or more is good."
    )
    rate, key_value_rate = info.settings.get("context_learning_rate"), info.settings.get("learning_rate")
    if not isinstance(rate, (int, float)) or not isinstance(key_value_rate, (int, float)):
        return [
            f"{told} Take a lower context_learning_rate, fewer context vectors (now {contexts}), or a higher learning_rate."
        ]
    token_rate = info.settings.get("token_learning_rate")
    token_rate = float(token_rate) if isinstance(token_rate, (int, float)) else key_value_rate
    lower = token_rate if 0 < token_rate < rate else rate / 3
    return [
        f"{told} Set context_learning_rate to {lower:.3g} (now {rate:g}), use fewer context vectors (now {contexts}), or a higher "
        f"learning_rate (now {key_value_rate:g})."
    ]
