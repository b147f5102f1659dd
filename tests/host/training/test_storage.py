"""What a run leaves on disk, and when it is used again: the key covers everything that shapes the result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import pytest
import torch
from comfyui_dci.dci_core.concept.concept import Concept
from comfyui_dci.dci_core.concept.file import load_concept
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.tensor_file import read_tensors
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.nodes.host.concepts.applying import apply_concept
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training import trainer
from comfyui_dci.nodes.host.training.inputs import TrainingInputs
from comfyui_dci.nodes.host.training.memory import is_out_of_memory
from comfyui_dci.nodes.host.training.preview import PreviewPlan
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from training_runs import Watch, inputs, settings

from workbench.tiny import Tiny, tiny

pytestmark = pytest.mark.sweep


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
    watch = Watch(on_step)
    with torch.inference_mode():
        concept, _ = train_concept(
            HostModel(*base),
            replace(given or inputs(), keep_contexts=True),
            settings(**changes),
            Storage(root, CheckpointPlan(every=every), reuse),
            observer=watch,
        )
    return concept, watch.steps


def assert_same(one: Concept, other: Concept) -> None:
    assert one.info == other.info
    assert one.contexts is not None and other.contexts is not None
    for ours, theirs in (
        (one.deltas, other.deltas),
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


def test_a_finished_run_leaves_concepts_and_one_state_also_when_killed_before_it_had_tidied_up(
    base: Tiny, tmp_path: Path
) -> None:
    train(base, tmp_path, steps=4)
    (folder,) = tmp_path.iterdir()
    left = {"finished.safetensors", "finished.resume", "step_000003.safetensors", "step_000004.safetensors"}
    assert {file.name for file in folder.iterdir()} == left
    (folder / "step_000004.resume").write_bytes(b"the optimizer's state")
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
    assert all(torch.equal(concept.deltas[name], delta) for name, delta in whole.deltas.items())


def test_a_wrong_preview_prompt_deletes_nothing_of_an_earlier_run(base: Tiny, tmp_path: Path) -> None:
    train(base, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserInputError, match="does not contain"), torch.inference_mode():
        train_concept(
            HostModel(*base),
            replace(inputs(), keep_contexts=True),
            settings(),
            Storage(tmp_path, reuse=False),
            PreviewPlan(1, "a cat"),
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
    watch = Watch()

    def again(steps: tuple[int, ...]) -> str:
        with torch.inference_mode(), caplog.at_level("INFO"):
            train_concept(
                HostModel(*base),
                replace(inputs(), keep_contexts=True),
                settings(),
                Storage(tmp_path, CheckpointPlan(every=1, keep=1, steps=steps)),
                observer=watch,
            )
        return watch.told[-1] if watch.told else ""

    assert again((1,)).startswith("3 steps; K and V moved by ")
    first, repeated = watch.told[-1], again((1,))
    assert repeated.split("\n", 1)[0].endswith("is returned.") and repeated.endswith("\n" + first)
    assert all(line in caplog.text for line in repeated.split("\n"))
    assert "The concepts of steps 2 were not kept: set steps to the number you want" in again((1, 2, 3, 9))


def test_a_concept_on_a_disk_that_is_only_read_is_returned_and_nothing_else_is_done_there(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, own = tmp_path / "shared", tmp_path / "own"
    first, _ = train(base, shared / "training", every=0)
    (folder,) = (shared / "training").iterdir()
    left = sorted(folder.iterdir())
    paths = ([str(own), str(shared)], {".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "dci_concepts", paths)
    monkeypatch.setattr(os, "access", lambda place, mode: own in Path(place).parents)
    again, steps = train(base, own / "training", every=0)
    assert steps == [] and sorted(folder.iterdir()) == left and not own.exists()
    assert_same(again, first)
    anew, steps = train(base, own / "training", every=0, reuse=False)
    assert steps == [1, 2, 3] and sorted(folder.iterdir()) == left
    assert_same(load_concept(own / "training" / folder.name / "finished.safetensors"), anew)
    (folder / "finished.safetensors").write_bytes(b"half")
    assert train(base, own / "training", every=0)[1] == []


def test_a_run_that_cannot_be_kept_deletes_nothing_of_an_earlier_one(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*given: Any) -> None:
        raise UserInputError("cannot be written")

    train(base, tmp_path, every=0)
    left = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(trainer, "check_room", read_only)
    with pytest.raises(UserInputError, match="cannot be written"):
        train(base, tmp_path, every=0, reuse=False)
    assert sorted(tmp_path.rglob("*")) == left


def test_a_full_disk_does_not_cost_the_concept(
    base: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("comfyui_dci.dci_core.tensor_file.save_file", full)
    concept, steps = train(base, tmp_path)
    assert concept.info.steps == 3 and steps == [1, 2, 3]
    assert "The finished concept could not be written" in caplog.text


@pytest.mark.parametrize(
    ("given", "change", "message"),
    [
        ({"images": []}, {}, "0 reference images"),
        ({"class_noun": "cat " * 80}, {}, "training prompt needs"),
        ({}, {"optimizer": "adamw_8bit"}, "pip install bitsandbytes"),
    ],
)
def test_unusable_inputs_are_refused_before_anything_is_hashed_or_written(
    base: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, Any],
    change: dict[str, Any],
    message: str,
) -> None:
    def must_not_run(*given: Any) -> None:
        raise AssertionError("hashed before the inputs were checked")

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(trainer, "keys_of", must_not_run)
    with pytest.raises(UserInputError, match=message):
        train(base, tmp_path, given=replace(inputs(), **given), **change)
    assert list(tmp_path.iterdir()) == []
