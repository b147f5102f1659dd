"""A CLIP text transformer that can be back-propagated through, run on somebody else's weights.

ComfyUI's own layers add in place, which autograd refuses. This one computes the same, reads weights in
whatever precision they are stored and keeps no parameters of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class ClipTextTransformer:
    """A frozen CLIP text encoder.

    Args:
        weights: its tensors under their usual names ("text_model.encoder.layers.0.self_attn.q_proj.weight" …).
        heads: attention heads.
        gelu: "quick_gelu" (OpenAI) or "gelu" (OpenCLIP).
        output_layer: index of the layer whose output is the conditioning, negative from the end; None is
            the last layer, normalised ("clip skip" lives here).
        normalize_output: whether the final layer norm is also applied to ``output_layer``'s output.
        recompute: keep no activations for the backward pass but each layer's input, and compute them again there.
    """

    weights: Mapping[str, Tensor]
    heads: int
    gelu: str
    output_layer: int | None = None
    normalize_output: bool = True
    recompute: bool = False

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return 1 + max(
            int(name.split(".")[3]) for name in self.weights if name.startswith("text_model.encoder.layers.")
        )

    def encode(
        self, embeddings: Tensor, end_positions: Sequence[int], with_pooled: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Encode prompts given as token embeddings, without position embeddings.

        Args:
            embeddings: [B, K, D].
            end_positions: index of each prompt's EOS, where its pooled vector is read, B of them.
            with_pooled: also run all layers and return the projected pooled vector.

        Returns:
            Conditioning [B, K, D] and pooled [B, D'] or None.
        """
        x = embeddings + self._get("embeddings.position_embedding.weight", embeddings)[: embeddings.shape[1]]
        count = self.layers
        wanted = count - 1 if self.output_layer is None else self.output_layer % count
        output = x
        for index in range(count if with_pooled else wanted + 1):
            name = f"encoder.layers.{index}"
            if self.recompute:
                x = checkpoint(self._layer, x, name, use_reentrant=False, preserve_rng_state=False)
            else:
                x = self._layer(x, name)
            if index == wanted:
                output = x
        if self.output_layer is None or self.normalize_output:
            output = self._norm(output, "final_layer_norm")
        if not with_pooled:
            return output, None
        hidden = self._norm(x, "final_layer_norm")
        last = torch.stack([row[end] for row, end in zip(hidden, end_positions, strict=True)])  # [B, D]
        return output, F.linear(last, self.weights["text_projection.weight"].to(last))

    def _get(self, name: str, like: Tensor) -> Tensor:
        return self.weights[f"text_model.{name}"].to(like)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._get(f"{name}.weight", x), self._get(f"{name}.bias", x))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._get(f"{name}.weight", x), self._get(f"{name}.bias", x))

    def _layer(self, x: Tensor, name: str) -> Tensor:
        normed = self._norm(x, f"{name}.layer_norm1")
        q, k, v = (
            self._linear(normed, f"{name}.self_attn.{part}_proj").unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in "qkv"
        )  # [B, H, K, d]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2)
        x = x + self._linear(attended, f"{name}.self_attn.out_proj")
        hidden = self._linear(self._norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1")
        activated = hidden * torch.sigmoid(1.702 * hidden) if self.gelu == "quick_gelu" else F.gelu(hidden)
        return x + self._linear(activated, f"{name}.mlp.fc2")
