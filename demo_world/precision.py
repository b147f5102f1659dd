"""Where the demo trainings compute, and in which numbers: bfloat16 where it is multiplied quickly, float32 elsewhere."""

from __future__ import annotations

import torch


def training_device() -> torch.device:
    """The GPU where there is one, with its quick float32 products switched on for this process; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")  # TF32
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def fast_matrices(device: str | torch.device = "cpu") -> torch.autocast:
    """Context in which matrix products run in bfloat16, on GPUs and on CPUs with AMX or AVX512-BF16; weights stay float32.

    Args:
        device: of the tensors that are multiplied.
    """
    kind = torch.device(device).type
    with_bfloat16 = kind != "cpu" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=with_bfloat16)
