"""The scale of a model's weights and word embeddings, from which presets derive learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....dci_core.training.presets import ModelScale, PresetName, RunValues, run_values
from ..model import HostModel
from ..weights import KEY_VALUE, cross_attention_shapes, cross_attention_weights, patched_weight, weight_entry
from .networks import EMBEDDINGS


def scale_of(base: HostModel) -> ModelScale:
    """Return the width of a model's text conditioning and the spread of its CLIP's word embeddings.

    Raises:
        UserInputError: the model cannot be trained, or the CLIP does not belong to it.
    """
    base.check_trainable()
    _, width = cross_attention_shapes(base.model)[cross_attention_weights(base.model, KEY_VALUE)[0]]
    return ModelScale(width, min(_embedding_std(base.clip, name) for name in base.family.text_encoders))


def values_for(base: HostModel, preset: PresetName, given: Mapping[str, Any]) -> RunValues:
    """Return what a run on a model is trained with; see ``run_values``.

    Raises:
        UserInputError: as ``scale_of`` and ``run_values``.
    """
    return run_values(preset, scale_of(base), given)


def _embedding_std(clip: Any, name: str) -> float:
    key = f"{name}.transformer.{EMBEDDINGS}"
    return float(patched_weight(key, weight_entry(clip.patcher, key)).float().std())
