"""ICO Trainer: every input arrives where it is used, and what cannot be used is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui_dci.dci_core.concept.scheme import ICOScheme
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.training.run import CheckpointPlan, KeepState
from comfyui_dci.dci_core.training.settings import TrainingSettings
from comfyui_dci.nodes import ico_trainer
from comfyui_dci.nodes.host.training import progress
from comfyui_dci.nodes.host.training.preview import PreviewPlan
from comfyui_dci.nodes.host.training.progress import TrainingProgress
from comfyui_dci.nodes.ico_trainer import ICOTrainer
from node_runs import run, trained
from other_settings import OTHER_SETTINGS

from workbench.tiny import tiny


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"class_noun": " "}, "class noun"),
        ({"class_noun": "V* cat"}, "class noun"),
        ({"placeholder": "my cat"}, "placeholder"),
        ({"placeholder": "Cat"}, "placeholder"),
        ({"learning_rate": 2.0}, "learning_rate must be between 0 and 1, but got 2.0"),
        ({"captions": "outdoors\nindoors"}, "3 reference images and 2 captions"),
        ({"captions": "V* cat outdoors"}, 'names the subject.*such as "outdoors"'),
    ],
)
def test_the_trainer_refuses_unusable_input(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        trained(**inputs)


def test_every_input_of_the_trainer_arrives_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {name: value for name, value in OTHER_SETTINGS.items() if name not in ("scheme", "steps")}
    given: dict[str, Any] = {}

    def watch(base: Any, inputs: Any, settings: Any, **rest: Any) -> Any:
        given.update(inputs=inputs, settings=settings, **rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(ico_trainer, "train_concept", watch)
    with pytest.raises(KeyboardInterrupt):
        trained(
            contexts_before=4,
            contexts_after=2,
            concept_vectors=1,
            class_noun="cat",
            placeholder="my*",
            keep_contexts=True,
            checkpoint_every=9,
            checkpoints_kept=3,
            checkpoint_steps="5, 7",
            reuse=False,
            keep_state="always",
            preview_every=4,
            preview_prompt="my* cat",
            crop="buckets",
            captions="outdoors",
            masks=[torch.full((2, 64, 80), 0.5), torch.ones(1, 96, 64)],
            **changed,
        )
    settings, inputs = given["settings"], given["inputs"]
    assert settings == TrainingSettings(ICOScheme(4, 2, 1), 2, **changed)
    same = {
        name
        for name in TrainingSettings.__dataclass_fields__
        if getattr(TrainingSettings(), name) == getattr(settings, name)
    }
    assert same == set(), "every setting must differ from its default, or this test could not see it get lost"
    assert given["storage"].plan == CheckpointPlan(9, 3, (5, 7), KeepState.ALWAYS) and given["storage"].reuse is False
    assert given["preview"] == PreviewPlan(4, "my* cat")
    assert (inputs.placeholder, inputs.keep_contexts) == ("my*", True)
    assert (inputs.crop, inputs.resolution, list(inputs.captions)) == ("buckets", 64, ["outdoors"] * 3)
    assert [tuple(mask.shape) for mask in inputs.masks] == [(64, 80), (64, 80), (96, 64)]


def test_what_a_run_could_not_keep_is_on_the_node_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    told: list[str] = []
    monkeypatch.setattr("comfyui_dci.dci_core.tensor_file.save_file", full)
    monkeypatch.setattr(progress, "send_text", lambda text, node: told.append(text))
    monkeypatch.setattr(ico_trainer, "TrainingProgress", lambda steps, node: progress.TrainingProgress(steps, "7"))
    trained(checkpoint_every=1, seed=11)
    kept = [line for line in told[-1].split("\n") if "No space left on device" in line]
    assert [line.partition(" could not be written to ")[0] for line in kept] == [
        "The checkpoint of step 1",
        "The best concept",
        "The checkpoint of step 2",
        "The finished concept",
    ]
    assert told[-1].index(kept[-1]) < told[-1].index("2 steps; K and V moved by ")


def test_captions_reach_the_training_and_none_are_nothing() -> None:
    losses = []
    for captions in ("", "\n", "in the sun", "in the sun\non grass\nindoors"):
        torch.manual_seed(0)
        losses.append(trained(captions=captions)[1][1]["loss"])
    assert losses[0] == losses[1]
    assert len({tuple(some) for some in losses}) == 3


def test_a_folder_of_images_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import folder_paths
    from comfyui_dci.nodes.image_folder import LoadImageFolder
    from PIL import Image

    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    (tmp_path / "input" / "tom").mkdir(parents=True)
    for index, size in enumerate([(64, 64), (128, 64)]):
        picture = Image.new("RGBA", size, (200, 40 * index, 10, 128))
        picture.paste((20, 90, 160, 128), (8, 8, 40, 40))
        picture.save(tmp_path / "input" / "tom" / f"{index}.png")
    (tmp_path / "input" / "tom" / "1.txt").write_text("on grass,\nin the sun\n")
    images, masks, captions = run(LoadImageFolder, folder="tom").result
    assert [tuple(image.shape) for image in images] == [(1, 64, 64, 3), (1, 64, 128, 3)] and captions == [
        "",
        "on grass,\nin the sun",
    ]
    base = tiny("sdxl")
    concept, *_ = run(
        ICOTrainer,
        model=base.model,
        clip=base.clip,
        vae=base.vae,
        images=images,
        masks=masks,
        crop="buckets",
        regularization_images=images,
        regularization_captions=captions,
        captions=captions,
        steps=2,
        resolution=64,
        evaluate_every=1,
        preview_every=1,
    )
    assert concept.info.settings["captions"] == 1 and len(concept.info.history["evaluations"]) == 2
    assert concept.info.settings["masks"] == 2 and concept.info.settings["regularization_images"] == 2


def test_the_node_says_what_masks_leave_and_that_captions_without_images_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What ComfyUI's bypass of DCI Class Images hands on, its class noun, changes nothing and stops nothing."""
    told: list[str] = []
    monkeypatch.setattr(TrainingProgress, "announce", lambda progress, text: told.append(text))
    losses = []
    for captions, masks in (("", None), ("cat", None), ("", [cut_out(0.0), cut_out(1.0)])):
        torch.manual_seed(0)
        given = {} if masks is None else {"masks": masks}
        losses.append(trained(regularization_captions=captions, **given)[1][1]["loss"])
    assert losses[0] == losses[1] != losses[2]
    assert "caption" not in told[0].lower() and "Masks leave" not in told[0]
    unused = "The regularization captions ('cat') are not used, as there are no regularization images."
    assert told[1].splitlines()[-1] == unused
    assert "Masks leave 42 % of the images." in told[2].splitlines()
    assert "Mask 3 is white along the border and dark in the middle" in told[2]


def cut_out(background: float) -> torch.Tensor:
    """Return masks for the batches of ``trained``, the middle of each square in the one value and the rest in the other."""
    height, width, count = (64, 80, 2) if background == 0.0 else (96, 64, 1)
    masks = torch.full((count, height, width), background)
    masks[:, height // 2 - 16 : height // 2 + 16, width // 2 - 16 : width // 2 + 16] = 1.0 - background
    return masks
