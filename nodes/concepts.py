"""SaveConcept, LoadConcept and ApplyConcept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui

from ..dci_core.concept.concept import Concept, renamed
from ..dci_core.concept.file import PRECISIONS, load_concept, save_concept
from ..dci_core.concept.low_rank import MOST_RANK
from ..dci_core.concept.metadata import Metadata
from ..dci_core.concept.size import most_file_bytes
from ..dci_core.errors import UserInputError
from .host.concepts.applying import apply_concept
from .host.concepts.listing import offered_concepts
from .host.concepts.saving import check_place, save_as
from .host.concepts.store import FOLDER, find_concept, name_of
from .host.metadata import graph_of, is_metadata_disabled
from .host.node_text import announce, text_of_node, warn
from .sockets import SAMPLE, TRAIN, ConceptSocket, found_by


class SaveConcept(io.ComfyNode):
    """Write a concept file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCISaveConcept",
            display_name="Save Concept",
            category=TRAIN,
            search_aliases=found_by("export lora", "embedding", "safetensors"),
            description=f"Saves a trained concept to models/{FOLDER}, complete or not at all.",
            inputs=[
                ConceptSocket.Input("concept", tooltip="From ICOTrainer."),
                io.String.Input(
                    "name",
                    default="my_concept",
                    tooltip=f'File name in models/{FOLDER}, without ending; "/" makes subfolders.',
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="float16",
                    tooltip="Of the weight changes. float16 halves the file; float32 keeps every bit.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Off: an existing file is kept and a number is added to the name.",
                    optional=True,
                    advanced=True,
                ),
                io.Int.Input(
                    "rank",
                    default=0,
                    min=0,
                    max=MOST_RANK,
                    optional=True,
                    advanced=True,
                    tooltip="0 keeps the weight changes whole. 32 makes the file about six times smaller at an error that is told; "
                    "a concept trained at a rank loses nothing at that rank.",
                ),
                io.Combo.Input(
                    "metadata",
                    options=[kept.value for kept in Metadata],
                    default=Metadata.ALL.value,
                    optional=True,
                    advanced=True,
                    tooltip="What the file says about its training. all: everything, and the workflow, which the file brings back when it "
                    "is dropped on the canvas. no picture: all but the small picture of the first photograph. least: only what is needed "
                    "to load and apply it, as always when ComfyUI runs with --disable-metadata.",
                ),
            ],
            outputs=[
                ConceptSocket.Output(display_name="concept", tooltip="The same concept."),
                io.String.Output(display_name="file_name", tooltip=f"Name of the file in models/{FOLDER}."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None) -> bool | str:
        try:
            check_place("name to come" if name is None else name)  # a linked one is known when it runs
        except UserInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        concept: Concept,
        name: str,
        precision: str,
        overwrite: bool = False,
        rank: int = 0,
        metadata: str = Metadata.ALL.value,
    ) -> io.NodeOutput:
        saved = concept if concept.graph else replace(concept, graph=graph_of(cls.hidden))
        disabled = is_metadata_disabled()
        kept = Metadata.LEAST if disabled else Metadata(metadata)
        path, error = save_as(
            name,
            overwrite,
            concept.info,
            most_file_bytes(saved, precision, rank),
            lambda path, may_replace: save_concept(saved, path, precision, rank, kept, may_replace),
        )
        name = name_of(path)
        told = f"saved {name}, {path.stat().st_size / 1e6:.1f} MB" + (
            f", rank {rank}: error {error:.2%}" if rank else ""
        )
        if kept is not Metadata.ALL:
            told += f", metadata: {kept.value}{' (--disable-metadata)' if disabled else ''}"
        announce(told, text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(concept, name, ui=ui.PreviewText(told))


class LoadConcept(io.ComfyNode):
    """Read a concept file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCILoadConcept",
            display_name="Load Concept",
            category=SAMPLE,
            search_aliases=found_by("lora loader", "checkpoints of a training"),
            description=f"Loads a concept from models/{FOLDER}; the file is checked completely before it is used.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=offered_concepts(),
                    optional=True,
                    tooltip=f"A file in models/{FOLDER}; below the saved ones what trainings have left, by subject, steps and date.",
                ),
                io.String.Input(
                    "file_name",
                    optional=True,
                    force_input=True,
                    tooltip="From Save Concept: that file is loaded, whatever name is set to.",
                ),
            ],
            outputs=[ConceptSocket.Output(display_name="concept", tooltip="For Apply Concept.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = "", file_name: str | None = "") -> bool | str:
        if name is None or file_name is None:  # linked, and known when it runs
            return True
        try:
            find_concept(file_name or name)
        except UserInputError as error:
            if not (file_name or name):
                raise  # the host looks at what is returned only where an input is given
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, name: str | None = "", file_name: str | None = "") -> str:
        if name is None or file_name is None:  # then what it is linked to says whether it changed
            return ""
        stat = find_concept(file_name or name).stat()
        return f"{stat.st_mtime_ns}-{stat.st_size}"

    @classmethod
    def execute(cls, name: str | None = "", file_name: str = "") -> io.NodeOutput:
        unread: list[str] = []
        concept = load_concept(find_concept(file_name or name or ""), unread.append)
        if unread:
            warn("\n".join(unread), text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(concept)


class ApplyConcept(io.ComfyNode):
    """Put a concept into a model and a CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIApplyConcept",
            display_name="Apply Concept",
            category=SAMPLE,
            search_aliases=found_by("lora loader", "subject", "V*"),
            description='Teaches model and CLIP your subject. Every text encode wired to this CLIP then knows V*, as in "a V* cat".',
            inputs=[
                io.Model.Input("model", tooltip="A model of the family the concept was trained on."),
                io.Clip.Input("clip", tooltip="Its CLIP."),
                ConceptSocket.Input("concept", tooltip="From ICOTrainer or Load Concept."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Of the change to the model's K and V weights. 1 is as trained, 0 leaves the model as it "
                    "was; V* is known either way.",
                ),
                io.String.Input(
                    "placeholder",
                    default="",
                    optional=True,
                    tooltip="How prompts call this concept from here on. Empty: as trained, usually V*. Needed for two concepts "
                    "in one prompt.",
                ),
                io.Boolean.Input(
                    "add_class_noun",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip='On: V* alone is read as V* and its class noun ("V* cat"). The two were trained together; V* alone is '
                    "not your subject. Off: prompts are taken as written.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="A clone; the model given in is not changed."),
                io.Clip.Output(display_name="clip", tooltip="A clone that knows V*."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        concept: Concept,
        strength: float,
        placeholder: str = "",
        add_class_noun: bool = True,
    ) -> io.NodeOutput:
        named = renamed(concept, placeholder)
        tell = text_of_node(cls.hidden.unique_id)
        return io.NodeOutput(*apply_concept(model, clip, named, strength, add_class_noun, tell))
