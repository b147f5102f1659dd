"""What a run on host objects says at its end, and the scale that presets see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.training.report import end_report
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.model_scale import scale_of
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from comfyui_dci.nodes.host.weights import key_value_weights
from scenes import random_concept
from training_runs import Watch, inputs, prepared, settings

from workbench.tiny import Tiny, tiny


def train(base: Tiny, root: Path | None = None, **changes: Any) -> tuple[Any, list[str]]:
    watch, storage = Watch(), Storage(root, CheckpointPlan(every=2))
    with torch.inference_mode():
        concept, _ = train_concept(HostModel(*base), inputs(), settings(**changes), storage, observer=watch)
    return concept, watch.told


def test_a_run_tells_keeps_and_repeats_what_it_says_of_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = tiny("mini")
    with caplog.at_level("INFO", "comfyui_dci"):
        concept, told = train(base, tmp_path, evaluate_every=2)
    history = concept.info.history
    before = torch.cat([weight.flatten() for weight in key_value_weights(base.model).values()])
    moved = torch.cat([delta.flatten() for delta in concept.deltas.values()])
    assert history["key_value_change"] == pytest.approx((moved.norm() / before.norm()).item(), rel=1e-5)
    assert set(history["start"]) == set(history["end"]) == {"loss", "loss_without_contexts"}
    assert [set(entry) for entry in history["evaluations"]] == [{"step", "loss", "loss_without_contexts"}] * 2
    assert history["end"]["loss"] == history["evaluations"][-1]["loss"]
    said, warnings = end_report(concept.info)
    assert told == ["\n".join([said, *warnings])] and f"K and V moved by {history['key_value_change']:.3f}" in said
    assert all(line in caplog.text for line in told[0].split("\n"))
    again, repeated = train(base, tmp_path, evaluate_every=2)
    assert again.info == concept.info and repeated[0].endswith("\n" + told[0])
    (checkpoint,) = tmp_path.glob("*/step_000002.safetensors")
    on_the_way = load_concept(checkpoint).info.history
    assert on_the_way["start"] == history["start"] and "end" not in on_the_way
    assert 0 < on_the_way["key_value_change"] < history["key_value_change"]


def test_without_evaluations_and_contexts_the_loss_alone_is_told() -> None:
    concept, told = train(tiny("mini"), mode="custom_diffusion")
    assert set(concept.info.history) == {"loss", "start", "end", "key_value_change"}
    assert set(concept.info.history["start"]) == {"loss"} and "loss on fixed noise" in told[0]


def test_a_textual_inversion_has_no_change_to_tell() -> None:
    concept, told = train(tiny("mini"), mode="textual_inversion")
    assert "key_value_change" not in concept.info.history and "K and V" not in told[0]


@pytest.mark.parametrize("changes", [{}, {"rank": 2}, {"mode": "cross_attention"}])
def test_the_change_counts_keys_and_values_only_whatever_is_trained(changes: dict[str, Any]) -> None:
    base = tiny("mini")
    training = prepared(base, **changes)
    weights = key_value_weights(base.model)
    norms = training.model.denoiser.key_value_norms
    assert set(norms) == set(weights)
    assert all(norm == pytest.approx(weights[name].norm().item(), rel=1e-5) for name, norm in norms.items())
    assert training.key_value_change() == 0.0


def test_the_change_counts_the_loras_on_the_model() -> None:
    base = tiny("mini")
    lora, plain = random_concept(base), key_value_weights(base.model)
    with torch.inference_mode():
        model, _ = apply_concept(base.model, base.clip, lora, 3.0)
    norms = prepared(Tiny(model, base.clip, base.vae)).model.denoiser.key_value_norms
    expected = {name: (weight + 3.0 * lora.deltas[name]).norm().item() for name, weight in plain.items()}
    assert norms == pytest.approx(expected, rel=1e-5)
    assert norms != pytest.approx({name: weight.norm().item() for name, weight in plain.items()}, rel=1e-3)


@pytest.mark.parametrize(
    "family, width, encoders", [("sd1", 64, ["clip_l"]), ("sd2", 64, ["clip_h"]), ("sdxl", 160, ["clip_l", "clip_g"])]
)
def test_the_scale_is_the_width_of_the_text_and_the_smallest_spread_of_words(
    family: str, width: int, encoders: list[str]
) -> None:
    base = tiny(family)
    tables = [getattr(base.clip.cond_stage_model, name).transformer.get_input_embeddings().weight for name in encoders]
    with torch.no_grad():
        tables[-1].mul_(0.25)
    with torch.inference_mode():
        scale = scale_of(HostModel(*base))
    assert scale.text_width == width
    assert scale.embedding_std == pytest.approx(tables[-1].std().item(), rel=1e-5)
