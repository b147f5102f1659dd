"""The blend masks of a run, one per map size, model call and head (the paper's figure 11), and their averages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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
    """

    sigma: float
    timestep: float
    heads: dict[MapSize, Tensor]
    number: int = 1

    @cached_property
    def maps(self) -> dict[MapSize, Tensor]:
        """The mean over heads per map size, [B, h, w]."""
        return {size: grid.mean(dim=1) for size, grid in self.heads.items()}


@dataclass
class BlendMasks:
    """Collects the masks of the latest run; cleared when the next run with the same patch starts.

    Args:
        calls: finished model calls, in order.
        latent_size: (h, w) of the run's latent; None stands for the largest map's.
    """

    calls: list[CallMasks] = field(default_factory=list)
    latent_size: MapSize | None = None
    _sums: dict[MapSize, Tensor] = field(default_factory=dict, repr=False)
    _counts: dict[MapSize, int] = field(default_factory=dict, repr=False)

    def clear(self) -> None:
        """Forget everything."""
        self.calls.clear()
        self.latent_size = None
        self.drop_call()

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

    def finish_call(self, sigma: float, timestep: float) -> None:
        """Close the current call, if any layer was added, and keep its means."""
        if self._sums:
            heads = {
                size: (total / self._counts[size]).unflatten(-1, size).cpu()  # [B, H, h, w]
                for size, total in sorted(self._sums.items(), reverse=True)
            }
            self.calls.append(CallMasks(sigma, timestep, heads, len(self.calls) + 1))
        self.drop_call()

    def drop_call(self) -> None:
        """Forget what the current call has added so far."""
        self._sums.clear()
        self._counts.clear()

    @property
    def sizes(self) -> list[MapSize]:
        """All map sizes, largest first."""
        return sorted({size for call in self.calls for size in call.heads}, reverse=True)

    @property
    def batch(self) -> int:
        """Number of images."""
        return max((grid.shape[0] for grid in self._grids()), default=0)

    def selected(self, scale: MapScale | None = None, call: int = 0, head: int = 0) -> BlendMasks:
        """Return a part of the masks.

        Args:
            scale: of the maps; None takes all.
            call: number of an active model call, from 1; 0 takes all.
            head: number of an attention head, from 1; 0 takes all. Maps with fewer heads drop out.

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
        parts = [
            CallMasks(one.sigma, one.timestep, _heads(one.heads, latent, scale, head), one.number) for one in calls
        ]
        if not any(part.heads for part in parts):
            most = max(grid.shape[1] for one in calls for grid in one.heads.values())
            raise UserInputError(f"There is no head {head} in these maps; the most any has is {most}. 0 takes all.")
        return BlendMasks(parts, latent)

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


def _heads(heads: dict[MapSize, Tensor], latent: MapSize, scale: MapScale | None, head: int) -> dict[MapSize, Tensor]:
    wanted = {size: grid for size, grid in heads.items() if scale is None or map_scale(size, latent) is scale}
    if head == 0:
        return wanted
    return {size: grid[:, head - 1 : head] for size, grid in wanted.items() if grid.shape[1] >= head}


def stretched(masks: Tensor) -> Tensor:
    """Return each mask, [B, H, W], from its own least (0) to its own largest value (1); an even mask as it is."""
    least = masks.amin(dim=(1, 2), keepdim=True)
    span = masks.amax(dim=(1, 2), keepdim=True) - least
    return torch.where(span > 0, (masks - least) / span.clamp(min=torch.finfo(masks.dtype).tiny), masks)
