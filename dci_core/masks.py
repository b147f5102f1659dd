"""The blend masks of a run, reduced to one picture per map size and model call (the paper's figure 11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

MapSize = tuple[int, int]


@dataclass(frozen=True)
class CallMasks:
    """W_a of one model call.

    Args:
        sigma: noise level of the call.
        timestep: the model's timestep there.
        maps: per map size (h, w), the mean over heads and over the layers of that size, [B, h, w], on the CPU,
            values 0 … 1; brighter means more auxiliary.
    """

    sigma: float
    timestep: float
    maps: dict[MapSize, Tensor]


@dataclass
class BlendMasks:
    """Collects the masks of the latest run; cleared when the next run with the same patch starts."""

    calls: list[CallMasks] = field(default_factory=list)
    _sums: dict[MapSize, Tensor] = field(default_factory=dict, repr=False)
    _counts: dict[MapSize, int] = field(default_factory=dict, repr=False)

    def clear(self) -> None:
        """Forget everything."""
        self.calls.clear()
        self.drop_call()

    def add(self, weight_auxiliary: Tensor, size: MapSize) -> None:
        """Add one layer's W_a, [B, H, N] with N = h·w, to the current call."""
        mean = weight_auxiliary.detach().float().mean(dim=1)  # [B, N]
        self._sums[size] = self._sums[size] + mean if size in self._sums else mean
        self._counts[size] = self._counts.get(size, 0) + 1

    def finish_call(self, sigma: float, timestep: float) -> None:
        """Close the current call, if any layer was added, and keep its means."""
        if self._sums:
            maps = {
                size: (total / self._counts[size]).unflatten(-1, size).cpu()  # [B, h, w]
                for size, total in sorted(self._sums.items(), reverse=True)
            }
            self.calls.append(CallMasks(sigma, timestep, maps))
        self.drop_call()

    def drop_call(self) -> None:
        """Forget what the current call has added so far."""
        self._sums.clear()
        self._counts.clear()

    @property
    def sizes(self) -> list[MapSize]:
        """All map sizes, largest first."""
        return sorted({size for call in self.calls for size in call.maps}, reverse=True)

    @property
    def batch(self) -> int:
        """Number of images."""
        return max((grid.shape[0] for grid in self._grids()), default=0)

    def mean(self) -> float:
        """Return the mean of W_a, each map of each call counting alike; nan without a call."""
        means = [grid.mean().item() for grid in self._grids()]
        return sum(means) / len(means) if means else float("nan")

    def _grids(self) -> Iterator[Tensor]:
        return (grid for call in self.calls for grid in call.maps.values())
