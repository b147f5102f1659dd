"""The blend masks of a run, one per map size, model call and head (the paper's figure 11), and their averages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserInputError
from .strength import MapScale, MapSize, map_scale


@dataclass(frozen=True)
class CallMasks:
    """W_a of one model call.

    Args:
        sigma: noise level of the call.
        timestep: the model's timestep there.
        heads: per map size (h, w), the mean over the layers of that size, [B, H, h, w], on the CPU, values 0 … 1;
            brighter means more auxiliary.
        number: of the call among the run's active calls, from 1.
        step: the sampler's step in which it was, from 1; 0 where that is not known.
        steps: of the whole schedule.
    """

    sigma: float
    timestep: float
    heads: dict[MapSize, Tensor]
    number: int = 1
    step: int = 0
    steps: int = 0

    @cached_property
    def maps(self) -> dict[MapSize, Tensor]:
        """The mean over heads per map size, [B, h, w]."""
        return {size: grid.mean(dim=1) for size, grid in self.heads.items()}


@dataclass(frozen=True)
class Origin:
    """The node of a graph that made a run.

    Args:
        node: its id.
        place: which of the inputs in its lists the run was made of, from 0.
        signature: of its inputs and of all that leads to them; None where the graph is not known.
    """

    node: str
    place: int = 0
    signature: str | None = None


@dataclass(frozen=True)
class RunStamp:
    """What a run made.

    Args:
        images: how many.
        height_px: of each, once decoded.
        width_px: likewise.
        origin: what made it; None outside a graph.
    """

    images: int = 0
    height_px: int = 0
    width_px: int = 0
    origin: Origin | None = None


@dataclass(frozen=True)
class BlendMasks:
    """The masks of one finished run.

    Args:
        calls: model calls with masks, in order; none for a run in which both branches never met.
        latent_size: (h, w) of the latent that the network was given; None stands for the largest map's.
        stamp: what the run made.
    """

    calls: tuple[CallMasks, ...] = ()
    latent_size: MapSize | None = None
    stamp: RunStamp = RunStamp()

    @property
    def sizes(self) -> list[MapSize]:
        """All map sizes, largest first."""
        return sorted({size for call in self.calls for size in call.heads}, reverse=True)

    @property
    def batch(self) -> int:
        """Number of images."""
        return max((grid.shape[0] for grid in self._grids()), default=0)

    def selected(self, scale: MapScale | None = None, call: int = 0, head: int = 0, row: int = 0) -> BlendMasks:
        """Return a part of the masks.

        Args:
            scale: of the maps; None takes all.
            call: number of an active model call, from 1; 0 takes all.
            head: number of an attention head, from 1; 0 takes all. Maps with fewer heads drop out.
            row: number of an image of the batch, from 1; 0 takes all.

        Raises:
            UserInputError: nothing is left.
        """
        latent = self.latent_size or max(self.sizes, default=(1, 1))
        calls = [one for one in self.calls if call in (0, one.number)]
        if not calls:
            raise UserInputError(f"There is no call {call}: the run had {len(self.calls)} active calls. 0 takes all.")
        scales = list(dict.fromkeys(map_scale(size, latent) for size in self.sizes))
        if scale not in (None, *scales):
            names = ", ".join(one.value for one in scales)
            raise UserInputError(f"This run has no maps of scale {MapScale(scale).value}, only {names}. all takes all.")
        parts = tuple(replace(one, heads=_of_row(_heads(one.heads, latent, scale, head), row)) for one in calls)
        if not any(part.heads for part in parts):
            most = max(grid.shape[1] for one in calls for grid in one.heads.values())
            raise UserInputError(f"There is no head {head} in these maps; the most any has is {most}. 0 takes all.")
        return replace(self, calls=parts, latent_size=latent)

    def average(self, height_px: int, width_px: int) -> Tensor:
        """Return the masks of all sizes, calls and heads as one per image.

        Each map is enlarged bilinearly; heads, calls and map sizes count alike.

        Returns:
            [B, height, width], float32, values 0 … 1.

        Raises:
            UserInputError: there are no masks.
        """
        if not self.calls:
            raise UserInputError("There are no masks to average: the run had no active step. Raise active_fraction.")
        by_size = []
        for size in self.sizes:
            grids = torch.stack([call.maps[size] for call in self.calls if size in call.heads]).mean(dim=0)  # [B, h, w]
            by_size.append(F.interpolate(grids[:, None], size=(height_px, width_px), mode="bilinear")[:, 0])
        return torch.stack(by_size).mean(dim=0)

    def _grids(self) -> Iterator[Tensor]:
        return (grid for call in self.calls for grid in call.maps.values())


class MaskCollector:
    """Collects the masks of one run, layer by layer and call by call.

    ``latent_size`` is (h, w) of the latent that the network is given; None stands for the largest map's.
    """

    def __init__(self, latent_size: MapSize | None = None) -> None:
        self.latent_size = latent_size
        self._calls: list[CallMasks] = []
        self._sums: dict[MapSize, Tensor] = {}
        self._counts: dict[MapSize, int] = {}

    def add(self, weight_auxiliary: Tensor, size: MapSize) -> None:
        """Add one layer's W_a, [B, H, N] with N = h·w, to the current call.

        A layer with another number of heads than the first of its size counts with its mean for every head.
        """
        weight = weight_auxiliary.detach().float()
        total = self._sums.get(size)
        if total is not None and weight.shape != total.shape:
            weight = weight.mean(dim=1, keepdim=True)
        self._sums[size] = weight if total is None else total + weight.to(total)
        self._counts[size] = self._counts.get(size, 0) + 1

    def finish_call(self, sigma: float, timestep: float, step: int = 0, steps: int = 0) -> None:
        """Close the current call, if any layer was added, and keep its means; the arguments are those of ``CallMasks``."""
        if self._sums:
            heads = {
                size: (total / self._counts[size]).unflatten(-1, size).cpu()  # [B, H, h, w]
                for size, total in sorted(self._sums.items(), reverse=True)
            }
            self._calls.append(CallMasks(sigma, timestep, heads, len(self._calls) + 1, step, steps))
        self.drop_call()

    def drop_call(self) -> None:
        """Forget what the current call has added so far."""
        self._sums.clear()
        self._counts.clear()

    def masks(self) -> BlendMasks:
        """Return the masks of the calls that are closed."""
        return BlendMasks(tuple(self._calls), self.latent_size)


def _heads(heads: dict[MapSize, Tensor], latent: MapSize, scale: MapScale | None, head: int) -> dict[MapSize, Tensor]:
    wanted = {size: grid for size, grid in heads.items() if scale is None or map_scale(size, latent) is scale}
    if head == 0:
        return wanted
    return {size: grid[:, head - 1 : head] for size, grid in wanted.items() if grid.shape[1] >= head}


def _of_row(heads: dict[MapSize, Tensor], row: int) -> dict[MapSize, Tensor]:
    return {size: grid[row - 1 : row] if row else grid for size, grid in heads.items()}


def stretched(masks: Tensor) -> Tensor:
    """Return each mask, [B, H, W], from its own least (0) to its own largest value (1); an even mask as it is."""
    least = masks.amin(dim=(1, 2), keepdim=True)
    span = masks.amax(dim=(1, 2), keepdim=True) - least
    return torch.where(span > 0, (masks - least) / span.clamp(min=torch.finfo(masks.dtype).tiny), masks)
