"""The pack as the registry installs it: the shipped files alone, in a folder with the project's name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from shipped_files import ROOT, copy_files, shipped_files

FOLDER = "dci-customization"
"""As the registry names it in custom_nodes: by the project's name."""
USE_IT = """
import asyncio, importlib.util, json, sys, torch
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import comfy.cli_args
comfy.cli_args.args.cpu = True
import folder_paths
root = Path(sys.argv[2])
folder_paths.models_dir = str(root.parent / "models")
spec = importlib.util.spec_from_file_location(str(root), root / "__init__.py", submodule_search_locations=[str(root)])
pack = importlib.util.module_from_spec(spec)
sys.modules[str(root)] = pack
spec.loader.exec_module(pack)
nodes = {node.GET_SCHEMA().node_id: node for node in asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())}
with torch.inference_mode():
    model, clip, vae = nodes["DCIDemoModel"].EXECUTE_NORMALIZED().result
    subjects = {entry.id: entry for entry in nodes["DCIDemoSubject"].GET_SCHEMA().inputs}["subject"].options
    pictures = [nodes["DCIDemoSubject"].EXECUTE_NORMALIZED(subject=name)[0] for name in subjects]
outside = [module.__file__ for module in sys.modules.values() if sys.argv[3] in str(getattr(module, "__file__", None))]
print(json.dumps({
    "nodes": sorted(nodes), "pictures": [list(picture.shape) for picture in pictures], "outside": outside,
    "encoded": list(clip.encode_from_tokens(clip.tokenize("a dog on a beach")).shape),
}))
"""


def test_the_pack_works_from_the_archive_alone(tmp_path: Path) -> None:
    archive = copy_files(shipped_files(), tmp_path / "custom_nodes" / FOLDER)
    command = [sys.executable, "-c", USE_IT, os.environ["COMFYUI_PATH"], str(archive), str(ROOT)]
    plain = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("PYTEST")
    }
    ran = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    golden = json.loads((ROOT / "tests" / "golden" / "nodes.json").read_text(encoding="utf-8"))
    assert told["nodes"] == sorted(golden) and told["outside"] == []
    assert len(told["pictures"]) == 38 and all(shape == [6, 256, 256, 3] for shape in told["pictures"])
    assert told["encoded"][1] == 77
    pages = {file.stem for file in (archive / "web" / "docs").glob("*.md")}
    assert pages == set(golden)
