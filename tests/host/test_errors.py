"""The title of the host's error dialog."""

from __future__ import annotations

from comfyui_dci.dci_core.errors import DivergenceError, UserInputError


def test_the_host_names_our_errors_without_the_packs_path() -> None:
    from execution import full_type_name

    assert full_type_name(UserInputError) == "DCI.UserInputError"
    assert full_type_name(DivergenceError) == "DCI.DivergenceError"
