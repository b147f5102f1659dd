"""Node inputs made from the fields of settings classes: type, range, step, default and tooltip stand there alone."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from typing import Any

from comfy_api.latest import io

from ..dci_core.setting import Setting, settings_of


def setting_input(kind: type, field_name: str, neutral: str | None = None, **shown: Any) -> io.Input:
    """Return the input for a field of a settings class.

    Args:
        kind: the settings class.
        field_name: the name of the field; the input has the same id, or the setting's ``name``.
        neutral: the end of the tooltip where the node's neutral value is another than the field's.
        shown: arguments of the host's input; they win over what the field says.
    """
    known = settings_of(kind)[field_name]
    default = shown.pop("default", _default(kind, field_name))
    facts = {
        "id": known.name or field_name,
        "tooltip": known.text if neutral is None else f"{known.help} {neutral}",
    }
    if isinstance(default, bool):
        return io.Boolean.Input(**facts | {"default": default} | shown)
    if isinstance(default, Enum):
        options = [member.value for member in type(default)]
        return io.Combo.Input(**facts | {"options": options, "default": default.value} | shown)
    if isinstance(default, int):
        return io.Int.Input(**facts | {"default": default} | _widget(known, int) | shown)
    if isinstance(default, float):
        return io.Float.Input(**facts | {"default": default} | _widget(known, float) | shown)
    return io.String.Input(**facts | {"default": default} | shown)


def tooltip_of(kind: type, field_name: str) -> str:
    """Return the tooltip of a socket that a field of a settings class is connected to."""
    return settings_of(kind)[field_name].text


def _default(kind: type, field_name: str) -> Any:
    return next(field.default for field in fields(kind) if field.name == field_name)


def _widget(known: Setting, number: type[int] | type[float]) -> dict[str, int | float]:
    least, most = known.offered or known.allowed or (None, None)
    facts = {"min": least, "max": most, "step": known.step}
    return {name: number(value) for name, value in facts.items() if value is not None}
