"""Tell whether two checkouts of this pack make the same: the demo's concept file, pictures and scores, byte for byte.

python scripts/same_results.py OTHER     runs the demo of the checkout OTHER and of this one, on the CPU, and compares
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from comfy_install import ROOT

PAGES = ("index.html", "demo.png")
"""They show what the other files hold, and the time it took."""
GRAPH = ("prompt", "workflow")
"""Metadata of a concept file that do nothing: titles may change in them, and older checkouts wrote none."""


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0 when both made the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of another checkout")
    other = parser.parse_args(arguments).other.resolve()
    if not (other / "scripts" / "demo.py").is_file():
        parser.error(f"{other} is no checkout of this pack: it has no scripts/demo.py.")
    with tempfile.TemporaryDirectory() as folder:
        made = [run_demo(checkout, Path(folder) / str(number)) for number, checkout in enumerate((other, ROOT))]
    differing = compare(*made)
    for name in sorted(made[0].keys() | made[1].keys()):
        print(f"{'DIFFERENT' if name in differing else 'same':9}  {made[1].get(name, 'missing')[:16]}  {name}")
    return 1 if differing else 0


def run_demo(checkout: Path, output: Path) -> dict[str, str]:
    """Run a checkout's demo on the CPU into a folder and return what ``digests`` says of it."""
    command = [sys.executable, str(checkout / "scripts" / "demo.py"), "--cpu", "--output", str(output)]
    subprocess.run(command, cwd=checkout, check=True)
    return digests(output)


def digests(output: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a demo run but its pages, by path; of the summary all but the time it took.

    Raises:
        FileNotFoundError: the run left no concept, no sweep or no summary, so that there is nothing to compare.
    """
    files = [file for file in output.rglob("*") if file.is_file() and file.name not in PAGES]
    found = {file.relative_to(output).as_posix(): file.read_bytes() for file in files}
    for name in ("concept.safetensors", "sweep.png", "summary.txt"):
        if name not in found:
            raise FileNotFoundError(f"The demo left no {name} in {output}. Look at what it printed.")
    lines = found["summary.txt"].decode().splitlines()
    found["summary.txt"] = "\n".join(line for line in lines if not line.endswith(" s in all")).encode()
    found["concept.safetensors"] = with_plain_header(found["concept.safetensors"])
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


def with_plain_header(content: bytes) -> bytes:
    """Return a safetensors file with its JSON header in order of name, and without the graph that made it, which may be told anew."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {name: value for name, value in header["__metadata__"].items() if name not in GRAPH}
    return json.dumps(header, sort_keys=True).encode() + content[8 + length :]


def compare(one: dict[str, str], other: dict[str, str]) -> set[str]:
    """Return the names of the files that are not in both, or not the same."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


if __name__ == "__main__":
    raise SystemExit(main())
