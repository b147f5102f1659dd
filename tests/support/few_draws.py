"""Evaluations of a single draw: they are most of the work of a training of three steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from comfyui_dci.dci_core.training import concept_training


@pytest.fixture(autouse=True, scope="module")
def few_evaluation_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(concept_training, "EVALUATION_DRAWS", 1)
        yield
