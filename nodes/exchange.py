"""ExportConcept: a concept for people and programs without this pack."""

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
from .host.concepts.exporting import check_export, export_files, exported_on, placed
from .host.metadata import is_metadata_disabled
from .host.node_text import announce, text_of_node
from .sockets import TRAIN, ConceptSocket, found_by


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
            lines.append(f"error of the weight changes: {exported.error:.2%}" if exported.error else "no bit is lost")
        called = word or f"embedding:{name}"
        lines.append(f'prompts say "{called} {concept.info.class_noun}"')
        text = "\n".join([*lines, *warnings])
        announce(text, text_of_node(cls.hidden.unique_id))
        return io.NodeOutput(concept, name, ui=ui.PreviewText(text))
