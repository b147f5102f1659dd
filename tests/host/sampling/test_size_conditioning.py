"""SDXL's sizes behind Aux Prompt Builder: in the vector that both branches give to the network."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy_extras.nodes_clip_sdxl as sdxl_nodes
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.size_conditioning import SizeConditioning
from comfyui_dci.nodes.aux_prompt_builder import AuxPromptBuilder
from comfyui_dci.nodes.sdxl_sizes import SDXLSizes
from node_runs import run
from scenes import PROMPT, dci, ksample, scene

SIZES = {"width": 1536, "height": 640, "crop_w": 24, "crop_h": 8, "target_width": 768, "target_height": 1280}
GIVEN = {"prompt": PROMPT, "auxiliary_noun": "dog"}


def sized(**sizes: int) -> Any:
    """Return the conditioning of Aux Prompt Builder behind DCI SDXL Sizes."""
    built = run(AuxPromptBuilder, clip=scene("sdxl").clip, **GIVEN)[0]
    return run(SDXLSizes, conditioning=built, **{**dict.fromkeys(SIZES, 0), **sizes})[0]


def vectors_seen(monkeypatch: pytest.MonkeyPatch, positive: Any) -> list[torch.Tensor]:
    """Return the vectors y that the network is given in two steps with DCI, [1, D] each, without repetitions."""
    s, seen = scene("sdxl"), []
    apply_model = comfy.model_base.BaseModel.apply_model

    def watch(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.extend(kwargs["y"].split(1))
        return apply_model(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(comfy.model_base.BaseModel, "apply_model", watch)
        ksample(dci(s.model), positive, s.negative, steps=2)
    return [row for number, row in enumerate(seen) if not any(torch.equal(row, other) for other in seen[:number])]


def sizes_in(monkeypatch: pytest.MonkeyPatch, positive: Any) -> dict[str, torch.Tensor]:
    """Return the part of y behind the pooled vector, of the concept and the auxiliary branch."""
    carried = positive[0][1]["dci"]
    pooled = {"concept": positive[0][1]["pooled_output"], "auxiliary": carried.pooled_output}
    width = pooled["concept"].shape[1]
    return {
        name: row[:, width:]
        for name, vector in pooled.items()
        for row in vectors_seen(monkeypatch, positive)
        if torch.equal(row[:, :width], vector)
    }


@pytest.mark.parametrize("given", [SIZES, {"width": 2048, "crop_h": 16}])
def test_the_sizes_arrive_in_both_branches(monkeypatch: pytest.MonkeyPatch, given: dict[str, int]) -> None:
    s = scene("sdxl")
    seen = sizes_in(monkeypatch, sized(**given))
    width, height = given.get("width", 64), given.get("height", 64)  # the latent is 8 x 8
    target = given.get("target_height", height), given.get("target_width", width)
    numbers = [height, width, given.get("crop_h", 0), given.get("crop_w", 0), *target]
    embedder = s.model.model.embedder
    expected = torch.cat([embedder(torch.tensor([float(number)])) for number in numbers]).flatten()[None]
    assert set(seen) == {"concept", "auxiliary"}
    assert torch.equal(seen["concept"], expected) and torch.equal(seen["auxiliary"], expected)


def test_all_sizes_together_are_what_the_hosts_node_says() -> None:
    clip = scene("sdxl").clip
    ours = sized(**SIZES)[0]
    with torch.inference_mode():
        text = {"text_g": PROMPT, "text_l": PROMPT}
        theirs = sdxl_nodes.CLIPTextEncodeSDXL.execute(clip, **SIZES, **text).result[0][0]
    assert torch.equal(ours[0], theirs[0])
    assert {name: ours[1][name] for name in SIZES} == {name: theirs[1][name] for name in SIZES} == SIZES


def test_without_sizes_nothing_is_said() -> None:
    assert SizeConditioning().given() == {}
    assert not set(SIZES) & set(sized()[0][1])
    with pytest.raises(UserInputError, match="crop_w must be between 0 and 16384, but got -8"):
        SizeConditioning(crop_w=-8)
