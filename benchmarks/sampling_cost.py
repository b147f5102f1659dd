"""Measure what two-branch sampling costs against the stock KSampler, as ratios within one process.

python benchmarks/sampling_cost.py [--checkpoint FILE] [--size 512] [--batch 1] [--steps 20] [--rounds 3] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(ROOT / "scripts"))
INSIDE = "DCI_BENCHMARK_COMFYUI"


def main() -> int:
    """Measure, print a table, and return 1 when a target is missed."""
    given = _parser().parse_args()
    comfyui = os.environ.get(INSIDE)
    if comfyui is None:
        return _again_in_environment()
    checkpoint = given.checkpoint.resolve() if given.checkpoint else _small_checkpoint(Path(comfyui))
    sys.path[:] = [comfyui, str(ROOT / "benchmarks"), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    sys.argv = sys.argv[:1]
    from measuring import describe, measure

    result = measure(checkpoint, given.size, given.batch, given.steps, given.rounds, given.cpu)
    sys.stdout.write(describe(result) + "\n")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row["value"] <= row["target"] for row in result["targets"]) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser


def _again_in_environment() -> int:
    from comfy_install import get_comfyui
    from environment import environment_for

    comfyui = get_comfyui()
    environment = {**os.environ, INSIDE: str(comfyui)}
    command = [str(environment_for(comfyui)), *sys.argv]
    return subprocess.run(command, env=environment, check=False).returncode


def _small_checkpoint(comfyui: Path) -> Path:
    from comfy_install import cache_folder

    path = cache_folder() / "dci-small-sd1-layout-1.safetensors"
    if not path.is_file():
        command = [sys.executable, str(ROOT / "scripts" / "small_checkpoint.py"), str(path)]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(comfyui)}, check=True)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
