"""What a run leaves on disk, and when it is used again: the key covers everything that shapes the result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.tensor_file import read_tensors
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.training import description, trainer
from comfyui_dci.nodes.host.training.description import key_of
from comfyui_dci.nodes.host.training.inputs import Crop, TrainingInputs
from comfyui_dci.nodes.host.training.memory import is_out_of_memory
from comfyui_dci.nodes.host.training.preview import PreviewPlan
from comfyui_dci.nodes.host.training.trainer import Storage, folder_name, train_concept
from scenes import random_concept
from tiny import Tiny, tiny
from training_runs import inputs, pictures, settings


def train(
    base: Tiny,
    root: Path,
    on_step: Callable[[int, float], None] | None = None,
    every: int = 1,
    reuse: bool = True,
    given: TrainingInputs | None = None,
    **changes: Any,
) -> tuple[Concept, list[int]]:
    """Return the concept and the steps that were really taken."""
    steps: list[int] = []

    def count(step: int, loss: float) -> None:
        steps.append(step)
        if on_step is not None:
            on_step(step, loss)

    with torch.inference_mode():
        concept, _ = train_concept(
            base.model,
            base.clip,
            base.vae,
            given or inputs(),
            settings(**changes),
            count,
            keep_contexts=True,
            storage=Storage(root, CheckpointPlan(every=every), reuse),
        )
    return concept, steps


def assert_same(one: Concept, other: Concept) -> None:
    assert one.info == other.info
    assert one.contexts is not None and other.contexts is not None
    for ours, theirs in (
        (one.key_value_deltas, other.key_value_deltas),
        (one.tokens, other.tokens),
        (one.contexts, other.contexts),
    ):
        assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def base() -> Tiny:
    return tiny("sd1")


def test_the_finished_concept_is_on_disk_before_it_is_returned_and_reused(base: Tiny, tmp_path: Path) -> None:
    first, steps = train(base, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("cat-") and steps == [1, 2, 3]
    assert_same(load_concept(folder / "finished.safetensors"), first)
    again, none = train(base, tmp_path)
    assert none == [] and not again.tokens["clip_l"].is_inference()
    assert_same(again, first)
    anew, all_steps = train(base, tmp_path, reuse=False)
    assert all_steps == [1, 2, 3]
    assert_same(anew, first)


def test_a_finished_run_leaves_concepts_only_also_when_killed_before_it_had_tidied_up(
    base: Tiny, tmp_path: Path
) -> None:
    train(base, tmp_path, steps=4)
    (folder,) = tmp_path.iterdir()
    left = {"finished.safetensors", "step_000003.safetensors", "step_000004.safetensors"}
    assert {file.name for file in folder.iterdir()} == left
    (folder / "step_000004.resume").write_bytes(b"the optimiser's state")
    assert train(base, tmp_path, steps=4)[1] == []
    assert {file.name for file in folder.iterdir()} == left


@pytest.mark.parametrize("error", [comfy.model_management.InterruptProcessingException, KeyboardInterrupt, ValueError])
def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(
    base: Tiny, tmp_path: Path, error: type[BaseException]
) -> None:
    def stop(step: int, loss: float) -> None:
        if step == 2:
            raise error

    whole, _ = train(base, tmp_path / "whole", steps=4)
    with pytest.raises(error):
        train(base, tmp_path / "cut", stop, every=0, steps=4)
    (folder,) = (tmp_path / "cut").iterdir()
    checkpoint = load_concept(folder / "step_000002.safetensors")
    with torch.inference_mode():
        apply_concept(base.model, base.clip, checkpoint)
    assert checkpoint.info.steps == 2 and checkpoint.info.history["loss"] == whole.info.history["loss"][:2]
    resumed, steps = train(base, tmp_path / "cut", steps=4)
    assert steps == [3, 4]
    assert_same(resumed, whole)


def test_an_interrupted_run_of_the_real_8_bit_optimizer_goes_on_bit_for_bit(base: Tiny, tmp_path: Path) -> None:
    def stop(step: int, loss: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    whole, _ = train(base, tmp_path / "whole", steps=4, optimizer="adamw_8bit")
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path / "cut", stop, every=0, steps=4, optimizer="adamw_8bit")
    (state,) = (tmp_path / "cut").glob("*/step_000002.resume")
    stored = read_tensors(state)[0]
    assert any(name.endswith("/state1") and value.dtype == torch.uint8 for name, value in stored.items())
    resumed, steps = train(base, tmp_path / "cut", steps=4, optimizer="adamw_8bit")
    assert steps == [3, 4]
    assert_same(resumed, whole)


def test_the_interrupt_inside_a_step_keeps_the_step_before(base: Tiny, tmp_path: Path) -> None:
    """The host may interrupt within any of its layers, after random numbers were drawn."""
    whole, _ = train(base, tmp_path / "whole")

    def interrupt(step: int, loss: float) -> None:
        if step == 2:
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(base, tmp_path / "cut", interrupt, every=0)
    resumed, steps = train(base, tmp_path / "cut")
    assert steps == [3]
    assert_same(resumed, whole)


def test_running_out_of_memory_keeps_the_work_and_says_what_lowers_it(base: Tiny, tmp_path: Path) -> None:
    def explode(step: int, loss: float) -> None:
        if step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has …")

    with pytest.raises(UserInputError) as told:
        train(base, tmp_path, explode, every=0)
    message = str(told.value)
    assert "Memory ran out while asking for 20.00 MiB more. What was reached is kept" in message
    assert "gradient_checkpointing on, which goes on from there; batch_size 1 (now 2); rank 16" in message
    assert "smaller resolution" in message
    whole, _ = train(base, tmp_path / "whole")
    concept, steps = train(base, tmp_path, gradient_checkpointing=True)
    assert steps == [3]
    assert all(torch.equal(concept.tokens[name], vectors) for name, vectors in whole.tokens.items())
    assert all(torch.equal(concept.key_value_deltas[name], delta) for name, delta in whole.key_value_deltas.items())


def test_a_wrong_preview_prompt_deletes_nothing_of_an_earlier_run(base: Tiny, tmp_path: Path) -> None:
    train(base, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserInputError, match="does not contain"), torch.inference_mode():
        train_concept(
            base.model,
            base.clip,
            base.vae,
            inputs(),
            settings(),
            lambda step, loss: None,
            keep_contexts=True,
            storage=Storage(tmp_path, reuse=False),
            preview=PreviewPlan(1, "a cat"),
            on_preview=lambda step, picture: None,
        )
    assert sorted(tmp_path.rglob("*")) == before and len(before) > 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("HIP out of memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.9 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (UserInputError("Memory ran out. The host said: CUDA out of memory"), False),
    ],
)
def test_memory_errors_are_known_on_every_device(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_finished_run_tells_that_it_was_not_trained_again_and_which_steps_it_does_not_have(
    base: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def again(steps: tuple[int, ...]) -> str:
        with torch.inference_mode(), caplog.at_level("INFO"):
            train_concept(
                base.model,
                base.clip,
                base.vae,
                inputs(),
                settings(),
                lambda step, loss: None,
                keep_contexts=True,
                storage=Storage(tmp_path, CheckpointPlan(every=1, keep=1, steps=steps)),
                tell=told.append,
            )
        return told[-1] if told else ""

    assert again((1,)).startswith("3 steps; K and V moved by ")
    first, repeated = told[-1], again((1,))
    assert repeated.split("\n", 1)[0].endswith("is returned.") and repeated.endswith("\n" + first)
    assert all(line in caplog.text for line in repeated.split("\n"))
    assert "The concepts of steps 2 were not kept: set steps to the number you want" in again((1, 2, 3, 9))


def test_a_full_disk_does_not_cost_the_concept(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("comfyui_dci.dci_core.tensor_file.save_file", full)
    concept, steps = train(base, tmp_path)
    assert concept.info.steps == 3 and steps == [1, 2, 3]
    assert "The finished concept could not be written" in caplog.text


def variants() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """Changes to what a run is given, by what they change; each must change the key."""

    def picture(call: dict[str, Any]) -> None:
        changed = [image.clone() for image in pictures()]
        changed[1][5, 6, 0] += 1 / 255
        call["inputs"] = replace(inputs(), images=changed)

    def lora(call: dict[str, Any]) -> None:
        concept = random_concept(call["base"])
        with torch.inference_mode():
            model, _ = apply_concept(call["base"].model, call["base"].clip, concept, 0.5)
        call["base"] = Tiny(model, call["base"].clip, call["base"].vae)

    def lora_on_clip(call: dict[str, Any]) -> None:
        clip, name = call["base"].clip.clone(), "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
        assert clip.add_patches({name: ("diff", (torch.ones(128, 64),))}) == [name]
        call["base"] = Tiny(call["base"].model, clip, call["base"].vae)

    def clip_skip(call: dict[str, Any]) -> None:
        clip = call["base"].clip.clone()
        clip.clip_layer(-2)
        call["base"] = Tiny(call["base"].model, clip, call["base"].vae)

    return {
        "picture": picture,
        "order": lambda call: call.update(inputs=replace(inputs(), images=pictures()[::-1])),
        "noun": lambda call: call.update(inputs=inputs("dog")),
        "regularization": lambda call: call.update(inputs=inputs(regularized=True)),
        "caption": lambda call: call.update(
            inputs=replace(inputs(regularized=True), regularization_captions=["a", "b"])
        ),
        "image caption": lambda call: call.update(inputs=replace(inputs(), captions=["", "outdoors", ""])),
        "resolution": lambda call: call.update(inputs=replace(inputs(), resolution_px=128)),
        "seed": lambda call: call.update(settings=settings(seed=6)),
        "steps": lambda call: call.update(settings=settings(steps=4)),
        "mode": lambda call: call.update(settings=settings(mode="key_value")),
        "rate": lambda call: call.update(settings=settings(token_learning_rate=1e-4)),
        "placeholder": lambda call: call.update(placeholder="my-cat*"),
        "contexts": lambda call: call.update(keep_contexts=True),
        "masks": lambda call: call.update(inputs=replace(inputs(), masks=[torch.ones(64, 72)] * 3)),
        "crop": lambda call: call.update(inputs=replace(inputs(), crop=Crop.BUCKETS)),
        "model": lambda call: call.update(base=Tiny(tiny("sd1", seed=1).model, call["base"].clip, call["base"].vae)),
        "clip": lambda call: call.update(base=Tiny(call["base"].model, tiny("sd1", seed=1).clip, call["base"].vae)),
        "vae": lambda call: call.update(base=Tiny(call["base"].model, call["base"].clip, tiny("sd1", seed=1).vae)),
        "prediction": lambda call: call.update(
            base=Tiny(tiny("sd1", v_prediction=True).model, call["base"].clip, call["base"].vae)
        ),
        "lora": lora,
        "lora on clip": lora_on_clip,
        "clip skip": clip_skip,
    }


def key(base: Tiny, change: Callable[[dict[str, Any]], Any] | None = None) -> str:
    call: dict[str, Any] = {
        "base": base,
        "inputs": inputs(),
        "settings": settings(),
        "placeholder": "V*",
        "keep_contexts": False,
    }
    if change is not None:
        change(call)
    used = call.pop("base")
    return key_of(used.model, used.clip, used.vae, *call.values())


@pytest.mark.parametrize("name", list(variants()))
def test_the_key_covers(base: Tiny, name: str) -> None:
    assert key(base, variants()[name]) != key(base)


OTHER_SETTINGS: dict[str, Any] = {
    "scheme": ICOScheme(2, 2, 2),
    "steps": 4,
    "batch_size": 1,
    "learning_rate": 2e-3,
    "context_learning_rate": 2e-2,
    "flip": False,
    "seed": 6,
    "token_learning_rate": 1e-4,
    "mode": "key_value",
    "rank": 2,
    "optimizer": "adamw_8bit",
    "schedule": "cosine",
    "warmup_steps": 1,
    "accumulation_steps": 2,
    "max_gradient_norm": 1.0,
    "min_snr_gamma": 5.0,
    "noise_offset": 0.1,
    "ema_decay": 0.9,
    "prior_loss_weight": 0.5,
    "precision": "bf16",
    "gradient_checkpointing": True,
    "evaluate_every": 3,
    "stop_after": 1,
}


def test_the_key_covers_every_setting(base: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(OTHER_SETTINGS) == set(TrainingSettings.__dataclass_fields__)
    monkeypatch.setattr(description, "model_facts", lambda *given: {})  # they do not change here, and take long
    usual = {"evaluate_every": 2}  # stop_after needs it
    keys = {key(base, lambda call: call.update(settings=settings(**usual)))}
    for name, value in OTHER_SETTINGS.items():
        keys.add(key(base, lambda call: call.update(settings=settings(**{**usual, name: value}))))  # noqa: B023
    assert len(keys) == 1 + len(OTHER_SETTINGS) - len(description.SHAPES_NOTHING)
    assert description.SHAPES_NOTHING == ("gradient_checkpointing",)  # test_training_modes.py: the same bits


def test_the_key_covers_the_code_and_nothing_that_does_not_matter(base: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(base)
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([base.model])
    assert key(tiny("sd1")) == key(base) == before
    assert key(base, lambda call: call.update(inputs=replace(inputs(), captions=["", "", ""]))) == before
    monkeypatch.setattr(description, "VERSION", "9.9.9")
    assert key(base) != before


def test_the_key_leaves_out_what_the_host_leaves_uninitialised(base: Tiny) -> None:
    """SD1 checkpoints have no text projection; its memory differs from process to process."""
    before, other = key(base), tiny("sd1")
    with torch.no_grad():
        other.clip.cond_stage_model.clip_l.transformer.text_projection.weight.fill_(float("nan"))
    assert key(other) == before
    xl = tiny("sdxl")
    whole = key(xl)
    with torch.no_grad():
        xl.clip.cond_stage_model.clip_g.transformer.text_projection.weight.add_(1.0)
    assert key(xl) != whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": TrainingInputs([], "cat")}, "0 reference images"),
        ({"given": TrainingInputs(pictures(), "cat " * 80)}, "training prompt needs"),
        ({"optimizer": "adamw_8bit"}, "pip install bitsandbytes"),
    ],
)
def test_unusable_inputs_are_refused_before_anything_is_hashed_or_written(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    def must_not_run(*given: Any) -> None:
        raise AssertionError("hashed before the inputs were checked")

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(trainer, "key_of", must_not_run)
    with pytest.raises(UserInputError, match=message):
        train(base, tmp_path, **change)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_name_is_one_any_system_allows() -> None:
    assert folder_name("Tortoise  Plüshy/..", "0123456789abcdef") == "tortoise-pl-shy-0123456789ab"
    assert folder_name("猫", "0123456789abcdef") == "concept-0123456789ab"
