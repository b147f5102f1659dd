"""Look whether the texts of the nodes are translated, and list what is missing or has lost a word that must stay.

COMFYUI_PATH=… python -m workbench.locales

``locales/<language>/nodeDefs.json`` has the names, descriptions and tooltips of nodes, inputs and outputs, ``main.json`` the
categories and sockets. They are written by hand; ComfyUI's frontend takes English where one lacks a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from workbench.help_pages import HOST_LISTS
from workbench.pack import ROOT, load_pack
from workbench.public_names import schemas

LOCALES = ROOT / "locales"
LANGUAGES = ("ja", "zh")
OUR_SOCKETS = "DCI_"
SYNTAX = "{}@|"
"""Signs that the frontend's translation library takes for its own."""


class Text(NamedTuple):
    """A text of the nodes as it is in English.

    Attributes:
        english: the text.
        kept: what stands in a translation unchanged: numbers, symbols, ids, options, quoted texts.
        named: ids of nodes whose names stand in it, each to be called by its translated name.
    """

    english: str
    kept: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


def english_texts(found: Iterable[Any]) -> dict[str, Text]:
    """Return all texts to be translated, by the path under which the frontend looks for them.

    Args:
        found: schemas of all nodes.
    """
    found = list(found)
    names = {name: schema.node_id for schema in found for name in (schema.node_id, schema.display_name)}
    texts: dict[str, Text] = {}
    for schema in found:
        node = f"nodeDefs.{schema.node_id}"
        texts[f"{node}.display_name"] = Text(schema.display_name, tuple(kept_words(schema.display_name)))
        texts[f"{node}.description"] = _sentences(schema.description, names)
        for entry in schema.inputs:
            label = entry.display_name or entry.id
            symbol = label.removeprefix(entry.id).split()
            texts[f"{node}.inputs.{entry.id}.name"] = Text(label, tuple(symbol))
            options = () if entry.id in HOST_LISTS else getattr(entry, "options", None) or ()
            texts[f"{node}.inputs.{entry.id}.tooltip"] = _sentences(entry.tooltip, names, options)
        for number, output in enumerate(schema.outputs):
            texts[f"{node}.outputs.{number}.name"] = Text(output.display_name)
            texts[f"{node}.outputs.{number}.tooltip"] = _sentences(output.tooltip, names)
        for part in schema.category.split("/"):
            texts[f"nodeCategories.{part}"] = Text(part, tuple(kept_words(part)))
        sockets = [entry.io_type for entry in (*schema.inputs, *schema.outputs)]
        texts |= {f"dataTypes.{socket}": Text(socket) for socket in sockets if socket.startswith(OUR_SOCKETS)}
    return texts


def kept_words(english: str) -> list[str]:
    """Return the words of a text that are the same in every language, in their order.

    Such are numbers, what has an underscore or a star, a colon, slash or full stop inside, a Greek letter, two capital
    letters, or is a single one.
    """
    words = [word.rstrip(".:/-") for word in re.findall(r"[\w*./:-]+", english)]
    kept = [word for word in words if re.search(r"[\d_*α-ω]|\w[./:]\w|^\.\w|^--\w|[A-Z].*[A-Z]|^[B-HJ-Z]$", word)]
    return [word.removesuffix("s") if re.search("[A-Z]s$", word) else word for word in kept]


def translations(language: str) -> dict[str, str]:
    """Return the translated texts of a language by their paths.

    Args:
        language: a folder in ``locales``.
    """
    folder = LOCALES / language
    read = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")}
    return dict(flat({**read.pop("main", {}), **read}))


def flat(nested: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Return the texts of nested objects by the keys that lead to them, with full stops between."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def complaints(texts: Mapping[str, Text], translated: Mapping[str, str]) -> list[str]:
    """Return what is wrong with a language's translations, a line each.

    Args:
        texts: in English, from ``english_texts``.
        translated: from ``translations``.
    """
    lines = [f"missing: {path}: {text.english}" for path, text in texts.items() if path not in translated]
    lines += [f"too many: {path}" for path in translated if path not in texts]
    first: dict[str, str] = {}
    for path, text in texts.items():
        if path not in translated:
            continue
        ours = translated[path]
        names = [translated.get(f"nodeDefs.{node}.display_name", node) for node in text.named]
        lines += [f"{path} lacks {word!r}" for word in (*text.kept, *names) if not _has(ours, word)]
        lines += [f"{path} has {sign!r}, which is syntax there" for sign in SYNTAX if sign in ours]
        if path.endswith((".tooltip", ".description")) and ours != translated.get(
            first.setdefault(text.english, path), ours
        ):
            lines.append(f"{path} differs from {first[text.english]}, which is the same in English")
    return lines


def _sentences(english: str, names: Mapping[str, str], options: Iterable[str] = ()) -> Text:
    """Return a text with what must stay in it. Node names go first, for they are translated."""
    rest, named = english, []
    for name in sorted(names, key=len, reverse=True):
        rest, count = re.subn(rf"(?<!\w){re.escape(name)}(?!\w)", " ", rest)
        named += [names[name]] * (count > 0)
    quoted = re.findall('"([^"]+)"', rest)
    chosen = [option for option in options if _has(rest, option)]
    return Text(english, tuple(dict.fromkeys([*kept_words(rest), *quoted, *chosen])), tuple(named))


def _has(text: str, word: str) -> bool:
    """Tell whether a word stands in a text by itself; signs of Chinese and Japanese may touch it."""
    around = (r"(?<![\d.])", r"(?!\.?\d)") if word.isdigit() else ("(?<![A-Za-z0-9_])", "(?![A-Za-z0-9_])")
    return re.search(re.escape(word).join(around), text) is not None


def main() -> None:
    """List what is wrong with the translations. The pack is loaded before."""
    texts = english_texts(schemas())
    lines = [f"{language}: {line}" for language in LANGUAGES for line in complaints(texts, translations(language))]
    print("\n".join(lines) or f"{len(texts)} texts are translated into each of {', '.join(LANGUAGES)}.")
    if lines:
        raise SystemExit(1)


if __name__ == "__main__":
    load_pack(cpu=True)
    main()
