"""The memory benchmark sees a leak, and queues what it says."""

from __future__ import annotations

import json

import pytest

from benchmarks import queue_memory
from workbench.pack import ROOT


def test_growth_by_hand() -> None:
    flat = [500.0] * 5 + [1000.0] * 195  # loading is no growth
    assert queue_memory.growth(flat) == 1.0 < queue_memory.TARGET
    leak = [1000.0 + 0.2 * run for run in range(200)]  # 0.2 MB a run
    growth = queue_memory.growth(leak)
    assert growth == pytest.approx((1000 + 0.2 * 189.5) / (1000 + 0.2 * 29.5)) and growth > queue_memory.TARGET


def test_the_plain_graph_is_a_stock_sampler_without_the_concept() -> None:
    graph = json.loads((ROOT / "workflows" / "api" / "demo.json").read_text())
    kinds = {node["class_type"] for node in queue_memory.part(graph, "31").values()}
    assert {"DCISampler", "ICOTrainer", "DCIApplyConcept", "AuxPromptBuilder", "SaveImage"} <= kinds
    assert "DCILambdaSweep" not in kinds and "MaskVisualizer" not in kinds
    plain = queue_memory.part(graph, "31", "DCISampler", "KSampler", {"model": ["1", 0], "positive": ["22", 0]})
    sampler = next(node for node in plain.values() if node["class_type"] == "KSampler")
    assert sampler["inputs"]["model"] == ["1", 0] and "active_fraction" not in sampler["inputs"]
    assert set(sampler["inputs"]) == {
        "seed",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
        "negative",
        "latent_image",
        "denoise",
        "model",
        "positive",
    }
    assert "DCISampler" not in {node["class_type"] for node in plain.values()}
