"""What a concept was trained on, beside what it is applied to."""

from __future__ import annotations

from dataclasses import dataclass

from .concept import ConceptInfo

UNPATCHED = "0"


@dataclass(frozen=True)
class BaseFacts:
    """A MODEL and its CLIP as they go into a training or into Apply Concept; the field names are those of ``ConceptInfo``.

    Args:
        base_hash: ``key_value_hash`` of the checkpoint's K and V.
        prediction: "epsilon", "v", or the name of another kind of sampling.
        clip_layer: layer that the text encoders stop at, counted from the end: -1 is the last; None when unknown.
        model_patches, clip_patches: "0" when nothing lies on the weights of the checkpoint; else the number of weights that something
            lies on, a blank, and a hash of all that; "" when unknown.
    """

    base_hash: str
    prediction: str = ""
    clip_layer: int | None = None
    model_patches: str = ""
    clip_patches: str = ""


def differences(then: ConceptInfo, now: BaseFacts, quantisation: str = "") -> list[str]:
    """Return a warning for each difference between what a concept was trained on and what it is applied to.

    Args:
        then: of the concept; what an older file does not say is not compared.
        now: of the model and the CLIP.
        quantisation: in which the model keeps its K and V; "" for plain numbers.
    """
    warnings = []
    if then.base_hash != now.base_hash:
        rounded = f" This one is quantised ({quantisation}), its K and V are rounded: if it is the same one otherwise, that is all."
        warnings.append(
            "The concept was trained on another checkpoint of the same family. It is applied; likeness may differ. "
            "Train it again on this checkpoint if it does." + (rounded if quantisation else "")
        )
    if then.prediction and now.prediction and then.prediction != now.prediction:
        warnings.append(
            f"The concept was trained with {_kind(then.prediction)}, this model has {_kind(now.prediction)}. Use the checkpoint "
            "and the model sampling node it was trained with, or train again."
        )
    if then.clip_layer is not None and now.clip_layer is not None and then.clip_layer != now.clip_layer:
        warnings.append(
            f"The concept was trained at {_layer(then.clip_layer)}, this CLIP is at {_layer(now.clip_layer)}. Put CLIP Set Last "
            f"Layer with {then.clip_layer} in front of Apply Concept."
        )
    for part, before, after in (
        ("model", then.model_patches, now.model_patches),
        ("CLIP", then.clip_patches, now.clip_patches),
    ):
        if before and after and before != after:
            warnings.append(_patches_differ(part, before, after))
    return warnings


def _kind(prediction: str) -> str:
    return {"epsilon": "ε-prediction", "v": "v-prediction"}.get(prediction, f"{prediction} sampling")


def _layer(number: int) -> str:
    return f"CLIP layer {number} (clip skip {-number})"


def _patches_differ(part: str, then: str, now: str) -> str:
    before, after = _weights(then), _weights(now)
    if now == UNPATCHED:
        return (
            f"The concept was trained with LoRAs or other patches on {before} of the {part}, this {part} has none. Put the same "
            "in front of Apply Concept."
        )
    if then == UNPATCHED:
        return (
            f"The concept was trained without LoRAs on the {part}, this {part} has some, or other patches, on {after}. Likeness "
            "may differ; take them out if it does."
        )
    return (
        f"The concept was trained with other LoRAs on the {part} than this one has, or at other strengths: on {before} then, on "
        f"{after} now. Put the same in front of Apply Concept."
    )


def _weights(patches: str) -> str:
    count = patches.partition(" ")[0]
    return f"{count} weight{'' if count == '1' else 's'}"
