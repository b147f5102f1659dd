"""Make a concept of files of other programs that lie in the host's folders for LoRAs and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths

from ....dci_core.concept.concept import ConceptInfo, check_concept_fits
from ....dci_core.concept.exchange import EMBEDDINGS, LORAS
from ....dci_core.concept.foreign import foreign_concept
from ....dci_core.concept.importing import Imported, imported_concept, joined, needed_keys
from ....dci_core.errors import UserInputError
from ..base_facts import base_facts
from ..families import family_of
from ..tokenizer import embedding_widths
from ..weights import cross_attention_shapes, unpatched_weights

NONE = "none"
"""The choice of no file."""


def offered_files(folder: str) -> list[str]:
    """Return the choices: none, and the files of one of the host's model folders."""
    return [NONE, *folder_paths.get_filename_list(folder)]


def chosen_files(weights: str, embedding: str) -> list[Path]:
    """Return the paths of the files that are chosen, one or two.

    Args:
        weights: a name in the host's folder for LoRAs, or ``NONE``.
        embedding: a name in its folder for embeddings, or ``NONE``.

    Raises:
        UserInputError: none is chosen, or one is not there.
    """
    chosen = [(folder, name) for folder, name in ((LORAS, weights), (EMBEDDINGS, embedding)) if name not in ("", NONE)]
    if not chosen:
        raise UserInputError(
            f"No file is chosen. Put it into models/{LORAS} or models/{EMBEDDINGS} and choose it under weights or embedding."
        )
    return [_found(folder, name) for folder, name in chosen]


def import_concept(
    model: Any, clip: Any, files: Sequence[Path], class_noun: str, placeholder: str, word: str = ""
) -> Imported:
    """Return the concept that files hold, on the model they were trained on.

    Args:
        model: a host MODEL; its weights are taken without what is patched onto them.
        clip: its CLIP.
        files: one or two, see ``chosen_files``.
        class_noun, placeholder: of the concept, checked.
        word: see ``imported_concept``.

    Raises:
        UserInputError: a file cannot be used, or does not fit the model or the CLIP.
    """
    family = family_of(model)
    found = joined([foreign_concept(path, family) for path in files])
    shapes = cross_attention_shapes(model)
    keys = [key for key in needed_keys(found) if key.rpartition(".")[0] in shapes]
    facts = base_facts(model, clip)
    info = ConceptInfo(
        family=family.name,
        class_noun=class_noun,
        placeholder=placeholder,
        prefix=0,
        suffix=0,
        concept_vectors=1,
        steps=0,
        seed=None,
        base_hash=facts.base_hash,
        prediction=facts.prediction,
    )
    imported = imported_concept(found, unpatched_weights(model, keys), info, word)
    check_concept_fits(imported.concept, family.name, shapes, embedding_widths(clip))
    return imported


def _found(folder: str, name: str) -> Path:
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        raise UserInputError(f"There is no file {name!r} in models/{folder}. Choose one of the list, or put it there.")
    return Path(path)
