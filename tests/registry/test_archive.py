"""The archive that the registry is given: small, complete, and without what only a checkout needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from shipped_files import ROOT, copy_files, shipped_files, tracked_files

MOST_BYTES = 30_000_000


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the archive holds, as it is installed."""
    return copy_files(shipped_files(), tmp_path_factory.mktemp("custom_nodes") / "dci-customization")


def test_the_archive_is_small() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in shipped_files()}
    assert 20_000_000 < sum(sizes.values()) < MOST_BYTES  # packed it is smaller still


def test_no_studies_tests_or_training_assets_are_in_it() -> None:
    folders = {name.split("/")[0] for name in shipped_files() if "/" in name}
    assert folders == {"dci_core", "demo_world", "docs", "locales", "nodes", "web", "workflows"}
    names = set(shipped_files())
    assert not [name for name in names if name.startswith("docs/results/")]
    world = {name for name in names if name.startswith("demo_world/")}
    assert {name for name in world if not name.startswith("demo_world/release/")} == {
        "demo_world/fluent-emoji.LICENSE.txt"
    }
    assert not [name for name in world if name.endswith(".py")]


def test_all_that_the_nodes_need_is_in_it() -> None:
    names, tracked = set(shipped_files()), tracked_files()
    needed = [name for name in tracked if name.startswith(("dci_core/", "locales/", "nodes/", "web/", "workflows/"))]
    needed += ["__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md", "CHANGELOG.md"]
    assert len(needed) > 150 and names >= set(needed)


@pytest.fixture
def comfy() -> str:
    """The command of comfy-cli, which is not in our environment: it brings much, and holds the registry's own rules."""
    found = shutil.which("comfy")
    if found is None:
        pytest.skip("comfy-cli is not on the path")
    return found


def told_by(comfy: str, folder: Path, home: Path, *words: str) -> str:
    """What comfy-cli says, which may reach no network."""
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "HOME": str(home)}
    path = os.pathsep.join([str(Path(comfy).resolve().parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [comfy, "--skip-prompt", "--no-enable-telemetry", "node", *words]
    environment = {**os.environ, **nowhere, "PATH": path, "DO_NOT_TRACK": "1", "COLUMNS": "200"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_the_registrys_own_validator_finds_nothing(archive: Path, comfy: str, tmp_path: Path) -> None:
    told = told_by(comfy, archive, tmp_path, "validate")
    assert "All validation checks passed" in told and "Warning" not in told and "Error" not in told


def test_the_registrys_own_packer_packs_these_files(comfy: str, tmp_path: Path) -> None:
    checkout = copy_files(tracked_files(), tmp_path / "checkout")
    for words in (["init", "-q"], ["add", "-A", "-f"]):
        subprocess.run(["git", *words], cwd=checkout, check=True)
    told_by(comfy, checkout, tmp_path, "pack")
    (packed,) = checkout.glob("*.zip")
    with zipfile.ZipFile(packed) as opened:
        assert sorted(opened.namelist()) == shipped_files()
    assert packed.stat().st_size < MOST_BYTES
