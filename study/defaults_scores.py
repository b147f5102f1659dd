"""Numbers that measurements of defaults are told in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfyui_dci.nodes.host.demo_model import Subject
from torch import Tensor

from study.defaults_bench import Bench
from study.worlds import Task

Scores = tuple[float, float, float]


def scores_of_latents(bench: Bench, latents: Tensor, subject: Subject, tasks: Sequence[Task]) -> Scores:
    """Mean likeness, obedience, and obedience of second objects of latents, a task each."""
    return scores_of_images(bench, bench.decode(latents), subject, tasks)


def scores_of_images(bench: Bench, images: Tensor, subject: Subject, tasks: Sequence[Task]) -> Scores:
    """Mean likeness, obedience, and obedience of second objects of pictures [B, H, W, 3], a task each."""
    judged = bench.world.judge(images, subject, tasks)
    seconds = [obedience for (_, obedience), task in zip(judged, tasks) if task.kind == "second noun"]
    return (
        sum(likeness for likeness, _ in judged) / len(judged),
        sum(obedience for _, obedience in judged) / len(judged),
        sum(seconds) / len(seconds) if seconds else float("nan"),
    )


def mean(scores: Sequence[tuple[float, ...]], column: int) -> float:
    """Mean of a column over the rows that have a number there."""
    values = [score[column] for score in scores if score[column] == score[column]]
    return sum(values) / len(values)


def distance(one: Tensor, other: Tensor) -> float:
    """Mean relative distance of latents [B, 4, h, w]."""
    return float((one - other).flatten(1).norm(dim=1).div(other.flatten(1).norm(dim=1)).mean())


def moment_distance(one: Tensor, other: Tensor) -> float:
    """Fréchet distance of normal distributions fitted to the latents' means over a 2 × 2 grid, [B, 4, h, w]."""
    pooled = [torch.nn.functional.adaptive_avg_pool2d(each.double(), 2).flatten(1) for each in (one, other)]
    means = [each.mean(0) for each in pooled]
    spreads = [torch.cov(each.T) for each in pooled]
    values = torch.linalg.eigvals(spreads[0] @ spreads[1]).real.clamp(min=0).sqrt().sum()
    return float((means[0] - means[1]).pow(2).sum() + spreads[0].trace() + spreads[1].trace() - 2 * values)
