"""The picture of a run's losses."""

from __future__ import annotations

import pytest
import torch
from comfyui_dci.dci_core.pictures.loss_curve import draw_loss_curve, running_mean


def count(picture: torch.Tensor, color: str) -> int:
    wanted = torch.tensor([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    return int((picture[0] - wanted).abs().amax(dim=-1).lt(1e-3).sum())


def test_the_running_mean_by_hand() -> None:
    assert running_mean([4.0, 2.0, 0.0, 6.0], 2) == [4.0, 3.0, 1.0, 3.0]


@pytest.mark.parametrize("losses", [[0.5], [0.5, 0.5], [0.0, 0.0, 0.0], [1.0, 0.5, 1e6], [-1.0, 2.0], [0.1] * 3000])
def test_any_run_can_be_drawn(losses: list[float]) -> None:
    """The host's own graph divides by zero for one value or a constant loss."""
    picture = draw_loss_curve(losses)
    assert picture.shape == (1, 520, 840, 3) and picture.dtype == torch.float32
    assert 0.0 <= picture.min() < picture.max() <= 1.0
    assert count(picture, "#3566b8") > 20


def test_evaluations_drift_and_the_best_step_are_drawn_where_there_are_any() -> None:
    losses = [1.0 - 0.01 * step for step in range(50)]
    plain = draw_loss_curve(losses)
    watched = draw_loss_curve(
        losses,
        [
            {"step": 10.0, "loss": 0.8, "drift": 0.4},  # of an older file
            {"step": 50.0, "loss": 0.6, "loss_without_contexts": 0.7, "drift": 0.5},
        ],
    )
    for color in ("#d9822b", "#8a56ac", "#2e9e5b"):
        assert count(plain, color) == 0 < count(watched, color)


def test_the_curve_falls_where_the_loss_falls() -> None:
    picture = draw_loss_curve([1.0] * 40 + [0.0] * 40)
    wanted = torch.tensor([0x35, 0x66, 0xB8]) / 255.0
    rows = (picture[0, 60:, :, :] - wanted).abs().amax(dim=-1).lt(1e-3)
    left, right = rows[:, 100].nonzero().float().mean(), rows[:, 740].nonzero().float().mean()
    assert left < 150 < 300 < right
