"""Train a concept from a folder of photographs, without a graph.

PYTHONPATH=ComfyUI python train_without_the_node.py sd15.safetensors photos cat my_cat.safetensors
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import comfy.cli_args
import torch

if not torch.cuda.is_available():
    comfy.cli_args.args.cpu = True  # ComfyUI looks for its device when the modules below are imported

import comfy.sd
from custom_nodes.comfyui_dci.dci_core.concept.file import save_concept
from custom_nodes.comfyui_dci.dci_core.images.folder import read_and_report
from custom_nodes.comfyui_dci.dci_core.training.presets import PresetName
from custom_nodes.comfyui_dci.dci_core.training.settings import TrainingSettings
from custom_nodes.comfyui_dci.nodes.host.model import HostModel
from custom_nodes.comfyui_dci.nodes.host.training.inputs import TrainingInputs, captions_from, masks_from
from custom_nodes.comfyui_dci.nodes.host.training.model_scale import values_for
from custom_nodes.comfyui_dci.nodes.host.training.observer import TrainingObserver
from custom_nodes.comfyui_dci.nodes.host.training.trainer import Storage, train_concept


class Log(TrainingObserver):
    """Tell every step."""

    def on_step(self, step: int, loss: float) -> None:
        logging.info("step %d, loss %.4f", step, loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="SD1.x, SD2.x or SDXL, with CLIP and VAE")
    parser.add_argument(
        "images", type=Path, help="folder of photographs; captions (cat.txt) and masks (cat_mask.png) beside them"
    )
    parser.add_argument("class_noun", help="the plain word for what they show")
    parser.add_argument("concept", type=Path, help="file to write; the run is kept in the folder training beside it")
    parser.add_argument("--steps", type=int, default=-1, help="-1: the preset's")
    parser.add_argument("--resolution", type=int, default=0, help="pixels; 0: the model's own")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    with torch.inference_mode():  # as ComfyUI runs its nodes
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(given.checkpoint))
        base = HostModel(model, clip, vae)
        photographs, found = read_and_report(given.images)
        inputs = TrainingInputs(
            [photograph.image for photograph in photographs],
            given.class_noun,
            resolution=given.resolution,
            masks=masks_from([photograph.mask for photograph in photographs]),
            captions=captions_from([photograph.caption for photograph in photographs], len(photographs)),
        )
        logging.info("\n".join([found, *inputs.remarks(base.family.resolution(given.resolution))]))
        own = {} if given.steps == -1 else {"steps": given.steps}
        settings = TrainingSettings(**values_for(base, PresetName.WITH_DCI, own).settings, seed=given.seed)
        storage = Storage(given.concept.parent / "training")
        concept, _ = train_concept(base, inputs, settings, storage, observer=Log())
    save_concept(concept, given.concept)


if __name__ == "__main__":
    main()
