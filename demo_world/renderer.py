"""Draw scenes of the demo world in batches, with exact masks of both objects, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from demo_world import styles
from demo_world.backgrounds import VARIANTS, background_bank
from demo_world.placement import PICTURE_PX, Placement, Spots, place
from demo_world.scenes import Scene
from demo_world.sprites import load_sprites
from demo_world.vocabulary import COLOURS, CONTEXTS, EXEMPLARS, STYLES

SHADOW = 0.38  # how much light a full shadow takes


@dataclass(frozen=True)
class Drawing:
    """Drawn scenes.

    Args:
        pictures: [B, 3, PICTURE_PX, PICTURE_PX] in 0 … 1.
        main: how much of each pixel the main object covers and shows, [B, PICTURE_PX, PICTURE_PX] in 0 … 1.
        companion: the same of the second object, which is in front; zero where there is none.
    """

    pictures: Tensor
    main: Tensor
    companion: Tensor


@dataclass(frozen=True)
class _Numbers:
    """What scenes show as label numbers, each [B], int64; `hue` is in degrees, `paired` and `painted` are bool."""

    main: Tensor
    companion: Tensor
    paired: Tensor
    context: Tensor
    style: Tensor
    look: Tensor
    hue: Tensor
    painted: Tensor


class Renderer:
    """Draws scenes.

    Args:
        device: where pictures are drawn and left.
        exemplars: sprites that scenes may show; fewer load faster.
        variants: paintings of each context to choose from, 1 or more.
    """

    def __init__(
        self, device: str | torch.device = "cpu", exemplars: Sequence[str] = EXEMPLARS, variants: int = VARIANTS
    ) -> None:
        self.device = torch.device(device)
        self._row = {name: row for row, name in enumerate(exemplars)}
        self._sprites = load_sprites(exemplars).to(self.device)
        self._backgrounds = background_bank(variants).to(self.device)
        white = (1.0, 1.0, 1.0)
        self._light = torch.tensor([styles.LIGHT.get(context, white) for context in CONTEXTS], device=self.device)

    def draw(self, scenes: Sequence[Scene], generator: torch.Generator) -> Drawing:
        """Draw scenes; the same scenes and generator state give the same bytes.

        Args:
            scenes: what the B pictures show.
            generator: on the CPU: all chances (places, sizes, tilts, backgrounds).

        Raises:
            ValueError: a scene shows a sprite that this renderer did not load.
        """
        numbers = self._numbers(scenes)
        placement = place(numbers.paired.cpu(), generator)
        background = self._background(numbers, placement)
        everyone = torch.ones(len(scenes), dtype=torch.bool, device=self.device)
        main = self._layer(numbers, numbers.main, placement.main, everyone, scale=1)
        canvas = self._lay(background, self._painted(main, numbers), numbers, everyone)
        covered = torch.zeros_like(main[:, 3])
        if (paired := numbers.paired).any():
            spots = placement.companion.where(paired.cpu())
            companion = self._layer(numbers, numbers.companion, spots, paired, scale=2)
            canvas[paired] = self._lay(canvas[paired], companion, numbers, paired)
            covered[paired] = companion[:, 3]
        return Drawing(self._styled(canvas, numbers), main[:, 3] * (1 - covered), covered)

    def _numbers(self, scenes: Sequence[Scene]) -> _Numbers:
        names = {scene.exemplar for scene in scenes} | {scene.companion for scene in scenes if scene.companion}
        if strangers := sorted(names - self._row.keys()):
            raise ValueError(f"This renderer has no sprites of {strangers}; name them among its exemplars.")

        def numbers(of: Callable[[Scene], float]) -> Tensor:
            return torch.tensor([of(scene) for scene in scenes], device=self.device)

        return _Numbers(
            main=numbers(lambda scene: self._row[scene.exemplar]),
            companion=numbers(lambda scene: self._row[scene.companion or scene.exemplar]),
            paired=numbers(lambda scene: scene.companion is not None),
            context=numbers(lambda scene: CONTEXTS.index(scene.context)),
            style=numbers(lambda scene: STYLES.index(scene.style)),
            look=numbers(lambda scene: styles.LOOK_OF_STYLE[STYLES.index(scene.style)]),
            hue=numbers(lambda scene: COLOURS[scene.colour] or 0.0),
            painted=numbers(lambda scene: bool(scene.colour)),
        )

    def _background(self, numbers: _Numbers, placement: Placement) -> Tensor:
        """Crops of paintings in their style, [B, 3, PICTURE_PX, PICTURE_PX]."""
        variants, room = self._backgrounds.shape[1], self._backgrounds.shape[-1] - PICTURE_PX
        variant = (placement.variant.to(self.device) * variants).long()
        left, top = (placement.crop.to(self.device) * room).long().unbind(dim=1)
        pixels = torch.arange(PICTURE_PX, device=self.device)
        rows, columns = (top[:, None] + pixels)[:, :, None], (left[:, None] + pixels)[:, None, :]
        crops = self._backgrounds[numbers.context[:, None, None], variant[:, None, None], :, rows, columns]
        background = crops.permute(0, 3, 1, 2).float() / 255
        mirrored = placement.mirrored.to(self.device)[:, None, None, None]
        background = torch.where(mirrored, background.flip(-1), background)
        background = (background * placement.light.to(self.device)[:, None, None, None]).clamp(0, 1)
        background = _apply(styles.drawn_background, background, numbers.style == styles.DRAWING)
        return _apply(styles.line_art_background, background, numbers.style == styles.LINE_ART)

    def _layer(self, numbers: _Numbers, rows: Tensor, spots: Spots, chosen: Tensor, scale: int) -> Tensor:
        """Premultiplied RGBA layers [n, 4, PICTURE_PX, PICTURE_PX] of the chosen scenes' objects; scale 2 halves first."""
        spots = spots.to(self.device)
        sprites = self._sprites[rows[chosen], numbers.look[chosen]].float() / 255
        alpha = sprites[:, 3:]
        layers = torch.cat([sprites[:, :3] * alpha, alpha], dim=1)
        if scale > 1:
            layers = F.avg_pool2d(layers, scale)
        light = spots.light[:, None, None, None]
        layers = torch.cat([torch.minimum(layers[:, :3] * light, layers[:, 3:]), layers[:, 3:]], dim=1)
        maps = styles.sprite_to_picture(spots.size, spots.x, spots.y, spots.tilt, spots.flip)
        grid = F.affine_grid(maps, [len(layers), 4, PICTURE_PX, PICTURE_PX], align_corners=False)
        return F.grid_sample(layers, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def _painted(layers: Tensor, numbers: _Numbers) -> Tensor:
        """Layers of main objects, those with a colour painted."""
        if not numbers.painted.any():
            return layers
        alpha = layers[:, 3:]
        straight = (layers[:, :3] / alpha.clamp(min=1e-3)).clamp(0, 1)
        painted = torch.cat([styles.paint(straight, numbers.hue) * alpha, alpha], dim=1)
        return torch.where(numbers.painted[:, None, None, None], painted, layers)

    def _lay(self, canvas: Tensor, layers: Tensor, numbers: _Numbers, chosen: Tensor) -> Tensor:
        """Put layers with their shadows over the chosen scenes' canvas; light falls on them unless drawn by hand."""
        alpha, style = layers[:, 3:], numbers.style[chosen]
        by_hand = ((style == styles.DRAWING) | (style == styles.LINE_ART))[:, None]
        light = torch.where(by_hand, torch.ones((), device=self.device), self._light[numbers.context[chosen]])
        shade = torch.where(style == styles.LINE_ART, 0.0, SHADOW)[:, None, None, None]
        canvas = canvas * (1 - shade * styles.shadow(alpha))
        return canvas * (1 - alpha) + layers[:, :3] * light[:, :, None, None]

    @staticmethod
    def _styled(canvas: Tensor, numbers: _Numbers) -> Tensor:
        canvas = _apply(styles.pixel_art, canvas, numbers.style == styles.PIXEL_ART)
        return _apply(styles.black_and_white, canvas, numbers.style == styles.BLACK_AND_WHITE).clamp(0, 1)


def _apply(style: Callable[[Tensor], Tensor], pictures: Tensor, chosen: Tensor) -> Tensor:
    """`pictures` with the chosen ones in another style."""
    if chosen.any():
        pictures = pictures.clone()
        pictures[chosen] = style(pictures[chosen])
    return pictures
