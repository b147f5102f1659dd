"""The study of LoRAs that no trainer of ours made: trained by the host's node, drawn in every way, told in pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import study.lora_training
import study.loras
import study.studio
from demo_world.judge import Judge
from study.class_images import class_images
from study.lora_report import SHOWN, cell_table, collected, contact_sheet, gap_table
from study.lora_training import (
    CHOSEN_ON,
    DREAMBOOTH,
    INSTANCE,
    LORAS,
    STUDIED,
    load_lora,
    lora_file,
    training_pictures,
)
from study.loras import BASE, NOUN_FIRST, PLAIN, WAYS, Cells, Way, draw, judged, missing, prompts_of, text_of
from study.studio import Studio, encode

SHORT = replace(LORAS[0], steps=2, pictures=1)
PROMPT = next(prompt for prompt in prompts_of(STUDIED[0], LORAS[0]) if prompt.kind == "second noun")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return Studio(tmp_path_factory.mktemp("study"))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study.studio, "STEPS", 3)


def pictures(studio: Studio, weights: dict[str, Any], way: Way) -> torch.Tensor:
    ((_, drawn),) = draw(studio, weights, STUDIED[0], way, [PROMPT])
    return drawn


def test_the_subject_on_which_rates_were_chosen_is_not_reported() -> None:
    assert CHOSEN_ON not in STUDIED


def test_class_images_stand_beside_the_references_with_captions_of_their_own() -> None:
    alone, captions = training_pictures(STUDIED[0], INSTANCE)
    assert set(captions) == {"photo of a sks bear"} and len(captions) == len(alone)
    images, captions = training_pictures(STUDIED[0], DREAMBOOTH)
    assert len(images) == len(captions) == 2 * len(alone)
    assert not any("sks" in caption for caption in captions[len(alone) :])


def test_class_images_show_the_noun_and_the_first_ones_are_the_same_for_every_count() -> None:
    images, captions = class_images("toy", 6)
    assert len(images) == 6 and all(" toy" in caption for caption in captions)
    assert all(image.shape == (256, 256, 3) and 0 <= image.min() < image.max() <= 1 for image in images)
    fewer, told = class_images("toy", 2)
    assert told == captions[:2] and all(torch.equal(one, other) for one, other in zip(fewer, images))


@pytest.mark.parametrize(("noun", "count", "message"), [("teddy-bear", 1, "choose one of"), ("toy", 0, "1 or more")])
def test_class_images_of_no_class_noun_or_none_are_refused(noun: str, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_images(noun, count)


def test_the_host_s_node_trains_a_lora_of_all_layers_once_and_the_same_again(studio: Studio, tmp_path: Path) -> None:
    before = studio.base.model.model.state_dict()["diffusion_model.out.2.weight"].clone()
    file = lora_file(studio, STUDIED[0], SHORT)
    written = file.stat().st_mtime_ns
    assert lora_file(studio, STUDIED[0], SHORT) == file and file.stat().st_mtime_ns == written
    again = lora_file(replace_folder(studio, tmp_path), STUDIED[0], SHORT)
    assert again.read_bytes() == file.read_bytes()
    assert torch.equal(studio.base.model.model.state_dict()["diffusion_model.out.2.weight"], before)
    with torch.inference_mode():
        model, _ = study.loras.comfy.sd.load_lora_for_models(studio.base.model, None, load_lora(file), 1.0, 0.0)
    weights = {key for key, value in studio.base.model.model.state_dict().items() if value.ndim > 1}
    assert {key for key in weights if key.startswith("diffusion_model.")} <= set(model.patches)


def replace_folder(studio: Studio, folder: Path) -> Studio:
    other = object.__new__(Studio)
    other.folder, other.base = folder, studio.base
    return other


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    "way",
    [
        Way(strength=0.5),
        NOUN_FIRST[1],
        Way(injection_strength=1.0, active_fraction=0.5),
        Way(injection_strength=1.0, active_fraction=0.5, auxiliary_strength=0.0),
    ],
    ids=lambda way: way.name,
)
def test_every_way_differs_from_the_plain_lora_and_is_the_same_again(studio: Studio, way: Way) -> None:
    weights = load_lora(lora_file(studio, STUDIED[0], SHORT))
    plain, drawn = pictures(studio, weights, PLAIN), pictures(studio, weights, way)
    assert not torch.equal(plain, drawn)
    assert torch.equal(pictures(studio, weights, way), drawn)
    assert torch.equal(pictures(studio, weights, PLAIN), plain)
    (scores,) = judged(Judge().eval(), [(PROMPT, drawn)]).values()
    assert scores.shape == (2,) and (scores >= 0).all() and (scores <= 1).all()


@pytest.mark.usefixtures("few_steps")
def test_without_the_lora_the_demo_model_draws_the_class_noun(studio: Studio) -> None:
    weights = load_lora(lora_file(studio, STUDIED[0], SHORT))
    clip, text = studio.base.clip, PROMPT.plain_text
    with torch.inference_mode():
        known = studio.sample(studio.base.model, encode(clip, text), encode(clip, ""), study.loras.NOISE_SEED, range(1))
    assert torch.equal(pictures(studio, weights, BASE), known)


def test_the_prompts_name_the_subject_and_are_of_three_kinds() -> None:
    prompts = prompts_of(STUDIED[0], LORAS[0])
    assert all("sks bear" in text_of(prompt) for prompt in prompts)
    assert {"context", "second noun", "style"} <= {prompt.kind for prompt in prompts}


def finish(folder: Path, wanted: Any) -> None:
    """Write cells in which a subject's scores are its number in hundredths and what ``wanted`` says of a way."""
    for number, subject in enumerate(STUDIED):
        for lora in LORAS:
            cells = Cells(folder, subject, lora)
            of_ways = {way: np.add(wanted(way), number / 100) for way in WAYS}
            cells.write({(way, prompt): of_ways[way] for way in WAYS for prompt in prompts_of(subject, lora)})


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    first, *others = prompts_of(STUDIED[0], LORAS[0])
    Cells(tmp_path, STUDIED[0], LORAS[0]).write({(PLAIN, first): np.array([0.25, 0.5])})
    left = {(lora, way): prompts for _, lora, way, prompts in missing(tmp_path, STUDIED[:1])}
    assert len(left) == len(WAYS) * len(LORAS)
    assert left[LORAS[0], PLAIN] == others and left[LORAS[1], PLAIN] == left[LORAS[0], BASE] == [first, *others]
    assert Cells(tmp_path, STUDIED[0], LORAS[0]).read(PLAIN, first).tolist() == [0.25, 0.5]
    other = Cells(tmp_path, STUDIED[0], replace(LORAS[0], steps=7))
    assert other.missing(PLAIN, [first]) == [first], "trained otherwise"


def test_the_tables_tell_paired_differences_at_equal_likeness(tmp_path: Path) -> None:
    def wanted(way: Way) -> tuple[float, float]:
        """Less strength loses likeness for obedience one to one; two branches gain 0.1 of obedience on top."""
        if way.injection_strength is not None:
            return 0.6 - way.injection_strength / 20, 0.5 + way.injection_strength / 20
        lost = 1 - way.strength + way.noun_until
        return 0.8 - 0.8 * lost, 0.2 + 0.8 * lost

    finish(tmp_path, wanted)
    found = collected(tmp_path)
    rows = gap_table(found).splitlines()
    both = ",".join(["+0.100 (+0.100 … +0.100),above"] * 4)
    assert f"instance only,1,0.5,strength 0 … 1,{both}" in rows
    told = [row for row in cell_table(found).splitlines() if row.startswith("DreamBooth,strength 0.5,")]
    assert len(told) == 1 and ",-0.40 (-0.40 … -0.40),+0.40 (+0.40 … +0.40)," in told[0]
    assert ",-0.24 (-0.24 … -0.24),+0.24 (+0.24 … +0.24)," in told[0], "against strength 0.8"


def test_a_way_that_is_not_finished_is_said_to_be_missing(tmp_path: Path) -> None:
    finish(tmp_path, lambda way: (0.5, 0.5))
    Cells(tmp_path, STUDIED[1], LORAS[0]).path.unlink()
    found = collected(tmp_path)
    assert not found[LORAS[0].kind]["scenes"] and PLAIN in found[LORAS[-1].kind]["scenes"]
    assert "instance only,1,0.5,strength 0 … 1,missing,,missing,,missing,,missing," in gap_table(found).splitlines()


@pytest.mark.usefixtures("few_steps")
def test_the_contact_sheet_has_a_row_for_each_way(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study.lora_report, "STUDIED", STUDIED[:1])
    monkeypatch.setattr(study.lora_report, "SHOWN", dict(list(SHOWN.items())[-2:]))
    file = lora_file(studio, STUDIED[0], SHORT)
    monkeypatch.setattr(study.lora_report, "lora_file", lambda *given: file)
    height, width, channels = contact_sheet(studio).shape
    assert channels == 3 and 2 * 256 < height < 3 * 256 and width > 2 * 256
