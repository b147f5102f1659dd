"""Settings of a training on nodes of their own: what they turn arrives, what they leave changes nothing, nothing acts unseen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.run import CheckpointPlan
from comfyui_dci.nodes import ico_trainer
from comfyui_dci.nodes.ico_trainer import ICOTrainer
from comfyui_dci.nodes.training_details import Checkpoints, TrainingDetails
from node_runs import defaults, run

from workbench.help_pages import is_unseen
from workbench.tiny import tiny

MOST_WIDGETS = 12
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the node hands to the trainer, which does not run."""
    given: list[dict[str, Any]] = []

    def watch(base: Any, inputs: Any, settings: Any, storage: Any, preview: Any, observer: Any) -> Any:
        given.append({"inputs": inputs, "settings": settings, "plan": storage.plan, "preview": preview})
        raise KeyboardInterrupt

    monkeypatch.setattr(ico_trainer, "train_concept", watch)
    return given


def ask(**values: Any) -> None:
    base = tiny("sd1")
    with pytest.raises(KeyboardInterrupt):
        run(ICOTrainer, model=base.model, clip=base.clip, vae=base.vae, images=[torch.rand(2, 64, 64, 3)], **values)


def values_of(node: Any, **turned: Any) -> dict[str, Any]:
    values: dict[str, Any] = node.execute(**{**defaults(node), **turned}).result[0]
    return values


def test_the_trainer_shows_few_widgets_and_every_other_one_stands_on_a_node_with_the_same_facts() -> None:
    inputs = [entry for entry in ICOTrainer.define_schema().inputs if entry.io_type in WIDGETS]
    assert len([entry for entry in inputs if not is_unseen(entry)]) <= MOST_WIDGETS
    elsewhere = [entry for node in (TrainingDetails, Checkpoints) for entry in node.define_schema().inputs]
    unseen = {entry.id: entry for entry in inputs if is_unseen(entry)}
    assert sorted(unseen) == sorted(entry.id for entry in elsewhere) and not any(map(is_unseen, elsewhere))
    for entry in elsewhere:
        for fact in ("io_type", "default", "min", "max", "step", "options", "tooltip", "display_name"):
            assert getattr(entry, fact, None) == getattr(unseen[entry.id], fact, None), (entry.id, fact)
        assert unseen[entry.id].as_dict()["hidden"] is True and "hidden" not in entry.as_dict()


def test_nodes_that_nobody_has_turned_change_nothing(asked: list[dict[str, Any]]) -> None:
    own = {"seed": 3, "steps": 7, "ema_decay": 0.5, "checkpoint_steps": "2, 4", "preview_every": 5, "rank": 4}
    ask(**own)
    ask(**own, settings=values_of(TrainingDetails), checkpoints=values_of(Checkpoints))
    (first, second) = ({name: value for name, value in each.items() if name != "inputs"} for each in asked)
    assert first == second and first["settings"].ema_decay == 0.5 and first["plan"].steps == (2, 4)


def test_what_a_node_has_turned_arrives(asked: list[dict[str, Any]]) -> None:
    settings = values_of(
        TrainingDetails, contexts_before=4, rank=8, ema_decay=0.98, keep_contexts=True, mode="key_value"
    )
    checkpoints = values_of(Checkpoints, checkpoint_every=3, checkpoint_steps="5", evaluate_every=0, preview_every=9)
    ask(steps=20, settings=settings, checkpoints=checkpoints)
    (found,) = asked
    assert (found["settings"].scheme.prefix, found["settings"].rank, found["settings"].ema_decay) == (4, 8, 0.98)
    assert found["settings"].mode == "key_value" and found["settings"].evaluate_every == 0
    assert found["inputs"].keep_contexts and found["preview"].every == 9
    assert found["plan"] == CheckpointPlan(3, 6, (5,)) and found["settings"].steps == 20


def test_two_nodes_that_say_different_things_are_told_before_anything_starts(asked: list[dict[str, Any]]) -> None:
    base, settings = tiny("sd1"), values_of(TrainingDetails, rank=8, ema_decay=0.5)
    message = r"rank is 8 there and 16 on ICO Trainer\. .* put the other back \(rank 0\)"
    with pytest.raises(UserInputError, match=message):
        run(
            ICOTrainer,
            **{"model": base.model, "clip": base.clip, "vae": base.vae, "images": [torch.rand(2, 64, 64, 3)]},
            **{"rank": 16, "ema_decay": 0.5, "settings": settings},
        )
    assert asked == []
