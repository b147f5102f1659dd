"""Errors read well in the host's dialog."""

from __future__ import annotations

from comfyui_dci.dci_core.errors import DivergenceError, UserInputError


def shown(kind: type[BaseException]) -> str:
    """The title of the host's error dialog, as its ``execution.full_type_name`` makes it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def test_the_dialog_names_the_error_without_the_packs_path() -> None:
    class LaterError(UserInputError):
        pass

    assert shown(UserInputError) == "DCI.UserInputError"
    assert shown(DivergenceError) == "DCI.DivergenceError"
    assert LaterError.__module__ == "DCI"
