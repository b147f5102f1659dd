"""Measure what two-branch sampling costs against the stock KSampler, as ratios within one process.

COMFYUI_PATH=… python -m benchmarks.sampling_cost [--checkpoint FILE] [--size 512] [--batch 1] [--steps 20] [--rounds 3]
    [--cpu] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import describe, measure
from workbench.small_checkpoint import make_checkpoint


def main() -> int:
    """Measure, print a table, and return 1 when a target is missed."""
    given = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = given.checkpoint or Path(folder) / "small.safetensors"
        if given.checkpoint is None:
            make_checkpoint(checkpoint, full=False)
        result = measure(checkpoint, given.size, given.batch, given.steps, given.rounds)
    sys.stdout.write(describe(result) + "\n")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row["value"] <= row["target"] for row in result["targets"]) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: a small one with random weights")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
