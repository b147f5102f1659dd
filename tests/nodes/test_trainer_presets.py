"""ICO Trainer's presets, and graphs made before there were any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.presets import PRESET_INPUTS, ModelScale, PresetName, run_values
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes import ico_trainer
from comfyui_dci.nodes.host.training import progress
from comfyui_dci.nodes.ico_trainer import ICOTrainer
from node_runs import defaults, run

from workbench.tiny import tiny

OLD_GRAPH: dict[str, Any] = {  # workflows/api/train.json as it was before presets
    "class_noun": "cat",
    "contexts_before": 1,
    "contexts_after": 1,
    "concept_vectors": 3,
    "steps": 500,
    "batch_size": 2,
    "learning_rate": 2e-05,
    "context_learning_rate": 0.0002,
    "seed": 0,
    "resolution": 64,
    "flip": True,
    "placeholder": "V*",
    "keep_contexts": False,
    "token_learning_rate": -1.0,
    "checkpoint_every": 100,
    "checkpoints_kept": 2,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the node hands to the trainer, which does not run."""
    given: dict[str, Any] = {"told": []}

    def watch(base: Any, inputs: Any, settings: Any, **rest: Any) -> Any:
        given.update(inputs=inputs, settings=settings, plan=rest["storage"].plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(ico_trainer, "train_concept", watch)
    monkeypatch.setattr(progress.TrainingProgress, "announce", lambda self, text: given["told"].append(text))
    return given


def ask(**values: Any) -> None:
    """Call the node with these values alone, as an API graph does, on a model of 64-wide text and embeddings of 0.05."""
    base = tiny("sd1")
    with pytest.raises(KeyboardInterrupt), torch.inference_mode():
        ICOTrainer.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(
            images=[torch.rand(3, 64, 64, 3)],
            **{
                name: [value]
                for name, value in {"model": base.model, "clip": base.clip, "vae": base.vae, **values}.items()
            },
        )


@pytest.mark.parametrize("preset", [{}, {"preset": "with_dci"}, {"preset": "quick_look"}])
def test_a_graph_from_before_the_presets_means_what_it_meant(asked: dict[str, Any], preset: dict[str, str]) -> None:
    ask(**OLD_GRAPH, **preset)
    assert asked["settings"] == TrainingSettings(
        ICOScheme(1, 1, 3), 500, 2, 2e-5, 2e-4, token_learning_rate=None, seed=0, evaluate_every=0
    )
    assert asked["plan"] == CheckpointPlan(100, 2)
    assert asked["told"][0].startswith(
        "values of your own: M 1, L 1, S 3, 500 steps of 2 pictures, rates 2e-05 / 2e-05 / 2e-04"
    )
    assert "No class images" in asked["told"][0]


def test_a_graph_from_before_checkpoints_and_token_rates_still_runs(asked: dict[str, Any]) -> None:
    late = ("token_learning_rate", "checkpoint_every", "checkpoints_kept")
    ask(**{name: value for name, value in OLD_GRAPH.items() if name not in late})
    assert asked["settings"] == TrainingSettings(ICOScheme(1, 1, 3), 500, 2, 2e-5, 2e-4)
    assert asked["plan"] == CheckpointPlan(150, 6)


@pytest.mark.parametrize("preset", list(PresetName))
def test_a_fresh_node_trains_by_its_preset_at_the_model_s_scale(asked: dict[str, Any], preset: PresetName) -> None:
    fresh = {**defaults(ICOTrainer), "preset": preset.value}
    assert all(fresh[name] == -1 for name in PRESET_INPUTS)
    ask(**fresh)
    expected = run_values(preset, ModelScale(64, 0.05))  # see workbench/tiny.py
    settings = asked["settings"]
    assert (settings.scheme, settings.steps, settings.batch_size) == (
        expected.scheme,
        expected.steps,
        expected.batch_size,
    )
    assert settings.learning_rate == expected.learning_rate
    assert settings.token_learning_rate == pytest.approx(expected.token_learning_rate, rel=0.01)
    assert settings.context_learning_rate == pytest.approx(expected.context_learning_rate, rel=0.01)
    assert asked["plan"] == CheckpointPlan(expected.checkpoint_every, expected.checkpoints_kept)
    assert asked["told"][0].startswith(f"preset {preset.value}: M ")


def test_own_values_win_one_by_one(asked: dict[str, Any]) -> None:
    ask(**{**defaults(ICOTrainer), "preset": "alone", "steps": 7, "learning_rate": 1e-3, "checkpoints_kept": 1})
    settings = asked["settings"]
    assert (settings.scheme, settings.steps, settings.batch_size) == (ICOScheme(4, 2, 2), 7, 2)
    assert (settings.learning_rate, settings.token_learning_rate) == (1e-3, None)
    assert asked["plan"] == CheckpointPlan(75, 1)
    assert asked["told"][0].startswith(
        "preset alone with steps, learning_rate, checkpoints_kept of your own: M 4, L 2, S 2, 7 steps"
    )


@pytest.mark.parametrize(
    "values, message",
    [
        ({"steps": 0}, "steps must be between 1 and 100000, but got 0"),
        ({"concept_vectors": 0}, "concept_vectors must be between 1 and 16, but got 0"),
        ({"batch_size": 0}, "batch_size must be between 1 and 64, but got 0"),
        ({"learning_rate": -0.5}, "learning_rate must be between 0 and 1, but got -0.5"),
        ({"checkpoints_kept": 0}, "checkpoints_kept must be between 1 and 1000, but got 0"),
    ],
)
def test_what_lies_between_a_preset_s_and_a_possible_value_is_refused(values: dict[str, Any], message: str) -> None:
    base = tiny("sd1")
    with pytest.raises(UserInputError, match=message):
        run(ICOTrainer, model=base.model, clip=base.clip, vae=base.vae, images=[torch.rand(2, 64, 64, 3)], **values)


def test_a_missing_clip_is_said_as_before() -> None:
    base = tiny("sd1")
    with pytest.raises(UserInputError, match="There is no CLIP"):
        run(ICOTrainer, model=base.model, clip=[None], vae=base.vae, images=[torch.rand(2, 64, 64, 3)])


def test_the_preset_stands_where_it_always_stood_and_says_what_each_is_for() -> None:
    *_, preset, last, _, _ = ICOTrainer.define_schema().inputs
    assert preset.id == "preset" and preset.default == "with_dci" and preset.optional
    assert all(f"\n{name.value}: " in preset.tooltip for name in PresetName)
    assert last.id == "keep_state" and last.default == "up to 1 GB" and last.optional


def test_the_help_page_names_every_input() -> None:
    page = (Path(__file__).resolve().parents[2] / "web" / "docs" / "ICOTrainer.md").read_text(encoding="utf-8")
    assert [entry.id for entry in ICOTrainer.define_schema().inputs if f"`{entry.id}`" not in page] == []


def test_the_node_says_at_its_end_how_the_run_went(monkeypatch: pytest.MonkeyPatch) -> None:
    base, told = tiny("mini"), []
    monkeypatch.setattr(progress.TrainingProgress, "tell", lambda self, text: told.append(self._heading + text))
    concept = run(
        ICOTrainer,
        model=base.model,
        clip=base.clip,
        vae=base.vae,
        images=[torch.rand(2, 64, 64, 3)],
        steps=2,
        resolution=64,
    )[0]
    heading, end = "preset with_dci with steps of your own: M 1, L 1, S 3, 2 steps of 2 pictures", told[-1]
    assert all(text.startswith(heading) and "\nNo class images: " in text for text in told)
    assert f"\n2 steps; K and V moved by {concept.info.history['key_value_change']:.3f} of their size" in end
