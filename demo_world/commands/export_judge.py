"""Write the trained classifier, which scores what the demo model draws, as one fp16 safetensors file."""

from __future__ import annotations

import json

from comfyui_dci.dci_core.files import write_atomically
from safetensors.torch import save_file

from demo_world.classifier import JUDGE_FILE, NAMES, load_classifier
from demo_world.storage import training_log


def main() -> None:
    model = load_classifier()
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    metadata = {"format": "pt", "classes": json.dumps(NAMES)}
    write_atomically(JUDGE_FILE, lambda temporary: save_file(tensors, temporary, metadata))
    training_log("judge").info("wrote %s, %.1f MB", JUDGE_FILE, JUDGE_FILE.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
