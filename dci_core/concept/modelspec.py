"""What other programs read about a model file: the fields of Stability AI's ModelSpec 1.0.1.

Its "date" is left out: the same run makes the same file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..families import FAMILIES

if TYPE_CHECKING:
    from .concept import ConceptInfo


def modelspec_of(info: ConceptInfo, changes_weights: bool) -> dict[str, str]:
    """Return the fields for a concept: architecture, title, trigger phrase, size, prediction, picture.

    Args:
        info: of the concept.
        changes_weights: whether the file holds changes of weights; without any it is a textual inversion.
    """
    family = FAMILIES.get(info.family)
    architecture = info.family if family is None else family.architecture
    kind = "lora" if changes_weights else "textual-inversion"
    fields = {
        "sai_model_spec": "1.0.1",
        "architecture": f"{architecture}/{kind}",
        "implementation": "https://github.com/comfyanonymous/ComfyUI",
        "title": f"{info.placeholder} {info.class_noun}",
        "trigger_phrase": f"{info.placeholder} {info.class_noun}",
    }
    if "resolution" in info.settings:
        fields["resolution"] = "{0}x{0}".format(info.settings["resolution"])
    if info.prediction:
        fields["prediction_type"] = info.prediction
    if info.thumbnail:
        fields["thumbnail"] = info.thumbnail
    return {f"modelspec.{name}": value for name, value in fields.items()}
