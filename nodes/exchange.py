"""ExportConcept and ImportConcept: concepts for and from programs without this pack."""

from __future__ import annotations

from enum import Enum
from typing import Any

from comfy_api.latest import io, ui

from ..dci_core.concept.concept import Concept
from ..dci_core.concept.diffusers_layout import DIFFUSERS
from ..dci_core.concept.exchange import EMBEDDINGS, LORAS, lora_and_embedding, word_in_diffusers
from ..dci_core.concept.file import PRECISIONS
from ..dci_core.concept.low_rank import MOST_RANK
from ..dci_core.errors import UserInputError
from ..dci_core.prompt.words import check_class_noun, check_placeholder
from .host.concepts.exporting import check_export, export_files, exported_on, placed
from .host.concepts.importing import NONE, chosen_files, import_concept, offered_files
from .host.metadata import is_metadata_disabled
from .host.node_text import announce, text_of_node
from .sockets import SAMPLE, TRAIN, ConceptSocket, found_by


class Layout(str, Enum):
    """For whom a concept is exported; the values are public."""

    LORA = "lora_and_embedding"
    DIFFUSERS = "diffusers"

    @property
    def folders(self) -> tuple[str, ...]:
        """The host's model folders that the files go into."""
        return (DIFFUSERS,) if self is Layout.DIFFUSERS else (LORAS, EMBEDDINGS)


class ExportConcept(io.ComfyNode):
    """Write a concept for other programs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIExportConcept",
            display_name="DCI Export Concept",
            category=TRAIN,
            search_aliases=found_by("export lora", "embedding", "kohya", "diffusers", "automatic1111", "forge"),
            description="Writes a concept for people without this pack: a LoRA and an embedding, or diffusers' Custom Diffusion files.",
            inputs=[
                ConceptSocket.Input("concept", tooltip="From ICOTrainer or Load Concept."),
                io.String.Input(
                    "name",
                    default="my_concept",
                    tooltip='Name of the files, without ending; prompts say embedding:name. "/" makes subfolders.',
                ),
                io.Combo.Input(
                    "layout",
                    options=[layout.value for layout in Layout],
                    default=Layout.LORA.value,
                    tooltip="lora_and_embedding: models/loras and models/embeddings, for ComfyUI, AUTOMATIC1111, Forge and diffusers. "
                    "diffusers: a folder in models/diffusers with whole weights; needs model.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="float16",
                    tooltip="Of the weights. float16 halves the file at an error that is told; float32 keeps every bit of a LoRA.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The checkpoint the concept was trained on. Only diffusers needs it: those files hold whole weights.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Off: existing files are kept and a number is added to the name.",
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
                    tooltip="Of the LoRA. 0 is full rank, which loses nothing; 32 makes the file about ten times smaller at an error that "
                    "is told. A concept trained at a rank loses nothing at that rank.",
                ),
            ],
            outputs=[
                ConceptSocket.Output(display_name="concept", tooltip="The same concept."),
                io.String.Output(display_name="name", tooltip="Name of the files, without ending."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None, layout: str | None) -> bool | str:
        layouts = [known.value for known in Layout]
        if layout is not None and layout not in layouts:
            return f"layout must be one of {', '.join(layouts)}, but got {layout!r}."
        try:  # what is linked is known when it runs
            check_export("name_to_come" if name is None else name, Layout(layout or Layout.LORA).folders)
        except UserInputError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        concept: Concept,
        name: str,
        layout: str,
        precision: str,
        model: Any = None,
        overwrite: bool = False,
        rank: int = 0,
    ) -> io.NodeOutput:
        told = not is_metadata_disabled()
        warnings: list[str] = []
        if Layout(layout) is Layout.DIFFUSERS:
            exported, warnings = exported_on(model, concept, precision, rank, told)
        else:
            exported = lora_and_embedding(concept, precision, rank, told)
        word = word_in_diffusers(concept) if Layout(layout) is Layout.DIFFUSERS else ""
        name, paths = export_files(exported.files, name, overwrite, word)
        lines = [f"exported {name}: {placed(paths)}"]
        if exported.error is not None:
            lines.append(_lost(exported.error))
        called = word or f"embedding:{name}"
        lines.append(f'prompts say "{called} {concept.info.class_noun}"')
        text = "\n".join([*lines, *warnings])
        announce(text, text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(concept, name, ui=ui.PreviewText(text))


def _lost(error: float) -> str:
    """Return what an export has lost of the weight changes, in words."""
    return (
        f"error of the weight changes: {max(error, 1e-4):.2%}{' at most' * (error < 1e-4)}"
        if error
        else "no bit is lost"
    )


class ImportConcept(io.ComfyNode):
    """Read a concept that another program has trained."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DCIImportConcept",
            display_name="DCI Import Concept",
            category=SAMPLE,
            search_aliases=found_by("textual inversion", "custom diffusion", "diffusers", "embedding", "delta"),
            description="Makes a concept of files that another trainer has written: textual inversions and Custom Diffusion of "
            "diffusers, embeddings, Custom Diffusion's delta files, and those of the authors of DCI.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The checkpoint the files were trained on: a concept is what differs from it. LoRAs are left out.",
                ),
                io.Clip.Input("clip", tooltip="Its CLIP."),
                io.Combo.Input(
                    "weights",
                    options=offered_files(LORAS),
                    default=NONE,
                    tooltip=f"A file in models/{LORAS} with K and V weights. none: a textual inversion, which changes no weights.",
                ),
                io.Combo.Input(
                    "embedding",
                    options=offered_files(EMBEDDINGS),
                    default=NONE,
                    tooltip=f"A file in models/{EMBEDDINGS} with the vectors of the word. none where the weights' file holds them too.",
                ),
                io.String.Input(
                    "class_noun",
                    default="cat",
                    tooltip="The plain word for the subject, which stood behind the word in the training: V* alone is read with it.",
                ),
                io.String.Input(
                    "placeholder",
                    default="V*",
                    optional=True,
                    tooltip="How prompts call the concept from here on, whatever the file calls it.",
                ),
                io.String.Input(
                    "word",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Of a file that holds several, such as <new1>: the one that V* stands for. Empty: all together.",
                ),
            ],
            outputs=[ConceptSocket.Output(display_name="concept", tooltip="For Apply Concept and Save Concept.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls, weights: str | None, embedding: str | None, class_noun: str | None, placeholder: str | None = "V*"
    ) -> bool | str:
        try:  # what is linked is known when it runs
            if weights is not None and embedding is not None:
                chosen_files(weights, embedding)
            noun = "cat" if class_noun is None else check_class_noun(class_noun)
            if placeholder is not None:
                check_placeholder(placeholder.strip(), noun)
        except UserInputError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, weights: str | None = NONE, embedding: str | None = NONE, **others: Any) -> str:
        if weights is None or embedding is None:  # then what it is linked to says whether it changed
            return ""
        stats = [path.stat() for path in chosen_files(weights, embedding)]
        return " ".join(f"{stat.st_mtime_ns}-{stat.st_size}" for stat in stats)

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        weights: str,
        embedding: str,
        class_noun: str,
        placeholder: str = "V*",
        word: str = "",
    ) -> io.NodeOutput:
        noun, placeholder = check_class_noun(class_noun), placeholder.strip()
        check_placeholder(placeholder, noun)
        files = chosen_files(weights, embedding)
        imported = import_concept(model, clip, files, noun, placeholder, word.strip())
        concept = imported.concept
        count = f"{concept.info.concept_vectors} vector{'' if concept.info.concept_vectors == 1 else 's'}"
        changed = f"{len(concept.deltas)} weights" if concept.deltas else "no weights: a textual inversion"
        text = "\n".join([f"read {' and '.join(file.name for file in files)}: {count}, {changed}", *imported.remarks])
        announce(text, text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(concept)
