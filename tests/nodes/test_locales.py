"""All texts of the nodes are translated, with what must stay in them, as ComfyUI loads them; what is missing is listed."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import folder_paths
import pytest
from comfyui_dci.nodes.extension import NODES

from workbench import locales
from workbench.locales import LANGUAGES, LOCALES, Text, complaints, english_texts, flat, kept_words, translations
from workbench.pack import ROOT

WRITTEN = {"ja": r"[\u3040-\u30ff]", "zh": r"[\u4e00-\u9fff]"}
"""Signs that every sentence of a language has: kana, and Chinese characters."""


def schemas() -> list[Any]:
    return [node.define_schema() for node in NODES]


def painter(**inputs: Any) -> Any:
    """A schema of one node with one input."""
    entry = SimpleNamespace(
        id="depth_of_field", display_name="depth_of_field λ", io_type="COMBO", options=["flat", "deep"], **inputs
    )
    return SimpleNamespace(
        node_id="DCIPaint",
        display_name="Paint",
        description="Paints with Paint.",
        category="DCI/art",
        inputs=[entry],
        outputs=[SimpleNamespace(display_name="canvas", io_type="DCI_CANVAS", tooltip="For DCIPaint.")],
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_the_schemas_is_translated_and_keeps_what_must_stay(language: str) -> None:
    assert complaints(english_texts(schemas()), translations(language)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_in_their_language(language: str) -> None:
    sentences = {
        path: text for path, text in translations(language).items() if path.endswith(("tooltip", "description"))
    }
    assert len(sentences) > 200
    assert not {path: text for path, text in sentences.items() if not re.search(WRITTEN[language], text)}


def test_comfyui_loads_them_all_from_the_folders_languages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from app.custom_node_manager import CustomNodeManager

    (tmp_path / "comfyui_dci").symlink_to(ROOT, target_is_directory=True)
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda kind: [str(tmp_path)])
    loaded = CustomNodeManager().build_translations()
    assert sorted(loaded) == sorted(LANGUAGES) == sorted(folder.name for folder in LOCALES.iterdir())
    for language in LANGUAGES:
        assert dict(flat(loaded[language])) == translations(language)


def test_what_is_to_be_translated_is_found_with_what_must_stay() -> None:
    assert english_texts([painter(tooltip='deep: 2 of "a V* cat". See Paint.')]) == {
        "nodeDefs.DCIPaint.display_name": Text("Paint"),
        "nodeDefs.DCIPaint.description": Text("Paints with Paint.", (), ("DCIPaint",)),
        "nodeDefs.DCIPaint.inputs.depth_of_field.name": Text("depth_of_field λ", ("λ",)),
        "nodeDefs.DCIPaint.inputs.depth_of_field.tooltip": Text(
            'deep: 2 of "a V* cat". See Paint.', ("2", "V*", "a V* cat", "deep"), ("DCIPaint",)
        ),
        "nodeDefs.DCIPaint.outputs.0.name": Text("canvas"),
        "nodeDefs.DCIPaint.outputs.0.tooltip": Text("For DCIPaint.", (), ("DCIPaint",)),
        "nodeCategories.DCI": Text("DCI", ("DCI",)),
        "nodeCategories.art": Text("art"),
        "dataTypes.DCI_CANVAS": Text("DCI_CANVAS"),
    }


@pytest.mark.parametrize(
    ("english", "kept"),
    [
        ("On: T_a, K and V of LoRAs.", ["T_a", "K", "V", "LoRA"]),
        ("(V* cat:1.2) or embedding:my-cat", ["V*", "cat:1.2", "embedding:my-cat"]),
        ("A file.png in models/x, --quiet, -1. γ", ["file.png", "models/x", "--quiet", "-1", "γ"]),
        ("SD1.x: 6e-05; .webp. I am ComfyUI's.", ["SD1.x", "6e-05", ".webp", "ComfyUI"]),
        ("A plain, well-known text / no more: none.", []),
    ],
)
def test_words_that_stay_are_told_from_others(english: str, kept: list[str]) -> None:
    assert kept_words(english) == kept


def test_what_is_wrong_is_listed() -> None:
    texts = {
        "nodeDefs.DCIPaint.display_name": Text("Paint"),
        "a.description": Text("20 of Paint", ("20",), ("DCIPaint",)),
        "b.tooltip": Text("same"),
        "c.tooltip": Text("same"),
        "d.tooltip": Text("gone"),
    }
    translated = {
        "nodeDefs.DCIPaint.display_name": "画",
        "a.description": "Paint 200",
        "b.tooltip": "同",
        "c.tooltip": "等{",
        "e.tooltip": "无",
    }
    assert complaints(texts, translated) == [
        "missing: d.tooltip: gone",
        "too many: e.tooltip",
        "a.description lacks '20'",
        "a.description lacks '画'",
        "c.tooltip has '{', which is syntax there",
        "c.tooltip differs from b.tooltip, which is the same in English",
    ]
    assert complaints({"f.tooltip": Text("a 0, 2 and K", ("0", "2", "K"))}, {"f.tooltip": "各0、12和0.2K。"}) == [
        "f.tooltip lacks '2'",
        "f.tooltip lacks 'K'",
    ]


def test_the_command_lists_it_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(locales, "schemas", schemas)
    locales.main()
    assert capsys.readouterr().out.endswith("texts are translated into each of ja, zh.\n")
    monkeypatch.setattr(locales, "schemas", lambda: [*schemas(), painter(tooltip="flat")])
    with pytest.raises(SystemExit):
        locales.main()
    listed = capsys.readouterr().out.splitlines()
    assert "zh: missing: nodeDefs.DCIPaint.inputs.depth_of_field.tooltip: flat" in listed
    assert len(listed) == 2 * 8, "DCI is a category that is known"
