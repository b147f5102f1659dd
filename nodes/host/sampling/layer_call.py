"""One call of a cross-attention layer as the host hands it to a patch, and whose rows are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import comfy.ldm.modules.attention as host_attention
from torch import Tensor

from ....dci_core.errors import UserInputError
from ....dci_core.prompt.tokens import TokenSet
from ....dci_core.sampling.region import Area
from ....dci_core.sampling.strength import MapSize
from .layers import Layer

TEXT_LENGTH = "dci_text_length"
PARTIES = "dci_other_parties"
Attention = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
Window = tuple[int, ...] | None


@dataclass(frozen=True)
class BranchRows:
    """Rows of a forward pass that belong to one positive conditioning or to its auxiliary twin.

    Args:
        pair: index that ties both together.
        tokens: the branch's token positions.
        length: tokens of its own conditioning; the host repeats shorter ones to match longer ones.
        area: (height, width, top, left) in the latent of a cropped area, whose masks are not recorded, or None.
    """

    pair: int
    tokens: TokenSet
    length: int
    area: Area | None


@dataclass(frozen=True)
class LayerCall:
    """What a cross-attention layer is given in one forward pass, or some rows of it.

    Args:
        layer: which.
        q: image queries, [R, N, H·d].
        k: text keys, [R, K, H·d].
        v: text values, [R, K, H·d].
        extra: the host's options of the forward pass.
    """

    layer: Layer
    q: Tensor
    k: Tensor
    v: Tensor
    extra: dict[str, Any]

    @property
    def heads(self) -> int:
        """H."""
        return int(self.extra["n_heads"])

    @property
    def map_size(self) -> MapSize:
        """(h, w) of the layer's map."""
        height, width = self.extra["activations_shape"][-2:]
        return height, width

    @property
    def latent_size(self) -> MapSize:
        """(h, w) of the latent that the network was given."""
        height, width = self.extra["original_shape"][-2:]
        return height, width

    @property
    def window(self) -> Window:
        """Which frames the host's context windows have cut out for this forward, None for all."""
        window = self.extra.get("context_window")
        return None if window is None else tuple(window.index_list)

    def in_window(self, region: Tensor) -> Tensor:
        """Return the part of a region [B, h, w] that lies in the forward's context window."""
        window = self.extra.get("context_window")
        return region if window is None else window.get_tensor(region[:, None])[:, 0]

    def through(self, attention: Attention) -> Tensor:
        """Return what an attention makes of it."""
        return attention(self.q, self.k, self.v, self.extra)

    def at(self, rows: slice) -> LayerCall:
        """Return the call with some of its rows only."""
        return replace(self, q=self.q[rows], k=self.k[rows], v=self.v[rows])

    def rows_of(self, wanted: Mapping[Any, BranchRows]) -> Iterator[tuple[slice, BranchRows]]:
        """Yield where the rows of each wanted conditioning stand, in ascending order.

        Args:
            wanted: what is known of each, by the host's id of the conditioning.

        Raises:
            UserInputError: there are other rows than those of the conditionings that were asked for.
        """
        uuids, size = self.extra["uuids"], self.extra["sigmas"].shape[0]
        if not any(key in wanted for key in uuids):
            return  # whatever another pack does to other conditionings
        if self.q.shape[0] != size * len(uuids):
            expected = f"{len(uuids) * size} (conditionings: {len(uuids)}, images: {size})"
            raise self.refusal(
                f"a layer got {self.q.shape[0]} rows instead of {expected}, so they cannot be told apart"
            )
        for index, key in enumerate(uuids):
            if key in wanted:
                yield slice(index * size, (index + 1) * size), wanted[key]

    def refusal(self, problem: str) -> UserInputError:
        """Return the error that names who else acts on the model."""
        return UserInputError(
            f"DCI cannot work beside another node here: {problem}. Acting on this model: {self.extra[PARTIES]()}. "
            "Take the node that does it out, or set active_fraction to 0."
        )


def stock_attention(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
    """Return what the host's own attention makes of a call."""
    return host_attention.optimized_attention(
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
    )
