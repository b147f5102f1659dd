"""Write the templates of the template browser from the graphs in workflows/api: the same nodes, where they stand, and what to do.

COMFYUI_PATH=… python -m workbench.templates [--check]
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from workbench.graph_layout import Group, Layout, template_of
from workbench.pack import ROOT, load_pack

WORKFLOWS = ROOT / "workflows"
API = WORKFLOWS / "api"
HUB = "https://huggingface.co"
SD15 = {
    "name": "v1-5-pruned-emaonly-fp16.safetensors",
    "url": f"{HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    "directory": "checkpoints",
}
SDXL = {
    "name": "sd_xl_base_1.0.safetensors",
    "url": f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    "directory": "checkpoints",
}
SCRIBBLE = {
    "name": "control_v11p_sd15_scribble_fp16.safetensors",
    "url": f"{HUB}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/control_v11p_sd15_scribble_fp16.safetensors",
    "directory": "controlnet",
}
GREEN, PURPLE, BROWN = "#8AA", "#a1309b", "#b58b2a"
DIAL = (
    "3. Turn **injection_strength λ**: higher obeys the prompt more, lower keeps closer to your subject. -2 … 2 is useful. "
    "**active_fraction** 0 is plain sampling."
)
TRAINED = "Train a concept first: template *2 Train your subject*."
PICTURE, GRID = (400, 440), (900, 560)
MODEL, PROMPT = Group("1  Model and concept", (("1", "2", "20"),)), Group("2  Prompt", (("21", "22", "23"),), BROWN)
SAMPLE = Group("3  Two branches", (("24", "25"),), PURPLE)
LOOK = Group("4  Look", (("26", "27"), ("28",)), GREEN)
MASKS = (440, 340)
GENERATED = {"26": PICTURE, "28": MASKS}

LAYOUTS: dict[str, Layout] = {
    "demo": Layout(
        "1 Demo",
        "## Your own subject, and the prompt obeyed\n"
        "Press **Run**: everything needed comes with the pack. The demo model learns a subject it has never seen from six pictures "
        "(two minutes on a processor), then puts it into a scene: without DCI, and with the dial **λ** from likeness (low) to obedience "
        "(high).\n\n"
        "It is trained hard, so that it may have forgotten what else the prompt asks for; **λ** is there to bring it back. The learning "
        "rate is this small model's: on your own checkpoint leave it at -1.\n\n"
        "**Change:** 1. the subject, 2. the place in the prompt, 3. the list of λ. Then take *2 Train your subject* with your own "
        "checkpoint and photographs.",
        (
            Group("1  Demo model and subject", (("1", "2", "11", "20"),)),
            Group("2  Train", (("10", "9", "12"),), GREEN),
            Group("3  Prompt", (("21", "22", "23", "31", "32"),), BROWN),
            Group("4  Turn the dial, and see where each had the say", (("24", "30"), ("25", "26", "33")), PURPLE),
        ),
        {"2": (300, 360), "12": (300, 300), "25": (520, 470), "26": (520, 360), "33": (520, 370)},
        collapsed=("9",),
        has_note_beside=True,
    ),
    "train": Layout(
        "2 Train your subject",
        "## Teach the model your subject\n"
        "1. Load the checkpoint you like: SD1.x, SD2.x or SDXL.\n"
        "2. Put 4 to 8 photographs of your subject into a folder inside ComfyUI's *input* folder, and choose it in **Load Image Folder**. "
        "`cat.txt` beside `cat.png` says what is around it; `cat_mask.png` what counts.\n"
        "3. Write the plain word for what it is into **Class noun** (toy, cat, backpack …) and run.\n\n"
        "First the class images are drawn, once for each checkpoint and noun, then the training starts; both say how long is left. Cancel "
        "whenever you like: the same graph goes on. The concept is saved to `models/dci_concepts`. Next: *3 Generate with the dial*.",
        (
            Group("1  Photographs and model", (("2", "7", "1"),)),
            Group("2  Class images", (("8",),), BROWN),
            Group("3  Train", (("10",),), GREEN),
            Group("4  Keep", (("11", "14"),), PURPLE),
        ),
        {"2": (300, 420), "8": (400, 460), "10": (360, 860), "14": PICTURE},
        {"1": (SD15,)},
    ),
    "generate": Layout(
        "3 Generate with the dial",
        "## Generate with your subject\n"
        f"1. Load the checkpoint and the concept you trained. {TRAINED}\n"
        "2. Write a prompt with **V\\*** and its class noun where your subject belongs.\n"
        f"{DIAL}\n\n"
        "The mask picture shows where your subject had the say (orange) and where the scene (blue).",
        (MODEL, PROMPT, SAMPLE, LOOK),
        GENERATED,
        {"1": (SD15,)},
    ),
    "sweep": Layout(
        "4 Lambda sweep",
        "## Find your λ in one run\n"
        f"1. Load the checkpoint and the concept you trained. {TRAINED}\n"
        "2. Write a prompt with **V\\*** and its class noun.\n"
        "3. **injection_strengths** is a list, or from:to:step. Each picture is what *DCI Sampler* gives with that λ and seed, bit for bit; "
        "*no DCI* stands beside them.",
        (MODEL, PROMPT, Group("3  Every λ", (("24",),), PURPLE), Group("4  Look", (("25", "26"),), GREEN)),
        {"24": (360, 920), "25": GRID, "26": (900, 360)},
        {"1": (SD15,)},
    ),
    "controlnet": Layout(
        "5 ControlNet",
        "## Your subject where a drawing says\n"
        f"1. Load the checkpoint, the concept and a ControlNet of the same family. {TRAINED}\n"
        "2. Load a drawing, white lines on black, and write the prompt with **V\\***.\n"
        f"{DIAL}\n\n"
        "ControlNet sits between *Aux Prompt Builder* and the sampler, as always: the conditioning carries its auxiliary prompt along, so "
        "both branches get it.",
        (MODEL, PROMPT, Group("3  Drawing", (("30", "31", "32"),)), SAMPLE, LOOK),
        {**GENERATED, "30": (300, 340)},
        {"1": (SD15,), "31": (SCRIBBLE,)},
    ),
    "inpaint": Layout(
        "6 Inpaint your subject",
        "## Your subject in a picture you have\n"
        f"1. Load the checkpoint and the concept. {TRAINED}\n"
        "2. Load a picture, right-click it, *Open in MaskEditor*, paint where your subject should be. Write what is there around it into "
        "the prompt, with **V\\***.\n"
        "3. **denoise** 0.9 keeps something of what was there, 1 nothing. λ: lower keeps closer to your subject.\n\n"
        "Everything outside the mask stays as it was, pixel for pixel.",
        (
            MODEL,
            Group("2  Prompt", (("21", "22"),), BROWN),
            Group("3  Picture", (("30", "31", "32"),)),
            SAMPLE,
            Group("4  Look", (("33", "26"), ("27", "28")), GREEN),
        ),
        {"30": (300, 380), "26": PICTURE, "28": MASKS},
        {"1": (SD15,)},
    ),
    "sdxl": Layout(
        "7 SDXL",
        "## Your subject with SDXL\n"
        "1. Load an SDXL checkpoint and a concept that was trained on one: in *2 Train your subject* choose SDXL, and `rank` 16 in *DCI "
        "Training Settings* if memory is short.\n"
        "2. Write a prompt with **V\\*** and its class noun.\n"
        f"{DIAL}\n\n"
        "For SDXL's sizes put *DCI SDXL Sizes* behind *Aux Prompt Builder*: it sets them for both branches.",
        (MODEL, PROMPT, SAMPLE, LOOK),
        GENERATED,
        {"1": (SDXL,)},
    ),
    "any_sampler": Layout(
        "8 Any sampler",
        "## DCI with the sampler you like\n"
        f"1. Load the checkpoint and the concept. {TRAINED}\n"
        "2. Put **Apply DCI** on the model, and behind it any sampler, scheduler or guider of ComfyUI.\n"
        "3. The λ of *Apply DCI* is the dial; its `masks` are those of the picture that the sampler makes.\n\n"
        "With euler and the same settings this is *DCI Sampler*, bit for bit.",
        (MODEL, PROMPT, Group("3  Two branches", (("24", "30", "25"),), PURPLE), LOOK),
        GENERATED,
        {"1": (SD15,)},
    ),
    "two_subjects": Layout(
        "9 Two subjects",
        "## Two of your subjects in one picture\n"
        f"1. Load both concepts; the second is called **W\\*** by its *Apply Concept*. {TRAINED}\n"
        "2. Name both in the prompt, each with its class noun, and give an **auxiliary_noun** for each, with a comma between.\n"
        f"{DIAL}\n\n"
        "Do not expect too much of the second: a companion is small in the picture, and small things come out less like themselves.",
        (
            Group("1  Model and concepts", (("1", "2", "3"), ("20", "29"))),
            PROMPT,
            SAMPLE,
            LOOK,
        ),
        GENERATED,
        {"1": (SD15,)},
    ),
    "lora_dial": Layout(
        "LoRA dial",
        "## The dial on a LoRA you have\n"
        "1. **subject**: the words of your prompt that name it, the same in both, trigger word and plain word: *sks dog*; for tags *miku, "
        "1girl*; for an embedding *embedding:my-cat cat*.\n"
        "2. **λ**: run, and compare with *no DCI*, which is your LoRA as it is. Try 0, then 1 and 2, with **active_fraction T_a** 0.2, "
        "then 0.3 and 0.5. Still stiff? **auxiliary_lora_strength** 0.5.\n"
        "3. **The likeness goes?** λ down to -1 and -2, then T_a down. Leave the LoRA at the strength that shows your subject.",
        (
            Group("1  Model and LoRA", (("1", "20"),)),
            Group("2  Prompt and subject", (("21", "22", "23"),), BROWN),
            Group("3  Turn the dial", (("24",),), PURPLE),
            Group("4  Look", (("26", "27"),), GREEN),
        ),
        {"24": (360, 920), "26": (820, 480), "27": (820, 420)},
        {"1": (SD15,)},
    ),
}
"""By the name of the graph in workflows/api."""


def graph_of(name: str) -> dict[str, Any]:
    """Return a graph of workflows/api."""
    graph: dict[str, Any] = json.loads((API / f"{name}.json").read_text(encoding="utf-8"))
    return graph


def file_of(name: str) -> Path:
    """Return the file of a template, by the name of its graph."""
    return WORKFLOWS / f"{LAYOUTS[name].title}.json"


def text_of(name: str) -> str:
    """Return the text of a template's file. The host's nodes are loaded before, see ``load_host_nodes``."""
    import nodes as host_nodes

    template = template_of(graph_of(name), LAYOUTS[name], host_nodes.NODE_CLASS_MAPPINGS)
    return json.dumps(template, indent=1, ensure_ascii=False) + "\n"


def load_host_nodes() -> None:
    """Let the host know its own extra nodes and those of the pack, as after its start."""
    import nodes as host_nodes
    from comfyui_dci.nodes.extension import DCIExtension

    if (
        "ControlNetApplyAdvanced" not in host_nodes.NODE_CLASS_MAPPINGS
        or "PrimitiveString" not in host_nodes.NODE_CLASS_MAPPINGS
    ):
        asyncio.run(host_nodes.init_builtin_extra_nodes())
    for node in asyncio.run(DCIExtension().get_node_list()):
        host_nodes.NODE_CLASS_MAPPINGS[node.define_schema().node_id] = node


def main() -> None:
    """Write the files, or say which of them would change. The pack is loaded before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something would change")
    check = parser.parse_args().check
    load_host_nodes()
    texts = {file_of(name): text_of(name) for name in LAYOUTS}
    changed = {
        file: text for file, text in texts.items() if not file.exists() or file.read_text(encoding="utf-8") != text
    }
    for file, text in changed.items():
        print(f"{'would change' if check else 'changed'}: {file.relative_to(ROOT)}")
        if not check:
            file.write_text(text, encoding="utf-8")
    if check and changed:
        raise SystemExit("Run python -m workbench.templates and look at what it changes in ComfyUI.")


if __name__ == "__main__":
    load_pack(cpu=True)
    main()
