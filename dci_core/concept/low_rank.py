"""The best low-rank approximation of a weight change, for small files."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MOST_RANK = 1024
"""The highest that nodes offer, for training and for files."""
OVERSAMPLING = 8
POWER_ITERATIONS = 4


def low_rank_factors(delta: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return up [out, r] and down [r, in] with up·down nearest to a matrix; r is ``rank`` or the matrix' smaller edge.

    Randomised subspace iteration (Halko et al. 2011) with random numbers of its own: exact, up to rounding, for a
    matrix of that rank, and close to the truncated singular value decomposition else. Both factors carry the root of the
    singular values.

    Args:
        delta: [out, in].
        rank: 1 or more.
    """
    matrix = delta.float()
    rank = min(rank, *matrix.shape)
    generator = torch.Generator().manual_seed(0)
    basis = matrix @ torch.randn(matrix.shape[1], min(rank + OVERSAMPLING, *matrix.shape), generator=generator)
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ torch.linalg.qr(basis)[0])[0])[0]
    u, values, v = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    roots = values[:rank].sqrt()
    return (basis @ u[:, :rank]) * roots, roots[:, None] * v[:rank]


def relative_error(given: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> float:
    """Return ‖given - stored‖/‖given‖ over all matrices together (2-norms of their entries); 0 without any change."""
    total = sum(float(value.double().square().sum()) for value in given.values())
    lost = sum(float((value.double() - stored[name].double()).square().sum()) for name, value in given.items())
    return (lost / total) ** 0.5 if total else 0.0
