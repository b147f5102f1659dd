"""Concepts that a prompt names by their file, "embedding:my_concept cat", where the CLIP knows none.

A checkpoint that was saved behind Apply Concept holds the concept's K and V, but no V*: the concept file, put among the
embeddings, gives the vectors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy.sd1_clip import expand_directory_list
from torch import Tensor

from ....dci_core.concept.metadata import FORMAT
from ....dci_core.errors import UserInputError
from ....dci_core.families import FAMILIES
from ....dci_core.prompt.words import EMBEDDING, add_class_noun, check_class_noun
from ....dci_core.tensor_file import read_metadata
from ..tokenizer import embedding_widths, real_tokens, tokenizers_of

_NAME = re.compile(r"(?:^|(?<=[\s()]))embedding:(?P<name>[^\s()<\[\],:]+)")


@dataclass(frozen=True)
class NamedFiles:
    """The concepts that a prompt names by their files.

    Args:
        words: what stands for each in the prompt, "embedding:…", and its class noun.
        took_class_noun: whether the class noun that was given is of one of them.
    """

    words: tuple[tuple[str, str], ...] = ()
    took_class_noun: bool = False

    def completed(self, prompt: str) -> str:
        """Return the prompt with the class nouns that it leaves out."""
        names = [name for name, _ in self.words]
        for name, class_noun in self.words:
            prompt = add_class_noun(prompt, name, class_noun, names)
        return prompt


def named_files(clip: Any, prompt: str, class_noun: str = "") -> NamedFiles:
    """Return the concepts that a prompt names by their files, in its order.

    Args:
        clip: a host CLIP, which reads the files.
        prompt: any text.
        class_noun: of a file that does not say it, because it is no concept file; "" leaves such files plain words.

    Raises:
        UserInputError: a file is missing or made for another model, or it is not sure which one the class noun is of.
    """
    names = _names_in(prompt)
    nouns = {name: noun for name in names if (noun := _noun_of_file(clip, name))}
    took_class_noun = bool(names and not nouns and class_noun.strip())
    if took_class_noun:
        nouns = {_one_of(names): check_class_noun(class_noun)}
    check_embeddings(clip, list(nouns))
    return NamedFiles(tuple((EMBEDDING + name, noun) for name, noun in nouns.items()), took_class_noun)


def check_embeddings(clip: Any, names: Sequence[str]) -> None:
    """Refuse embeddings that the host would read as nothing.

    Raises:
        UserInputError: a file is missing, or its vectors do not fit the CLIP.
    """
    for name in names:
        if not name:
            raise UserInputError(
                'Write the name of the embedding directly behind the colon, for example "embedding:my-cat cat".'
            )
        _check_vectors(clip, name)


def advice_on_names(clip: Any, prompt: str) -> str:
    """Return what to do about "embedding:" in a prompt that names no known concept, as the end of an error; "" without any."""
    if "embedding:" not in prompt:
        return ""
    names = _names_in(prompt)
    missing = [name for name in names if _file_of(clip, name) is None]
    if missing:
        return f" {_no_embedding(missing[0])}"
    return (
        " Or fill in class_noun: what the embedding in the prompt shows."
        if names
        else ' Or write "embedding:" with a space in front of it.'
    )


def _names_in(prompt: str) -> list[str]:
    return list(dict.fromkeys(match["name"] for match in _NAME.finditer(prompt)))


def _no_embedding(name: str) -> str:
    return (
        f"There is no embedding {name!r} in models/embeddings, or it cannot be read. Put its file there, and "
        'write its name without ending and with a space behind it, for example "embedding:my_concept cat".'
    )


def _one_of(names: Sequence[str]) -> str:
    if len(names) > 1:
        raise UserInputError(
            f"The prompt names the embeddings {' and '.join(names)}, and none is a concept file, so it is not sure which of them "
            "class_noun is of. Name one in this prompt."
        )
    return names[0]


def _noun_of_file(clip: Any, name: str) -> str | None:
    """Return the class noun that a concept file among the CLIP's embeddings says; None for any other file.

    Raises:
        UserInputError: the concept is of a family with other text encoders.
    """
    file = _file_of(clip, name)
    if file is None or file.suffix != ".safetensors":
        return None
    metadata = read_metadata(file)
    if metadata.get("format") != FORMAT or "class_noun" not in metadata:
        return None
    family = FAMILIES.get(metadata.get("family", ""))
    if family is not None and set(family.text_encoders) != set(tokenizers_of(clip)):
        raise UserInputError(
            f"The concept in embedding:{name} was trained on a {family.name} model, this CLIP has the text encoders "
            f"{sorted(tokenizers_of(clip))}. Connect the CLIP of the checkpoint it was trained on."
        )
    return metadata["class_noun"]


def _file_of(clip: Any, name: str) -> Path | None:
    """Return the file that the host reads for "embedding:<name>", if it is there."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    folders = next(iter(tokenizers_of(clip).values())).embedding_directory or []
    for folder in map(Path, sorted(expand_directory_list([folders] if isinstance(folders, str) else folders))):
        for file in (folder / f"{name}{ending}" for ending in ("", ".safetensors", ".pt", ".bin")):
            if file.is_file():
                return file
    return None


def _check_vectors(clip: Any, name: str) -> None:
    """Refuse an embedding that is not there, or whose vectors do not fit the CLIP."""
    _, tokens = real_tokens(clip, f"embedding:{name}")
    read = {f"clip_{encoder}": tuple(t for _, t in row if isinstance(t, Tensor)) for encoder, row in tokens.items()}
    if not all(read.values()):
        raise UserInputError(_no_embedding(name))
    widths = embedding_widths(clip)
    for encoder, rows in read.items():
        if any(row.shape != (widths[encoder],) for row in rows):
            raise UserInputError(
                f"The vectors of embedding:{name} for {encoder} are {rows[0].shape[-1]} wide, this CLIP has {widths}. Use an "
                "embedding that was made for this model's family."
            )
