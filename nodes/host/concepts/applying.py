"""Put a concept into clones of a MODEL and a CLIP."""

from __future__ import annotations

from typing import Any

from ....dci_core.concept.concept import Concept, ConceptInfo, check_concept_fits
from ....dci_core.log import LOG
from ..families import family_of
from ..tokenizer import clip_with_concept, embedding_widths
from ..weights import base_hash, cross_attention_shapes


def apply_concept(
    model: Any, clip: Any, concept: Concept, strength: float = 1.0, add_class_noun: bool = True
) -> tuple[Any, Any]:
    """Return clones of MODEL and CLIP that know the concept; those given in are not changed.

    Args:
        model: a host MODEL.
        clip: the CLIP of the same checkpoint.
        concept: to be applied.
        strength: of the K/V change; 0 adds no weight patch at all.
        add_class_noun: whether the CLIP reads "V*" alone as "V* <noun>".

    Raises:
        UserInputError: the concept does not fit the model or the CLIP.
    """
    widths = embedding_widths(clip)
    shapes = cross_attention_shapes(model)
    warning = check_concept_fits(concept, family_of(model).name, shapes, widths, base_hash(model))
    if warning:
        LOG.warning("%s", warning)
    patched = model.clone()
    if strength != 0.0:
        patches = {f"{name}.weight": ("diff", (delta,)) for name, delta in concept.deltas.items()}
        added = patched.add_patches(patches, strength)
        if len(added) != len(patches):
            raise RuntimeError(f"The host took {len(added)} of {len(patches)} weight changes. Please report this.")
    return patched, clip_with_concept(clip, concept, add_class_noun)


def reading_of(concept: ConceptInfo, add_class_noun: bool) -> str:
    """Return one line on how the applied CLIP reads the concept's placeholder."""
    name, noun = concept.placeholder, concept.class_noun
    return f'{name} is read as "{name} {noun}"' if add_class_noun else f"{name} is read as written, {noun} is not added"
