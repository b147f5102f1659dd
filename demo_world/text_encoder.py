"""The demo model's CLIP text encoder: the host's key layout, in layers that can be back-propagated.

The host's own CLIPLayer adds in place, which autograd refuses, hence this twin; `verify_host.py` compares both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo_world.tokens import LENGTH, known_ids, row_lookup

WIDTH = 256
HEADS = 4
LAYERS = 3
TOKEN_DEVIATION = 0.02  # OpenAI's CLIP starts here too; learned concept tokens are scaled for this
POSITION_DEVIATION = 0.01

# What the host takes as model_options["clip_l_model_config"].
TEXT_CONFIG: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 4 * WIDTH,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": LENGTH,
}


class SelfAttention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH)
        self.v_proj = nn.Linear(WIDTH, WIDTH)
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, WIDTH] -> [B, K, WIDTH]"""
        q, k, v = (
            project(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)  # [B, HEADS, K, WIDTH / HEADS]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return output


class FeedForward(nn.Module):
    """Two layers with CLIP's quick GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, WIDTH] -> [B, K, WIDTH]"""
        hidden = self.fc1(x)
        output: Tensor = self.fc2(hidden * torch.sigmoid(1.702 * hidden))
        return output


class Layer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(WIDTH)
        self.self_attn = SelfAttention()
        self.layer_norm2 = nn.LayerNorm(WIDTH)
        self.mlp = FeedForward()

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, WIDTH] -> [B, K, WIDTH]"""
        x = x + self.self_attn(self.layer_norm1(x))
        output: Tensor = x + self.mlp(self.layer_norm2(x))
        return output


class Embeddings(nn.Module):
    """Token plus position embeddings; only the rows of known tokens exist."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(len(known_ids()), WIDTH)
        self.position_embedding = nn.Embedding(LENGTH, WIDTH)
        nn.init.normal_(self.token_embedding.weight, std=TOKEN_DEVIATION)
        nn.init.normal_(self.position_embedding.weight, std=POSITION_DEVIATION)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, K] row numbers -> [B, K, WIDTH]"""
        output: Tensor = self.token_embedding(rows) + self.position_embedding.weight[: rows.shape[1]]
        return output


class Encoder(nn.Module):
    """The stack of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        """[B, K, WIDTH] -> [B, K, WIDTH]"""
        for layer in self.layers:
            x = layer(x)
        return x


class TextTransformer(nn.Module):
    """The part the host calls `text_model`."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = Encoder()
        self.final_layer_norm = nn.LayerNorm(WIDTH)
        for name, parameter in self.encoder.named_parameters():
            # The words are small (TOKEN_DEVIATION); small layer outputs keep them readable from the first step on.
            if name.endswith(("out_proj.weight", "fc2.weight")):
                nn.init.normal_(parameter, std=TOKEN_DEVIATION / WIDTH**0.5)
            elif name.endswith(("out_proj.bias", "fc2.bias")):
                nn.init.zeros_(parameter)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, K] row numbers -> [B, K, WIDTH]"""
        output: Tensor = self.final_layer_norm(self.encoder(self.embeddings(rows)))
        return output


class TextEncoder(nn.Module):
    """CLIP-layout text encoder over the demo world's vocabulary."""

    lookup: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.text_model = TextTransformer()
        self.text_projection = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.eye_(self.text_projection.weight)  # only the pooled output passes here, which SD1 does not use
        self.text_projection.requires_grad_(False)
        self.register_buffer("lookup", row_lookup(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode token ids.

        Args:
            tokens: [B, K] as from `demo_world.tokens.tokenize`, all known; K may be cut, for attention is causal.

        Returns:
            [B, K, WIDTH] after the final norm, the host's "last" layer.
        """
        output: Tensor = self.text_model(self.lookup[tokens])
        return output
