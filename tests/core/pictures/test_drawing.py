"""What all pictures share."""

from __future__ import annotations

import pytest
from comfyui_dci.dci_core.pictures.drawing import nice_ticks


def test_ticks_are_one_two_or_five_apart() -> None:
    assert nice_ticks(0.012, 0.094, 6) == pytest.approx((0.0, 0.02, 0.04, 0.06, 0.08, 0.1))
    assert nice_ticks(0.012, 0.094, 5) == pytest.approx((0.0, 0.05, 0.1))
    assert nice_ticks(13, 41, 5) == pytest.approx((10, 20, 30, 40, 50))
