"""The scale of a model's weights and word embeddings, from which presets derive learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....dci_core.training.presets import ModelScale, PresetName, RunValues, run_values
from ..weights import key_patches, key_value_weights, patched_weight
from .inputs import check_trainable
from .networks import EMBEDDINGS


def scale_of(model: Any, clip: Any) -> ModelScale:
    """Return the width of a MODEL's text conditioning and the spread of its CLIP's word embeddings.

    Raises:
        UserInputError: the model cannot be trained, or the CLIP does not belong to it.
    """
    encoders = check_trainable(model, clip).text_encoders
    width = next(iter(key_value_weights(model).values())).shape[1]
    return ModelScale(width, min(_embedding_std(clip, name) for name in encoders))


def values_for(model: Any, clip: Any, preset: PresetName, given: Mapping[str, Any]) -> RunValues:
    """Return what a run on a model is trained with; see ``run_values``.

    Raises:
        UserInputError: as ``scale_of`` and ``run_values``.
    """
    return run_values(preset, scale_of(model, clip), given)


def _embedding_std(clip: Any, name: str) -> float:
    key = f"{name}.transformer.{EMBEDDINGS}"
    return float(patched_weight(key, key_patches(clip.patcher, key)[key]).float().std())
