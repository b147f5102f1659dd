"""The benchmark counts what it says: bytes by storage, ratios by hand, the record of a real run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from scenes import Scene, dci, ksample, scene

from benchmarks import forwards, measuring
from benchmarks.clock import Clock, bytes_held


@dataclass
class Holder:
    tensor: torch.Tensor
    others: Any


def test_every_storage_counts_once_and_whole() -> None:
    base = torch.zeros(10, 10)
    assert bytes_held(base) == 400
    assert bytes_held([base[0], {"again": base}, Holder(base[:, 1], (torch.zeros(3),))]) == 412
    cyclic: list[Any] = [torch.zeros(2)]
    cyclic.append(cyclic)
    assert bytes_held(cyclic) == 8 and bytes_held([1, None, "x"]) == 0


def test_the_record_and_all_that_is_held_are_counted_in_a_real_run() -> None:
    s, clock = scene(), Clock()
    image = ksample(dci(s.model, active_fraction=0.5), s.positive, s.negative, steps=4, batch=2)
    with clock.watching():
        watched = ksample(dci(s.model, active_fraction=0.5), s.positive, s.negative, steps=4, batch=2)
    assert torch.equal(watched, image)
    # 16 layers: 5 of 32 channels at 8², 5 of 32 at 4², 5 of 64 at 2², 1 of 64 at 1; two images, float32
    assert clock.record_bytes == 2 * 4 * (5 * 64 * 32 + 5 * 16 * 32 + 5 * 4 * 64 + 64)
    assert (
        clock.record_bytes < clock.held_bytes < 3 * clock.record_bytes
    )  # s_a is a quarter and more at 4 channels a head
    assert clock.held_after_bytes < clock.held_bytes - clock.record_bytes
    assert clock.active_steps == 2 and 0 < clock.own < clock.active_seconds and 0 < clock.masks < clock.active_seconds


def test_ratios_are_medians_of_rounds_by_hand() -> None:
    clocks = {kind: Clock() for kind in measuring.KINDS}
    for kind, factor in (("stock", 1.0), ("shared", 1.1), ("exact", 1.2)):
        for seconds in (10.0, 20.0, 12.0):
            clocks[kind].add(seconds * factor, seconds * factor / 2, [9.0 * factor, 1.0, 1.0, 1.0])
    shared = clocks["shared"]
    shared.active_steps, shared.active_seconds, shared.own, shared.masks = 1, 4.0, 0.1, 0.02
    shared.record_bytes, shared.held_bytes = 100, 105
    result = measuring.summary_of(clocks, 5, {"checkpoint": "x"})
    assert [row["value"] for row in result["targets"]] == pytest.approx([1.1, 1.2, 1.0, 0.025, 0.005, 1.05])
    assert result["processor_time"] == pytest.approx({"shared": 1.1, "exact": 1.2})
    result |= {"operations": {"shared": 1.2, "exact": 1.21}, "flops": {"shared": 1.07, "exact": 1.15}}
    result |= {"one_call": {"shared": 0.8, "exact": 0.9}, "gpu_peak_mb": {"stock": 0.0, "shared": 0.0, "exact": 0.0}}
    assert "GPU memory" not in measuring.describe(result)
    result["gpu_peak_mb"] = {"stock": 100.0, "shared": 130.5, "exact": 131.0}
    table = measuring.describe(result)
    assert "in multiplications and additions, which nothing disturbs: shared 1.070, exact 1.150" in table
    assert "at best: shared 0.800, exact 0.900" in table and "stock 100.0 MB, shared 130.5 MB" in table
    assert "| whole run, shared guidance | 1.100 | ≤ 1.1 |" in table and "1 of 5 steps active" in table


def test_one_call_in_place_of_two_by_hand() -> None:
    assert forwards.one_call({1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}) == {"shared": 1.0, "exact": 1.0}  # all arithmetic
    assert forwards.one_call({1: 5.0, 2: 5.0, 3: 5.0, 4: 5.0}) == {"shared": 0.5, "exact": 0.5}  # all overhead


def test_operations_are_those_that_compute_or_copy_and_flops_those_of_products() -> None:
    def run() -> None:
        x = torch.zeros(4, 6)  # 1
        x.t()[1:].add_(1.0)  # 2
        y = x.half() @ x.half().t()  # 3, 4, 5
        torch.empty_like(y).view(-1).copy_(y.flatten())  # 6
        y.to(torch.float16), y.to(torch.float32)  # 7

    with torch.inference_mode():
        assert forwards.work(run) == (7, 4 * 4 * 6 * 2)
    one_step = {"stock": (120, 30), "shared": (260, 45), "exact": (270, 60)}
    ratios = forwards.work_of_run(
        {kind: forwards.Work(*some) for kind, some in one_step.items()}, forwards.Work(220, 60), 20, 3
    )
    assert ratios["operations"] == pytest.approx({"shared": 1 + 3 * 140 / 2020, "exact": 1 + 3 * 150 / 2020})
    assert ratios["flops"] == pytest.approx(
        {"shared": 1.075, "exact": 1.15}
    )  # by rows: 3/2 and 4/2 of three steps in twenty


def work_of(model: Any, steps: int, s: Scene | None = None, **options: Any) -> Any:
    s = s or scene()
    with torch.inference_mode():
        return forwards.work(lambda: ksample(model, s.positive, s.negative, steps=steps, **options))


def test_our_own_work_at_a_layer_is_counted() -> None:
    s = scene()
    work_of(s.model, 1)  # loads
    one, two = work_of(s.model, 1), work_of(s.model, 2)
    ours = work_of(dci(s.model), 1)
    step = two.operations - one.operations
    assert 16 * 15 < ours.operations - one.operations - step < 16 * 30 < step  # 16 layers
    flops = (ours.flops - one.flops) / (two.flops - one.flops)
    assert 0.5 < flops < 0.55  # one row more to two, and the scores


@pytest.mark.parametrize("share_guidance", [True, False])
def test_a_step_after_the_active_part_does_the_work_of_a_stock_step(share_guidance: bool) -> None:
    s = scene("mini")
    work_of(s.model, 1, s)  # loads

    def step(model: Any) -> list[int]:
        """One more step within a schedule of ten, the active part long over."""
        some, more = (work_of(model, 10, s, last_step=last) for last in (7, 8))
        return [after - before for before, after in zip(some, more)]

    assert step(dci(s.model, active_fraction=0.15, share_guidance=share_guidance)) == step(s.model)


def test_every_number_of_rows_goes_through_the_network() -> None:
    s = scene()
    with torch.inference_mode():
        seconds = forwards.seconds_by_rows(s.model, torch.zeros(1, 4, 8, 8), 1)
    assert list(seconds) == [1, 2, 3, 4] and all(value > 0 for value in seconds.values())
