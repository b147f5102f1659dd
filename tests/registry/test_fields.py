"""What pyproject.toml tells the registry, and the two pictures it shows."""

from __future__ import annotations

import re
from typing import Any

import pytest
import registry_pictures
from comfyui_dci.dci_core.version import VERSION
from PIL import Image, ImageChops, ImageStat
from shipped_files import ROOT, shipped_files

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings it
    import tomli as tomllib

ADDRESSES = {"Repository", "Documentation", "Bug Tracker"}
PLACES = {"PublisherId", "Icon", "Banner"}


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_project_is_named_and_numbered_as_the_registry_asks(settings: dict[str, Any]) -> None:
    project = settings["project"]
    assert re.fullmatch(r"[a-z]+([-_.]?[a-z0-9]+)*", project["name"]) and "comfyui" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"]) and project["version"] == VERSION
    assert project["license"] == {"text": "Apache-2.0"} and project["readme"] in shipped_files()
    assert "Operating System :: OS Independent" in project["classifiers"]
    assert project["description"] and project["requires-python"] == ">=3.10"


def test_the_oldest_comfyui_is_the_one_that_the_readme_promises(settings: dict[str, Any]) -> None:
    oldest = re.fullmatch(r">=(\d+\.\d+\.\d+)", settings["tool"]["comfy"]["requires-comfyui"])
    assert oldest and f"For ComfyUI {oldest[1]} and newer" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_is_installed_is_what_requirements_txt_says(settings: dict[str, Any]) -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert settings["project"]["dependencies"] == lines and lines


def test_where_it_is_published_is_told_completely_or_not_at_all(settings: dict[str, Any]) -> None:
    addresses, comfy = settings["project"].get("urls", {}), settings["tool"]["comfy"]
    told = (addresses.keys() & ADDRESSES) | (comfy.keys() & PLACES)
    assert told in (set(), ADDRESSES | PLACES)
    assert comfy["DisplayName"]
    places = {"Icon": registry_pictures.ICON, "Banner": registry_pictures.BANNER}
    for name, file in places.items():
        assert comfy.get(name, "").endswith(file.relative_to(ROOT).as_posix() if told else "")
    for address in (*addresses.values(), *(comfy[name] for name in places if name in comfy)):
        assert re.fullmatch(r"https://[\w.-]+/\S+", address)


@pytest.mark.parametrize("name", ["icon", "banner"])
def test_the_pictures_are_as_the_script_draws_them(name: str) -> None:
    file = {"icon": registry_pictures.ICON, "banner": registry_pictures.BANNER}[name]
    drawn = getattr(registry_pictures, name)()
    with Image.open(file) as opened:
        kept = opened.convert("RGB")
    assert kept.size == drawn.size
    assert max(ImageStat.Stat(ImageChops.difference(kept, drawn)).mean) < 3  # JPEG, and other versions of Pillow
    assert file.stat().st_size < 150_000


def test_the_pictures_have_the_registrys_shapes() -> None:
    with Image.open(registry_pictures.ICON) as icon, Image.open(registry_pictures.BANNER) as banner:
        assert icon.size == (400, 400)
        assert 9 * banner.width == 21 * banner.height
