"""Run every check of the project on the real ComfyUI, setting up what is missing.

python scripts/test.py             everything: lint, types, unit tests, host tests, end-to-end tests
python scripts/test.py --quick     without the server and the long sweeps, for the working loop
python scripts/test.py --no-host   without ComfyUI: lint, types and the tests that need none of it
Further arguments go to pytest. COMFYUI_PATH chooses the ComfyUI. The tests run on all processors, at most four; -n 0 runs
them in one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from comfy_install import ROOT, cache_folder, get_comfyui, version_of
from environment import environment_for

MOST_WORKERS = 4  # each may take some gigabytes


def main(arguments: list[str]) -> int:
    """Return the exit status: 0 when every check passed."""
    core_only = "--no-host" in arguments
    comfyui = None if core_only else get_comfyui()
    python = environment_for(comfyui)
    environment = tests_environment(comfyui)
    tools = python.parent
    checks: dict[str, list[str | Path]] = {
        "ruff check": [tools / "ruff", "check", "--no-cache", "."],
        "ruff format": [tools / "ruff", "format", "--no-cache", "--check", "."],
        "types": [python, ROOT / "scripts" / "check_types.py", "--cache-dir", cache_folder() / "mypy"],
        "pytest": [tools / "pytest", "-q", "-rs", *pytest_arguments(arguments)],  # says what was skipped, and why
    }
    status = 0
    for name, command in checks.items():
        print(f"\n== {name}", flush=True)
        if subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False).returncode != 0:
            print(f"{name} found something to mend.", flush=True)
            status = 1
    if core_only:
        print("\nLeft out (--no-host): all tests that need ComfyUI.", flush=True)
    if "--quick" in arguments:
        print(
            "\nLeft out (--quick): the tests with a server, the studies and benchmarks, and the long sweeps.",
            flush=True,
        )
    return status


def tests_environment(comfyui: Path | None) -> dict[str, str]:
    """Return the variables that the checks run with: one thread a process, and where ComfyUI is."""
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    if comfyui is not None:
        print(f"ComfyUI {version_of(comfyui)} in {comfyui}", flush=True)
        environment["COMFYUI_PATH"] = str(comfyui)
    return environment


def pytest_arguments(arguments: list[str]) -> list[str]:
    """Return what pytest is given: on several processors unless the number is given, or a GPU would have to be shared."""
    if "--gpu" in arguments or any(argument.startswith("-n") for argument in arguments):
        return arguments
    return ["-n", "auto", "--maxprocesses", str(MOST_WORKERS), *arguments]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
