"""Number format of the demo trainings: bfloat16 where the processor multiplies it quickly, float32 elsewhere."""

from __future__ import annotations

import torch


def fast_matrices() -> torch.autocast:
    """Context in which matrix products run in bfloat16 on CPUs with AMX or AVX512-BF16; weights stay float32."""
    with_bfloat16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=with_bfloat16)
