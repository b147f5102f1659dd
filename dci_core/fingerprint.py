"""Fingerprints of what goes into a run, so that the same inputs are recognised."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


def tensor_hash(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's dtype, shape and bytes."""
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype}|{list(plain.shape)}|".encode())
    digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensors_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return the SHA-256 of named tensors, whatever their order; on as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        hashes = list(threads.map(lambda item: (item[0], tensor_hash(item[1])), tensors))
    return hashlib.sha256(json.dumps(sorted(hashes)).encode()).hexdigest()


def run_key(parts: Mapping[str, Any]) -> str:
    """Return the key of a run: the SHA-256 of everything that shapes its result, JSON values by name."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()
