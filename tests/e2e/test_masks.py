"""Masks in a real server belong to the picture beside them; and what is advanced may be left out of an API graph."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from graphs import SIZE, small
from server_pictures import saved_pictures

from workbench.comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("queue_is_empty")


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def whole_graph() -> dict[str, Any]:
    """A short training without class images, and DCI Sampler with masks."""
    graph = small(
        "train_and_generate",
        ICOTrainer={"seed": 31},
        DCISaveConcept={"name": "masks", "overwrite": True},
        AuxPromptBuilder={"auxiliary_noun": "dog"},
        DCISampler={"steps": 3, "active_fraction": 0.5},
    )
    del graph["8"]
    graph["10"]["inputs"] = {k: v for k, v in graph["10"]["inputs"].items() if not k.startswith("regularization")}
    return graph


def two_passes() -> dict[str, Any]:
    """Apply DCI under two KSamplers, the second after an upscale; masks of the first three pictures, and of its second one."""
    graph = whole_graph()
    given = graph["24"]["inputs"] | {"model": ["40", 0]}
    ours = {name: given.pop(name) for name in ("injection_strength", "active_fraction")}
    usual = ("model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image")
    given = {name: given[name] for name in (*usual, "denoise")}
    rest = {
        "share_guidance": True,
        "mask_preset": "calibrated",
        "blend": "masks",
        "layers": "all",
        "share_noise": False,
    }
    graph["23"]["inputs"]["batch_size"] = 3
    graph |= {
        "24": node("KSampler", **given),
        "40": node("DCIApply", model=["20", 0], **ours, **rest),
        "41": node("LatentUpscaleBy", samples=["24", 0], upscale_method="bilinear", scale_by=1.5),
        "42": node("KSampler", **given | {"latent_image": ["41", 0], "denoise": 0.9, "steps": 2}),
        "43": node("VAEDecode", samples=["42", 0], vae=["1", 2]),
        "44": node("SaveImage", images=["43", 0], filename_prefix="second"),
        "50": node("ImageFromBatch", image=["25", 0], batch_index=1, length=1),
        "51": node("MaskVisualizer", masks=["40", 1], image=["50", 0], overlay=0.0, contrast="absolute", row=2),
    }
    graph["27"]["inputs"] |= {"masks": ["40", 1], "contrast": "absolute"}
    for number, masks in (("60", "27"), ("62", "51")):
        graph[number] = node("MaskToImage", mask=[masks, 1])
        graph[str(int(number) + 1)] = node("SaveImage", images=[number, 0], filename_prefix="mask")
    return graph


def test_masks_stay_with_their_picture_whatever_ran_in_between(server: ComfyServer) -> None:
    graph = two_passes()
    first = server.run(graph)
    whole = saved_pictures(server, first, "61", "L")
    assert [mask.shape for mask in whole] == [(SIZE, SIZE)] * 3
    assert not np.array_equal(whole[0], whole[1])

    def masks_again(changed: dict[str, Any]) -> list[np.ndarray]:
        return saved_pictures(server, server.run(changed), "61", "L")

    graph["27"]["inputs"]["overlay"] = 0.5
    assert np.array_equal(masks_again(graph), whole)  # only the visualizer runs again

    def cancel(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data.get("node") == "42" and data["value"] == 2:
            server.post("/interrupt", {})

    cancelled = copy.deepcopy(graph)
    cancelled["42"]["inputs"] |= {"seed": 7, "steps": 200}
    entry = server.run_to_any_end(cancelled, cancel)
    assert [kind for kind, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    graph["27"]["inputs"]["overlay"] = 1.0
    alone = {name: each for name, each in graph.items() if name not in ("41", "42", "43", "44")}
    assert np.array_equal(masks_again(alone), whole)
    assert np.array_equal(saved_pictures(server, first, "63", "L"), whole[1:2])


def test_what_is_advanced_may_be_left_out_of_an_api_graph(server: ComfyServer) -> None:
    graph = whole_graph()
    expected = saved_pictures(server, server.run(graph), "26", "L")
    bare = copy.deepcopy(graph)
    offered = server.get("/object_info")
    left_out = []
    for each in bare.values():
        optional = offered[each["class_type"]]["input"].get("optional", {})
        dropped = [name for name in each["inputs"] if optional.get(name, ["", {}])[1].get("advanced")]
        left_out += dropped
        each["inputs"] = {name: value for name, value in each["inputs"].items() if name not in dropped}
    assert {"blend", "share_noise", "entire_prompt", "overwrite"} <= set(left_out)
    assert np.array_equal(saved_pictures(server, server.run(bare), "26", "L"), expected)
