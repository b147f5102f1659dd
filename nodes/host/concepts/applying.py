"""Put a concept into clones of a MODEL and a CLIP."""

from __future__ import annotations

from typing import Any

from ....dci_core.concept.base import differences
from ....dci_core.concept.concept import Concept, ConceptInfo, check_concept_fits
from ....dci_core.errors import UserInputError
from ....dci_core.log import LOG
from ....dci_core.prompt.words import placeholder_warning
from ..base_facts import base_facts_beside, concept_patches
from ..carried import carry, mark_of
from ..families import family_of
from ..node_text import Tell, show
from ..tokenizer import clip_with_concept, embedding_widths
from ..weights import cross_attention_shapes, key_value_quantisation


def apply_concept(
    model: Any,
    clip: Any,
    concept: Concept,
    strength: float = 1.0,
    add_class_noun: bool = True,
    tell: Tell | None = None,
) -> tuple[Any, Any]:
    """Return clones of MODEL and CLIP that know the concept; those given in are not changed.

    Args:
        model: a host MODEL.
        clip: the CLIP of the same checkpoint.
        concept: to be applied.
        strength: of the K/V change; 0 adds no weight patch at all.
        add_class_noun: whether the CLIP reads "V*" alone as "V* <noun>".
        tell: is told how V* is read, and what there is to warn of: each difference from what the concept was trained on, a
            common word as placeholder. The log has it in any case.

    Raises:
        UserInputError: the concept does not fit the model or the CLIP.
    """
    check_concept_fits(concept, family_of(model).name, cross_attention_shapes(model), embedding_widths(clip))
    facts = base_facts_beside(model, clip, concept.info)
    warnings = differences(concept.info, facts, key_value_quantisation(model))
    common = placeholder_warning(concept.info.placeholder)
    warnings += [common] if common else []
    for warning in warnings:
        LOG.warning("%s", warning)
    patched = model.clone()
    carry(patched, mark_of(concept.tokens), concept.info.thumbnail)
    if strength != 0.0:
        patches = concept_patches(concept)
        added = patched.add_patches(patches, strength)
        if len(added) != len(patches):
            raise UserInputError(
                f"This model takes {len(added)} of the concept's {len(patches)} weight changes: its loader keeps the weights in "
                "a way that the host cannot patch. Load an fp16, bf16 or fp32 file of the same checkpoint with a loader of the "
                "host."
            )
    knowing = clip_with_concept(clip, concept, add_class_noun)
    reading = reading_of(concept.info, add_class_noun)
    LOG.info("DCI: %s", reading)
    show("\n".join([reading, *warnings]), tell)
    return patched, knowing


def reading_of(concept: ConceptInfo, add_class_noun: bool) -> str:
    """Return one line on how the applied CLIP reads the concept's placeholder."""
    name, noun = concept.placeholder, concept.class_noun
    return f'{name} is read as "{name} {noun}"' if add_class_noun else f"{name} is read as written, {noun} is not added"
