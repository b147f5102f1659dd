"""A concept as files for programs without this pack: a LoRA under kohya's names, and an embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..errors import UserInputError
from ..tensor_file import write_tensors
from .concept import Concept
from .file import PRECISIONS
from .layer_names import family_named, kohya_name
from .low_rank import low_rank_factors, relative_error
from .modelspec import modelspec_of

LORAS, EMBEDDINGS = "loras", "embeddings"
"""The host's model folders that the two files belong into."""
SAFETENSORS = ".safetensors"


@dataclass(frozen=True)
class ExportedFile:
    """A file to be written.

    Args:
        folder: of the host's model folders, by name.
        ending: what follows the name that the user has given.
        tensors: on the CPU, contiguous.
        metadata: of the file.
        class_noun: of the concept, for the trigger phrase; "" where the file is to say nothing of the concept.
    """

    folder: str
    ending: str
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    class_noun: str = ""

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def write(self, path: Path, word: str, replace: bool) -> None:
        """Write it; it appears complete under its name or not at all.

        Args:
            path: target.
            word: that calls the concept in prompts.
            replace: an existing file; False leaves it alone.

        Raises:
            FileExistsError: there is a file of that name, and it is not to be replaced.
        """
        trigger = {"modelspec.trigger_phrase": f"{word} {self.class_noun}"} if self.class_noun else {}
        write_tensors(path, self.tensors, {**self.metadata, **trigger}, replace=replace)


@dataclass(frozen=True)
class Exported:
    """A concept in another layout.

    Args:
        files: to be written together.
        error: of the weight changes in them, see ``low_rank.relative_error``; None where there are none.
    """

    files: tuple[ExportedFile, ...]
    error: float | None


def lora_and_embedding(concept: Concept, precision: str = "float16", rank: int = 0, told: bool = True) -> Exported:
    """Return a concept as a LoRA and an embedding; a textual inversion is an embedding alone.

    All layers have one rank and one alpha, smaller factors are filled up with zeros: diffusers 0.42 reads the alphas of a file
    with several ranks wrongly.

    Args:
        concept: to be exported.
        precision: of the LoRA, one of ``PRECISIONS``. The embedding is float32.
        rank: of the two factors of each weight change; 0 takes the full rank, with which their product is the change itself.
        told: whether the files say what ModelSpec has fields for.

    Raises:
        UserInputError: a family that is not known, or values that the precision cannot hold.
    """
    embedding = embedding_file(concept, EMBEDDINGS, SAFETENSORS, told)
    if not concept.deltas:
        return Exported((embedding,), None)
    family = family_named(concept.info.family)
    deltas = {name: delta.detach().cpu().float() for name, delta in concept.deltas.items()}
    tensors: dict[str, Tensor] = {}
    products: dict[str, Tensor] = {}
    factors = {name: low_rank_factors(delta, rank) if rank else full_factors(delta) for name, delta in deltas.items()}
    rank = max(len(down) for _, down in factors.values())
    for name, (up, down) in factors.items():
        up = in_precision(name, pad(up, (0, rank - up.shape[1])), precision)
        down = in_precision(name, pad(down, (0, 0, 0, rank - len(down))), precision)
        layer = kohya_name(name, family)
        tensors |= {
            f"{layer}.lora_up.weight": up,
            f"{layer}.lora_down.weight": down,
            f"{layer}.alpha": torch.tensor(float(rank)),
        }
        products[name] = up.float() @ down.float()
    metadata = {
        **described(concept, True, told),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)),
    }
    lora = ExportedFile(LORAS, SAFETENSORS, tensors, metadata, concept.info.class_noun if told else "")
    return Exported((lora, embedding), relative_error(deltas, products))


def embedding_file(concept: Concept, folder: str, ending: str, told: bool) -> ExportedFile:
    """Return the concept's vectors as a textual inversion.

    With one text encoder the only key is the word that diffusers takes it for, see ``word_in_diffusers``; with two each has its
    own, as AUTOMATIC1111 and the host name them.
    """
    vectors = {name: in_precision(name, rows.detach().cpu(), "float32") for name, rows in concept.tokens.items()}
    tensors = vectors if len(vectors) > 1 else {word_in_diffusers(concept): next(iter(vectors.values()))}
    return ExportedFile(
        folder, ending, tensors, described(concept, False, told), concept.info.class_noun if told else ""
    )


def word_in_diffusers(concept: Concept) -> str:
    """Return what calls the concept in prompts of diffusers: the placeholder in small letters, for its tokenizer knows no others."""
    return concept.info.placeholder.lower()


def described(concept: Concept, changes_weights: bool, told: bool) -> dict[str, str]:
    """Return what a file says of itself: nothing of the photographs; the base model always, for AUTOMATIC1111 lists LoRAs by it."""
    family = family_named(concept.info.family)
    base = "sdxl_base_v1-0" if family.pooled_from else "sd_v2" if family.name == "sd2" else "sd_v1"
    fields = modelspec_of(replace(concept.info, thumbnail=""), changes_weights) if told else {}
    fields.pop("modelspec.trigger_phrase", None)  # it is the name of the file
    return {**fields, "format": "pt", "ss_base_model_version": base, "ss_v2": str(family.name == "sd2")}


def full_factors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return up [out, r] and down [r, in] whose product is the matrix [out, in] to the last bit; r is its smaller edge."""
    rows, columns = matrix.shape
    one = torch.eye(min(rows, columns))
    return (one, matrix) if rows <= columns else (matrix, one)


def in_precision(name: str, tensor: Tensor, precision: str) -> Tensor:
    """Return a tensor in a precision, one of ``PRECISIONS``.

    Raises:
        UserInputError: the precision is another, or some values are not finite in it.
    """
    if precision not in PRECISIONS:
        raise UserInputError(f"precision must be one of {', '.join(PRECISIONS)}, but got {precision!r}.")
    stored = tensor.to(PRECISIONS[precision]).contiguous()
    if not torch.isfinite(stored).all():
        raise UserInputError(
            f"{name} holds values that are not finite in {precision}. Export in float32; if that is said of float32 too, the "
            "training diverged: train with a lower rate."
        )
    return stored
