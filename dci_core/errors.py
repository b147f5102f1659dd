"""The exception class for input that a user can correct, and for a training whose values became useless."""

from typing import Any

SHOWN_MODULE = "DCI"
"""The host's dialog shows an error's module before its name; that of a pack is the path of its folder."""


class UserInputError(ValueError):
    """Input that cannot be used: says what was given, what is allowed and what to do."""

    __module__ = SHOWN_MODULE

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__module__ = SHOWN_MODULE


class DivergenceError(UserInputError):
    """A training whose loss or gradients are no longer numbers: the settings are to be changed, the last step is worth nothing."""
