"""What a concept says about the run it comes from, and the key by which a run of the same inputs is known again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....dci_core.concept.concept import Concept, ConceptInfo
from ....dci_core.concept.metadata import least
from ....dci_core.fingerprint import run_key, tensors_hash
from ....dci_core.images.crop import on_white, thumbnail_of
from ....dci_core.training.concept_training import ConceptTraining
from ....dci_core.training.report import relative_change
from ....dci_core.training.run import best_evaluation
from ....dci_core.training.settings import TrainingSettings
from ....dci_core.version import VERSION
from ..base_facts import base_facts
from ..metadata import is_metadata_disabled
from ..model import HostModel
from ..weights import patched_hash
from .inputs import TrainingInputs

SHAPES_NOTHING = ("gradient_checkpointing",)
"""Settings with which a run goes on to the same bits, so that it may be resumed with another value."""


class ConceptMaker:
    """Make the concept of a run's steps so far.

    Args:
        base: what is trained on.
        inputs, settings: of the run.
        key: of the run, or "".
    """

    def __init__(self, base: HostModel, inputs: TrainingInputs, settings: TrainingSettings, key: str) -> None:
        self._keep_contexts = inputs.keep_contexts and settings.mode.learns_contexts and settings.scheme.contexts > 0
        self._fixed: dict[str, Any] = {
            "family": base.family.name,
            "class_noun": inputs.class_noun,
            "placeholder": inputs.placeholder,
            "prefix": settings.scheme.prefix if settings.mode.learns_contexts else 0,
            "suffix": settings.scheme.suffix if settings.mode.learns_contexts else 0,
            "concept_vectors": settings.scheme.concept_vectors,
            "seed": settings.seed,
            **asdict(base_facts(base.model, base.clip)),
            "settings": described(settings, inputs) | {"resolution": base.family.resolution(inputs.resolution)},
            "package_version": VERSION,
            "training_key": key,
            "dataset_hash": dataset_hash(inputs),
            "thumbnail": thumbnail_of(inputs.images[0]),
            "versions": {"torch": torch.__version__, "comfyui": _host_version()},
        }

    @property
    def facts(self) -> Mapping[str, Any]:
        """What every concept of the run says of it, fields of ``ConceptInfo`` by name."""
        return self._fixed

    def __call__(self, training: ConceptTraining) -> Concept:
        """Return the concept, on the CPU and free of the run."""
        history: dict[str, Any] = {"loss": list(training.losses)}
        best = best_evaluation(training)
        if best is not None:
            history |= {"evaluations": [dict(entry) for entry in training.evaluations], "best_step": int(best["step"])}
        history |= {name: dict(part) for name, part in (("start", training.start), ("end", training.end)) if part}
        with training.result():
            contexts = _copies(training.prompts.contexts) if self._keep_contexts else None
            deltas, tokens = training.deltas(), _copies(training.prompts.tokens)
        change = relative_change(deltas, training.model.denoiser.key_value_norms)
        if change is not None:
            history["key_value_change"] = change
        info = ConceptInfo(steps=training.steps_done, history=history, **self._fixed)
        if is_metadata_disabled():  # its numbers stay: a finished run gives them back
            info = replace(least(info), training_key=info.training_key, history=history)
        return Concept(deltas, tokens, info, contexts)


def described(settings: TrainingSettings, inputs: TrainingInputs) -> dict[str, Any]:
    """Return every setting as JSON values; the scheme has fields of its own in the file."""
    plain = {name: getattr(value, "value", value) for name, value in asdict(settings).items()}
    del plain["scheme"], plain["seed"]
    return plain | {
        "images": len(inputs.images),
        "regularization_images": len(inputs.regularization_images),
        "masks": len(inputs.masks),
        "captions": sum(bool(caption.strip()) for caption in inputs.captions),
        "crop": inputs.crop.value,
    }


@dataclass(frozen=True)
class RunKeys:
    """How a run is known again.

    Args:
        run: ``key_of`` it.
        path: the same without the number of steps, for runs that begin with the same steps; "" where there are none.
    """

    run: str
    path: str


def keys_of(base: HostModel, inputs: TrainingInputs, settings: TrainingSettings) -> RunKeys:
    """Return both keys of a run."""
    parts = _shaping_parts(base, inputs, settings)
    of_any_length = {name: value for name, value in parts["settings"].items() if name != "steps"}
    return RunKeys(run_key(parts), run_key({**parts, "settings": of_any_length}) if settings.goes_on else "")


def key_of(base: HostModel, inputs: TrainingInputs, settings: TrainingSettings) -> str:
    """Return the key of a run: everything that shapes its result, down to the weights and the LoRAs on them."""
    return run_key(_shaping_parts(base, inputs, settings))


def _shaping_parts(base: HostModel, inputs: TrainingInputs, settings: TrainingSettings) -> dict[str, Any]:
    shaping = {name: value for name, value in asdict(settings).items() if name not in SHAPES_NOTHING}
    image_captions = {"image captions": list(inputs.captions)} if any(inputs.captions) else {}
    return {
        "version": VERSION,
        **model_facts(base),
        "dataset": dataset_hash(inputs),
        "settings": shaping | {"placeholder": inputs.placeholder, "keep_contexts": inputs.keep_contexts},
        "class_noun": inputs.class_noun,
        "captions": list(inputs.regularization_captions),
        "resolution": [inputs.resolution, inputs.crop.value],
        **image_captions,
    }


def model_facts(base: HostModel) -> dict[str, Any]:
    """Return what tells a checkpoint from others, as JSON values: its weights with the patches on them, and how it predicts.

    Only the text encoder that is asked for a pooled vector needs its projection; checkpoints may lack the others, and the
    host then leaves them uninitialised, different in every process.
    """
    idle = [name for name in base.family.text_encoders if name != base.family.pooled_from]
    unused = tuple(f"{name}.transformer.text_projection.weight" for name in idle)
    return {
        "model": patched_hash(base.model),
        "clip": [patched_hash(base.clip.patcher, unused), base.clip.layer_idx],
        "vae": tensors_hash(base.vae.first_stage_model.state_dict().items()),
        "prediction": base.prediction.value,
        "sigmas": tensors_hash([("sigmas", base.sigmas)]),
    }


def dataset_hash(inputs: TrainingInputs) -> str:
    """Return the SHA-256 of all images and masks in their order, images as they are trained on: laid on white."""
    images = {
        "image": map(on_white, inputs.images),
        "class image": map(on_white, inputs.regularization_images),
        "mask": inputs.masks,
    }
    return tensors_hash((f"{kind} {i:06d}", image) for kind, some in images.items() for i, image in enumerate(some))


def _copies(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: vectors.detach().cpu().clone() for name, vectors in tensors.items()}


def _host_version() -> str:
    try:
        from comfyui_version import __version__
    except ImportError:
        return "unknown"
    return str(__version__)
