"""What is known of a setting, told once as metadata of its dataclass field: help, neutral value, range, step.

``check_settings`` reads it, and so do the inputs of the nodes and the tables of their help pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from .errors import UserInputError

_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """What is known of a field of a settings class, beside its type and default.

    Args:
        help: what it does, and what more or less of it does.
        neutral: which value changes nothing and which is usual, a sentence; "" where there is nothing to say.
        allowed: least and most value of a number; None is any.
        offered: least and most value that a node offers; None is what is allowed.
        step: of the node's widget; None is the host's.
        name: what the user calls it; "" is the name of the field.
    """

    help: str
    neutral: str = ""
    allowed: tuple[float, float] | None = None
    offered: tuple[float, float] | None = None
    step: float | None = None
    name: str = ""

    @property
    def text(self) -> str:
        """Help and neutral value in one."""
        return f"{self.help} {self.neutral}".rstrip()

    def check(self, name: str, value: float | None) -> None:
        """Refuse a number that is not allowed.

        Raises:
            UserInputError: the value is outside its range, not finite, or None.
        """
        least, most = self.allowed or (-math.inf, math.inf)
        if value is not None and math.isfinite(value) and least <= value <= most:
            return
        rule = f"between {least:g} and {most:g}" if self.allowed else "a finite number"
        raise UserInputError(f"{name} must be {rule}, but got {value}. {self.neutral}".rstrip())


def setting(
    help: str,
    neutral: str = "",
    *,
    allowed: tuple[float, float] | None = None,
    offered: tuple[float, float] | None = None,
    step: float | None = None,
    name: str = "",
) -> Mapping[str, Setting]:
    """Return the metadata of a dataclass field; the arguments are those of ``Setting``."""
    return {_KEY: Setting(help, neutral, allowed, offered, step, name)}


def settings_of(kind: Any) -> dict[str, Setting]:
    """Return what is known of the fields of a settings class, or of an object of one, by their names."""
    return {field.name: field.metadata[_KEY] for field in fields(kind) if _KEY in field.metadata}


def check_settings(settings: Any, owner: str = "") -> None:
    """Check every number, and make every choice a member of its Enum; for ``__post_init__`` of a frozen dataclass.

    None is allowed where it is the default: it stands for "not given".

    Args:
        settings: the object.
        owner: stands before the names in errors.

    Raises:
        UserInputError: a number is outside its range, or a choice is none of those there are.
    """
    defaults = {field.name: field.default for field in fields(settings)}
    for field_name, known in settings_of(settings).items():
        name, value = owner + (known.name or field_name), getattr(settings, field_name)
        default = defaults[field_name]
        if isinstance(default, Enum):
            object.__setattr__(settings, field_name, _member(name, type(default), value))
        elif (known.allowed or known.offered) and not (value is None and default is None):
            known.check(name, value)


def _member(name: str, kind: type[Enum], value: Any) -> Enum:
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(str(member.value) for member in kind)
        raise UserInputError(f"{name} must be one of {choices}, but got {value!r}.") from None
