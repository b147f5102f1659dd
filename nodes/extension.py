"""The list of nodes, and what has to be registered with the host before they are used."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply_dci import ApplyDCI
from .aux_prompt_builder import AuxPromptBuilder
from .class_images import ClassImages
from .concepts import ApplyConcept, LoadConcept, SaveConcept
from .dci_sampler import DCISampler
from .demo import DemoModel, DemoSubject
from .exchange import ExportConcept, ImportConcept
from .host.concepts.store import register_folder
from .ico_trainer import ICOTrainer
from .image_folder import LoadImageFolder
from .lambda_sweep import LambdaSweep
from .mask_visualizer import MaskVisualizer
from .sdxl_sizes import SDXLSizes
from .strength_schedule import StrengthSchedule
from .tidy_trainings import TidyTrainings
from .training_details import Checkpoints, TrainingDetails

NODES: list[type[io.ComfyNode]] = [
    ICOTrainer,
    SaveConcept,
    LoadConcept,
    ApplyConcept,
    AuxPromptBuilder,
    DCISampler,
    ApplyDCI,
    MaskVisualizer,
    LambdaSweep,
    StrengthSchedule,
    LoadImageFolder,
    DemoModel,
    DemoSubject,
    ClassImages,
    TidyTrainings,
    SDXLSizes,
    TrainingDetails,
    Checkpoints,
    ExportConcept,
    ImportConcept,
]


class DCIExtension(ComfyExtension):
    """Registers the concept folder and the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_folder()
        return NODES
