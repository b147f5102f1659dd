"""Scenes are drawn as their captions say, with exact masks, the same for the same generator."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from demo_world import styles
from demo_world.placement import PICTURE_PX, place
from demo_world.renderer import Renderer
from demo_world.scenes import ALL_SPRITES, Scene, caption, caption_variants, sample_scene
from demo_world.sprites import LOOKS, SPRITE_PX, load_sprites
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, NOUN_OF, NOUNS, STYLES, SUBJECTS

SPRITES = ("turtle", "red-apple", "panda", "soccer-ball")
TURTLE = Scene("turtle", companion="red-apple", context="on grass", style="drawing of", colour="blue")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(exemplars=SPRITES, variants=2)


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_caption_says_what_the_scene_holds() -> None:
    assert caption(TURTLE) == "drawing of a blue turtle with an apple on grass"
    assert caption(Scene("closed-umbrella")) == "photo of an umbrella"
    assert caption_variants(Scene("panda", context="at night")) == (
        "photo of a bear at night",
        "a photo of a bear at night",
        "a bear at night",
    )
    with pytest.raises(ValueError, match="both a cat"):
        Scene("cat-face", companion="black-cat")
    with pytest.raises(ValueError, match="quokka"):
        Scene("quokka")


def test_the_world_is_as_large_as_it_says() -> None:
    assert len(NOUNS) == 102 and len(SUBJECTS) == 38 and len(EXEMPLARS) == len(set(EXEMPLARS)) == 209
    assert len(CONTEXTS) == 25 and len(STYLES) == 5 and len(COLOURS) == 6
    seen = {sprite for sprites in NOUNS.values() for sprite in sprites}
    assert not seen & SUBJECTS.keys() and set(SUBJECTS.values()) <= NOUNS.keys()


def test_every_sprite_is_in_the_archive_in_three_looks() -> None:
    sprites = load_sprites()
    assert sprites.shape == (209, len(LOOKS), 4, SPRITE_PX, SPRITE_PX) and sprites.dtype == torch.uint8
    assert (sprites[:, :, 3].flatten(2).amax(dim=2) == 255).all() and (sprites[:, :, 3, 0, 0] == 0).all()
    with pytest.raises(ValueError, match="no sprite .*quokka"):
        load_sprites(("quokka",))


def test_a_damaged_archive_is_told(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from demo_world import sprites

    cut = Path(str(tmp_path)) / "cut.zip"
    cut.write_bytes(sprites.ARCHIVE.read_bytes()[:50_000])
    monkeypatch.setattr(sprites, "ARCHIVE", cut)
    with pytest.raises(ValueError, match="is damaged"):
        load_sprites(("panda",))
    monkeypatch.setattr(sprites, "ARCHIVE", cut.with_name("nothing.zip"))
    with pytest.raises(FileNotFoundError, match="check it out again"):
        load_sprites(("panda",))


def test_the_same_generator_draws_the_same_bytes(renderer: Renderer) -> None:
    first, again, other = (renderer.draw([TURTLE], generator(seed)) for seed in (3, 3, 4))
    assert first.pictures.shape == (1, 3, PICTURE_PX, PICTURE_PX)
    assert torch.equal(first.pictures, again.pictures) and torch.equal(first.main, again.main)
    assert not torch.equal(first.pictures, other.pictures)
    assert first.pictures.min() >= 0 and first.pictures.max() <= 1


def test_a_picture_is_the_same_alone_and_in_a_batch(renderer: Renderer) -> None:
    """Chances are drawn row by row, and no style reaches into another picture."""
    scenes = [replace(TURTLE, style=style) for style in STYLES]
    together = renderer.draw(scenes, generator())
    one_by_one = generator()
    for number, scene in enumerate(scenes):
        alone = renderer.draw([scene], one_by_one)
        assert torch.allclose(alone.pictures[0], together.pictures[number], atol=1e-5)


def test_every_part_of_a_scene_changes_the_picture(renderer: Renderer) -> None:
    plain = Scene("turtle")
    scenes = [
        plain,
        Scene("red-apple"),
        Scene("turtle", companion="panda"),
        *(replace(plain, context=context) for context in CONTEXTS[1:]),
        *(replace(plain, style=style) for style in STYLES[1:]),
        *(replace(plain, colour=colour) for colour in list(COLOURS)[1:]),
    ]
    pictures = torch.cat([renderer.draw([scene], generator()).pictures for scene in scenes]).flatten(1)
    distances = torch.cdist(pictures, pictures, p=1) / pictures.shape[1]
    assert (distances + torch.eye(len(scenes)) > 1 / 255).all()


def test_masks_are_exactly_where_the_objects_are(renderer: Renderer) -> None:
    """What an object covers wholly does not depend on the background; what none covers or shades is the background."""
    scene = Scene("turtle", companion="soccer-ball", context="in a forest")
    first = renderer.draw([scene], generator())
    second = renderer.draw([replace(scene, context="on a brick wall")], generator())
    covered = first.main[0] + first.companion[0]
    assert torch.equal(first.main, second.main) and torch.equal(first.companion, second.companion)
    assert covered.max() <= 1 + 1e-6 and (first.companion > 0.99).any() and (first.main > 0.99).any()
    same = (first.pictures - second.pictures).abs().amax(dim=1)[0]
    assert same[covered > 1 - 1e-6].max() < 1e-5
    assert (same[covered == 0] > 0.02).float().mean() > 0.9
    assert renderer.draw([Scene("turtle")], generator()).companion.abs().max() == 0


def test_the_main_mask_has_the_area_of_its_sprite(renderer: Renderer) -> None:
    drawing = renderer.draw([Scene("soccer-ball")], generator())
    placement = place(torch.tensor([False]), generator())
    sprite = load_sprites(("soccer-ball",))[0, 0, 3].float() / 255
    expected = sprite.mean() * placement.main.size[0] ** 2 * PICTURE_PX**2
    assert torch.isclose(drawing.main.sum(), expected, rtol=0.01)
    rows = torch.linspace(-1, 1, PICTURE_PX + 1)[:-1] + 1 / PICTURE_PX
    centre = (drawing.main[0].sum(dim=0) * rows).sum() / drawing.main.sum()
    assert abs(float(centre - placement.main.x[0])) < 0.03  # a ball's middle is its sprite's


def test_an_affine_map_takes_corners_to_corners() -> None:
    """By hand: a sprite half as large as the picture, a quarter turn, moved right by half the picture's half side."""
    turned = styles.sprite_to_picture(
        size=torch.tensor([0.5]),
        x=torch.tensor([0.5]),
        y=torch.tensor([0.0]),
        tilt=torch.tensor([math.pi / 2]),
        flip=torch.tensor([1.0]),
    )[0]
    points = torch.tensor([[0.5, 0.0, 1.0], [1.0, 0.0, 1.0], [0.5, 0.5, 1.0]])  # centre, right edge, lower edge
    assert torch.allclose(points @ turned.T, torch.tensor([[0.0, 0.0], [0.0, -1.0], [1.0, 0.0]]), atol=1e-6)


def test_paints_keep_brightness_in_order_and_have_their_hue() -> None:
    grey = torch.tensor([0.1, 0.5, 0.6, 0.9]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    red = styles.paint(grey, torch.tensor([0.0]))[0, :, 0]
    # By hand at 0.6: full paint, 0.92 in red and 0.92 * 0.12 in green and blue.
    assert torch.allclose(red[:, 2], torch.tensor([0.92, 0.1104, 0.1104]), atol=1e-4)
    assert (red.sum(dim=0).diff() > 0).all() and (red[0] > red[1]).all()
    blue = styles.paint(grey, torch.tensor([240.0]))[0, :, 0]
    assert torch.allclose(blue[2], red[0], atol=1e-4)


def test_scenes_come_as_often_as_they_should() -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(6000)]
    assert {scene.noun for scene in scenes} == set(NOUNS) and {scene.context for scene in scenes} == set(CONTEXTS)
    assert not {scene.exemplar for scene in scenes} & SUBJECTS.keys()
    shares = [
        np.mean([test(scene) for scene in scenes])
        for test in (
            lambda scene: scene.companion is not None,
            lambda scene: scene.style != STYLES[0],
            lambda scene: scene.colour != "",
            lambda scene: scene.context == "",
        )
    ]
    assert np.allclose(shares, [0.3, 0.3, 0.15, 0.06], atol=0.025)
    everything = {sample_scene(rng, sprites=ALL_SPRITES).exemplar for _ in range(6000)}
    assert everything == set(NOUN_OF)


def test_a_sprite_that_was_not_loaded_is_told(renderer: Renderer) -> None:
    with pytest.raises(ValueError, match=r"no sprites of \['zebra'\]"):
        renderer.draw([Scene("zebra")], generator())
