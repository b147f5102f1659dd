"""What nodes draw is made for their help pages without a browser, and stands below the picture of the node."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from workbench import help_drawings
from workbench.frontend import Frontend
from workbench.help_drawings import CURVES, DEMO_SIZE, DRAWINGS, LEFTS, PLAIN_LEFT, TOP
from workbench.help_pictures import GAP_PX, GROUND, VALUES, WIDEST_PX, furnish, stacked
from workbench.public_names import GOLDEN


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist()))


def test_the_subject_is_shown_from_its_own_pictures() -> None:
    picture = help_drawings.draw_subject()
    cells = [
        picture.crop((column * 124, row * 124, column * 124 + 120, row * 124 + 120))
        for row in (0, 1)
        for column in range(3)
    ]
    assert len({cell.tobytes() for cell in cells}) == 6 == len(help_drawings.subject_pictures())


def test_every_map_size_has_its_curve() -> None:
    shown = colours(help_drawings.draw_schedule())
    assert {ImageColor.getrgb(colour) for colour in CURVES.values()} <= shown


def test_the_made_up_masks_leave_the_subject_to_itself() -> None:
    share = help_drawings._say(32, 0.0)
    assert share[19, 20] == share.min() < 0.1 and share[0, 0] == share.max() > 0.3
    assert help_drawings.draw_made_up_masks().height < 400


def test_losses_and_images_of_a_folder_are_drawn_small() -> None:
    assert help_drawings.draw_loss().size == help_drawings.LOSS_PX
    assert max(help_drawings.draw_folder().size) < WIDEST_PX


def test_pictures_of_the_demo_are_cut_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    demo = Image.new("RGB", DEMO_SIZE)
    for place, left in enumerate([PLAIN_LEFT, *LEFTS]):
        demo.paste((40 * place + 30, 0, 0), (left, TOP, left + help_drawings.CELL_PX, TOP + help_drawings.CELL_PX))
    file = tmp_path / "demo.png"
    demo.save(file)
    monkeypatch.setattr(help_drawings, "DEMO", file)
    assert {colour[0] for colour in colours(DRAWINGS["DCISampler"]()) if colour[1:] == (0, 0)} == {30, 110, 230}
    demo.resize((60, 40)).save(file)
    with pytest.raises(SystemExit, match="tell where its pictures are now"):
        DRAWINGS["DCISampler"]()


@pytest.mark.parametrize(
    ("node", "drawing", "size"),
    [
        ((200, 100), (300, 50), (300, 100 + GAP_PX + 50)),
        ((400, 100), (300, 50), (400, 100 + GAP_PX + 50)),
        ((400, 100), (2 * WIDEST_PX, 300), (WIDEST_PX, 100 + GAP_PX + 150)),
    ],
)
def test_a_drawing_stands_below_its_node_no_wider_than_a_panel(
    node: tuple[int, int], drawing: tuple[int, int], size: tuple[int, int]
) -> None:
    picture = stacked(Image.new("RGB", node, "red"), Image.new("RGB", drawing, "blue"))
    assert picture.size == size
    assert colours(picture) == {(255, 0, 0), (0, 0, 255), GROUND}
    assert picture.getpixel((0, 0)) == (255, 0, 0) and picture.getpixel((0, size[1] - 1)) == (0, 0, 255)


def test_drawings_and_values_are_of_nodes_that_there_are() -> None:
    golden = GOLDEN.read_text(encoding="utf-8")
    assert all(f'"{name}": {{' in golden for name in (*DRAWINGS, *VALUES))


def test_lists_of_the_server_have_something_to_offer(tmp_path: Path) -> None:
    furnish(tmp_path)
    assert len(list((tmp_path / "input" / help_drawings.SUBJECT).glob("*.webp"))) == 6
    assert (tmp_path / "models" / "dci_concepts" / "my_concept.safetensors").stat().st_size > 0


def test_without_chromium_it_says_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)

    async def look() -> None:
        async with Frontend("http://127.0.0.1:1", tmp_path):
            pass

    with pytest.raises(SystemExit, match=r"chromium.* is installed; pictures of nodes need one"):
        asyncio.run(look())
