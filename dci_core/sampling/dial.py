"""What λ means: the mean W_a of even maps over a model's layers, as SD1.5 at 512² has it for the published constants.

The paper has no such thing. Its code's gain of 500 was chosen at SD1.5's maps of 512² images: a map of n tokens whose
attention is even gets W_a = σ((λ - 1)·500/n), so other maps turn the same λ into another weight. Here each group of layers
(those of one map size) takes over the part of SD1.5's layers that stands at its place, smallest maps first: gain and λ of
a layer follow from the weight that part has. So a λ lets the auxiliary branch in as far on every model and at every size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

REFERENCE_GAIN = 500.0
"""Of the published code, see ``dbim``."""
REFERENCE_MAPS: Mapping[int, int] = {64: 1, 256: 5, 1024: 5, 4096: 5}
"""SD1.5 at 512²: its 16 cross-attention layers by the number of tokens of their maps."""


def even_weight(injection_strength: float, gain: float, tokens: int) -> float:
    """Return W_a of a map whose attention is even in both branches: σ((λ - 1)·gain/n).

    Args:
        injection_strength: λ; at 1 both branches weigh the same.
        gain: of the spatial softmax, > 0.
        tokens: n, of the map.

    Returns:
        0 … 1.
    """
    return 0.5 * (1.0 + math.tanh(0.5 * (injection_strength - 1.0) * gain / tokens))


@dataclass(frozen=True)
class Part:
    """What a group of layers takes over from SD1.5's: token counts of its maps, with their shares, which sum to 1."""

    maps: tuple[tuple[int, float], ...]

    def even_weight(self, injection_strength: float) -> float:
        """Return the mean W_a of even maps in these layers of SD1.5 at 512², 0 … 1."""
        return sum(share * even_weight(injection_strength, REFERENCE_GAIN, tokens) for tokens, share in self.maps)

    def gain(self, tokens: int) -> float:
        """Return the gain of a map of n tokens: n·mean(500/n'), 500 where the part is one map of the same n' tokens.

        Args:
            tokens: n, of the map.
        """
        return sum(share * REFERENCE_GAIN * (tokens / reference) for reference, share in self.maps)

    def strength(self, injection_strength: float) -> float:
        """Return the λ' with which an even map has this part's weight, by that gain.

        It solves σ((λ' - 1)·mean(500/n')) = mean σ((λ - 1)·500/n'): λ itself where the part is one map or λ is 1,
        nearer to 1 than λ elsewhere. The gain stays the same for all λ, so W_a rises with λ wherever attention lies.

        Args:
            injection_strength: λ, any finite number.
        """
        if len(self.maps) == 1:
            return injection_strength
        terms = [(share, (injection_strength - 1.0) * REFERENCE_GAIN / tokens) for tokens, share in self.maps]
        logit = _log_mean_sigmoid(terms) - _log_mean_sigmoid([(share, -x) for share, x in terms])
        return 1.0 + logit / self.gain(1)


def parts_of(layers: Mapping[int, int]) -> dict[int, Part]:
    """Return the part of SD1.5's layers that each group of a model's layers takes over.

    Both lists are laid side by side, smallest maps first; a group takes what lies beside it. So the mean of the groups'
    weights is SD1.5's for every λ.

    Args:
        layers: number of cross-attention layers by how often the latent's edge was halved before them; at least one.

    >>> [part.maps for part in parts_of({0: 5, 1: 5, 2: 5, 3: 1}).values()]
    [((4096, 1.0),), ((1024, 1.0),), ((256, 1.0),), ((64, 1.0),)]
    """
    total, reference_total = sum(layers.values()), sum(REFERENCE_MAPS.values())
    parts: dict[int, Part] = {}
    start = 0
    for halvings in sorted(layers, reverse=True):
        end = start + layers[halvings] * reference_total  # in units of 1 / (total · reference_total), so exact
        parts[halvings] = Part(_between(start, end, total))
        start = end
    return {halvings: parts[halvings] for halvings in layers}


def mean_even_weight(layers: Mapping[int, int], injection_strength: float) -> float:
    """Return the mean W_a of even maps over all layers of a model: what λ means, 0 … 1.

    Args:
        layers: as for ``parts_of``.
        injection_strength: λ.
    """
    parts = parts_of(layers)
    weights = (count * parts[halvings].even_weight(injection_strength) for halvings, count in layers.items())
    return sum(weights) / sum(layers.values())


def _between(start: int, end: int, unit: int) -> tuple[tuple[int, float], ...]:
    """Return SD1.5's maps between two places of its row of layers, each layer being ``unit`` long, with their shares."""
    found, place = [], 0
    for tokens in sorted(REFERENCE_MAPS):
        edge = place + REFERENCE_MAPS[tokens] * unit
        overlap = min(end, edge) - max(start, place)
        if overlap > 0:
            found.append((tokens, overlap / (end - start)))
        place = edge
    return tuple(found)


def _log_mean_sigmoid(terms: list[tuple[float, float]]) -> float:
    """Return log Σ share·σ(x), also where σ(x) would round to 0."""
    logs = [math.log(share) + min(x, 0.0) - math.log1p(math.exp(-abs(x))) for share, x in terms]
    most = max(logs)
    return most + math.log(sum(math.exp(value - most) for value in logs))
