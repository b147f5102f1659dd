"""Names of folders and files below the host's model folder."""

from __future__ import annotations

from comfyui_dci.nodes.host.concepts.store import folder_name


def test_a_folder_name_is_one_any_system_allows() -> None:
    assert folder_name("Tortoise  Plüshy/..", "0123456789abcdef") == "tortoise-pl-shy-0123456789ab"
    assert folder_name("猫", "0123456789abcdef") == "concept-0123456789ab"
