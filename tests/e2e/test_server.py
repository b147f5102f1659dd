"""The whole workflow through a real ComfyUI server: main.py, HTTP, websocket, files and history."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfyui_dci.dci_core.concept.file import load_concept
from graphs import SIZE, small
from server_pictures import saved_pictures

from workbench.comfy_client import RunFailed
from workbench.comfy_server import ComfyServer

pytestmark = pytest.mark.usefixtures("queue_is_empty")


def forget(server: ComfyServer) -> None:
    """Drop the server's cached outputs, so that everything runs again."""
    server.post("/free", {"free_memory": True, "unload_models": True})


def image_of(server: ComfyServer, entry: dict[str, Any], node: str) -> np.ndarray:
    return saved_pictures(server, entry, node)[0]


@pytest.fixture(scope="module")
def whole(server: ComfyServer) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    events: list[tuple[str, dict[str, Any]]] = []
    forget(server)  # what another module's graphs have left, so that every node runs and speaks
    graph = small("train_and_generate", DCISaveConcept={"name": "whole", "precision": "float32"})
    return server.run(graph, lambda kind, data: events.append((kind, data))), events


def test_the_graph_trains_and_generates(server: ComfyServer, whole: Any) -> None:
    entry, _ = whole
    concept = load_concept(server.base / "models" / "dci_concepts" / "whole.safetensors")
    assert concept.info.class_noun == "toy" and concept.info.family == "sd1" and concept.info.steps == 4
    assert len(concept.deltas) == 8 and any(delta.any() for delta in concept.deltas.values())
    assert image_of(server, entry, "26").shape == (SIZE, SIZE, 3)
    masks = image_of(server, entry, "28")
    assert masks.shape[0] > 192 and masks.shape[1] > 3 * 192
    assert image_of(server, entry, "12").shape == (520, 840, 3)  # the host's own loss graph
    assert "whole.safetensors" in server.get("/models/dci_concepts")


def test_training_can_be_watched(whole: Any) -> None:
    _, events = whole
    steps = [data for kind, data in events if kind == "progress" and data.get("node") == "10"]
    assert [step["value"] for step in steps][-1] == 4 == steps[-1]["max"] and len(steps) >= 2
    texts = [data["text"] for kind, data in events if kind == "text" and data["node"] == "10"]
    assert "S 3, 4 steps of 1 + 1 pictures, rates 1e-04 / " in texts[0] and "No class images" not in texts[0]
    step = r"step 4 of 4, loss \d+\.\d{4} \(mean of last 4: \d+\.\d{4}\)"
    assert re.fullmatch(step, texts[-2].removeprefix(f"{texts[0]}  \n"))
    assert texts[-1].startswith(f"{texts[0]}  \n4 steps; K and V moved by 0.")


def test_class_images_say_what_they_cost(server: ComfyServer, whole: Any) -> None:
    texts = [data["text"] for kind, data in whole[1] if kind == "text" and data["node"] == "8"]
    assert re.fullmatch(
        r"2 class images, (all found|\d found, \d drawn in .* s; the next run finds them all)", texts[-1]
    )
    files = (server.base / "models" / "dci_concepts" / "class_images").glob("toy-*/*.txt")
    assert {"photo of a toy\n", "close-up photo of a toy\n"} <= {file.read_text() for file in files}


def test_sampling_says_on_its_node_what_it_did(whole: Any) -> None:
    _, events = whole
    (text,) = [data["text"] for kind, data in events if kind == "text" and data["node"] == "24"]
    assert re.match(r"DCI on in steps 1 to 2 of 6; the scene had \d+ % of the say", text)


def test_a_saved_concept_and_the_stock_sampler_make_the_same_image(server: ComfyServer, whole: Any) -> None:
    expected = image_of(server, whole[0], "26")
    forget(server)
    graph = small("generate", DCILoadConcept={"name": "whole.safetensors"})
    loaded = server.run(graph)
    assert np.array_equal(image_of(server, loaded, "26"), expected)
    assert np.array_equal(image_of(server, loaded, "28"), image_of(server, whole[0], "28"))
    graph, texts = patched_with_apply_dci(graph), []

    def listen(kind: str, data: dict[str, Any]) -> None:
        if kind == "text" and data["node"] == "40":
            texts.append(data["text"])

    assert np.array_equal(image_of(server, server.run(graph, listen), "26"), expected)
    assert len(texts) == 1 and "steps 1 to 2 of 6" in texts[0]


def test_concepts_from_extra_model_paths_are_offered_and_load(server: ComfyServer, whole: Any) -> None:
    folder = server.base / "models" / "dci_concepts"
    (server.base / "extra" / "dci_concepts" / "notes.txt").write_text("not a concept")
    shutil.copy(folder / "whole.safetensors", server.base / "extra" / "dci_concepts" / "shared.safetensors")
    listed = server.get("/models/dci_concepts")
    assert "shared.safetensors" in listed and "notes.txt" not in listed
    loaded = server.run(small("generate", DCILoadConcept={"name": "shared.safetensors"}))
    assert np.array_equal(image_of(server, loaded, "26"), image_of(server, whole[0], "26"))


def patched_with_apply_dci(graph: dict[str, Any]) -> dict[str, Any]:
    """Return the graph with Apply DCI and the stock KSampler in place of DCISampler."""
    graph = copy.deepcopy(graph)
    given = graph["24"]["inputs"]
    ours = ("injection_strength", "active_fraction", "share_guidance", "mask_preset", "blend", "layers", "share_noise")
    graph["40"] = {"class_type": "DCIApply", "inputs": {"model": given["model"], **{k: given[k] for k in ours}}}
    rest = {k: v for k, v in given.items() if k not in ours}
    graph["24"] = {"class_type": "KSampler", "inputs": {**rest, "model": ["40", 0]}}
    graph["27"]["inputs"]["masks"] = ["40", 1]
    return graph


def test_a_lambda_sweep_in_place_of_the_sampler_makes_the_same_image(server: ComfyServer, whole: Any) -> None:
    graph = small("generate", DCILoadConcept={"name": "whole.safetensors"})
    given = graph.pop("24")["inputs"] | {"vae": ["1", 2], "seed_count": 1}
    strength = given.pop("injection_strength")
    given["injection_strengths"] = f"{strength}, -2"
    graph["24"] = {"class_type": "DCILambdaSweep", "inputs": given}
    graph["26"]["inputs"]["images"] = ["24", 1]
    del graph["25"], graph["27"], graph["28"]
    entry = server.run(graph)
    plain, same, other = saved_pictures(server, entry, "26")
    assert np.array_equal(same, image_of(server, whole[0], "26"))
    assert not np.array_equal(plain, same) and not np.array_equal(other, same)
    grid = image_of(server, entry, "24")
    assert grid.shape[0] > SIZE and grid.shape[1] > 3 * SIZE
    given["injection_strengths"] = "0, much"
    with pytest.raises(RunFailed, match="holds 'much', which cannot be used"):
        server.run(graph)


def plain(graph: dict[str, Any]) -> dict[str, Any]:
    """Return the graph with the stock KSampler in place of DCISampler, and no masks."""
    graph = {name: node for name, node in copy.deepcopy(graph).items() if name not in ("27", "28")}
    known = (
        "model",
        "seed",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
        "positive",
        "negative",
        "latent_image",
        "denoise",
    )
    graph["24"] = {"class_type": "KSampler", "inputs": {name: graph["24"]["inputs"][name] for name in known}}
    return graph


def resized_while_active(graph: dict[str, Any]) -> dict[str, Any]:
    """Return the graph with a sampler that DCI cannot follow, which fails in the middle of the run."""
    graph = patched_with_apply_dci(graph)
    graph["40"]["inputs"]["active_fraction"] = 1.0
    given = graph["24"]["inputs"]
    upscale = {"scale_ratio": 2.0, "scale_steps": 3, "upscale_method": "bilinear"}
    graph["41"] = {"class_type": "SamplerLCMUpscale", "inputs": upscale}
    karras = {"steps": 6, "sigma_max": 14.6, "sigma_min": 0.03, "rho": 7.0}
    graph["42"] = {"class_type": "KarrasScheduler", "inputs": karras}
    custom = {"add_noise": True, "noise_seed": 1, "sampler": ["41", 0], "sigmas": ["42", 0]}
    rest = {name: given[name] for name in ("model", "cfg", "positive", "negative", "latent_image")}
    graph["24"] = {"class_type": "SamplerCustom", "inputs": {**rest, **custom}}
    return graph


def test_the_plain_image_after_cancelled_and_failed_runs_is_that_of_a_fresh_server(
    server: ComfyServer, whole: Any, tmp_path: Path
) -> None:
    graph = small("generate", DCILoadConcept={"name": "whole.safetensors"})
    new = plain(graph)
    new["24"]["inputs"]["seed"] = 77  # so that nothing of it lies in the server's cache
    long = small(
        "generate",
        DCILoadConcept={"name": "whole.safetensors"},
        DCISampler={"steps": 400, "active_fraction": 1.0, "seed": 5},
    )

    def cancel(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data.get("node") == "24" and data["value"] == 5:
            server.post("/interrupt", {})

    entry = server.run_to_any_end(long, cancel)
    assert [kind for kind, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    with pytest.raises(RunFailed, match="The sampler changed the latent from .* between its steps"):
        server.run(resized_while_active(graph))
    after = image_of(server, server.run(new), "26")  # on the models still loaded
    (tmp_path / "models").mkdir()
    for folder in ("checkpoints", "dci_concepts"):
        (tmp_path / "models" / folder).symlink_to(server.base / "models" / folder)
    arguments = [] if server.cpu else ["--deterministic"]
    with ComfyServer(server.comfyui, server.python, tmp_path, arguments, server.cpu) as fresh:
        assert np.array_equal(image_of(fresh, fresh.run(new), "26"), after)


def test_the_same_seed_makes_the_same_bytes_in_a_second_run(server: ComfyServer, whole: Any) -> None:
    forget(server)
    anew = {"name": "again", "precision": "float32"}
    again = server.run(small("train_and_generate", DCISaveConcept=anew, ICOTrainer={"reuse": False}))
    assert np.array_equal(image_of(server, again, "26"), image_of(server, whole[0], "26"))
    folder = server.base / "models" / "dci_concepts"
    one, two = load_concept(folder / "whole.safetensors"), load_concept(folder / "again.safetensors")
    assert one.info == two.info
    assert all(one.deltas[name].equal(two.deltas[name]) for name in one.deltas)


def test_cancelling_training_leaves_the_queue_and_the_model_clean(server: ComfyServer, whole: Any) -> None:
    graph = small("train_and_generate", ICOTrainer={"steps": 5000, "resolution": SIZE, "seed": 9})

    def cancel(kind: str, data: dict[str, Any]) -> None:
        if kind == "text" and "step" in data["text"]:
            server.post("/interrupt", {})

    forget(server)
    entry = server.run_to_any_end(graph, cancel)
    assert [kind for kind, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    queue = server.get("/queue")
    assert not queue["queue_running"] and not queue["queue_pending"]
    loaded = server.run(small("generate", DCILoadConcept={"name": "whole.safetensors"}))
    assert np.array_equal(image_of(server, loaded, "26"), image_of(server, whole[0], "26"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"AuxPromptBuilder": {"prompt": "a toy on grass"}}, r"AuxPromptBuilder: .*does not contain V\*.*Write V\*"),
        ({"AuxPromptBuilder": {"auxiliary_noun": "toy"}}, "own class noun"),
    ],
)
def test_a_wrong_prompt_is_an_error_that_names_the_fix(
    server: ComfyServer, whole: Any, changes: dict[str, Any], message: str
) -> None:
    graph = small("generate", DCILoadConcept={"name": "whole.safetensors"}, **changes)
    with pytest.raises(RunFailed, match=message):
        server.run(graph)


def test_a_foreign_file_is_refused_by_name(server: ComfyServer, whole: Any) -> None:
    path = server.base / "models" / "dci_concepts" / "notes.safetensors"
    path.write_text("this is a shopping list")
    with pytest.raises(RunFailed, match="notes.safetensors cannot be used: it is truncated or no safetensors file"):
        server.run(small("generate", DCILoadConcept={"name": "notes.safetensors"}))
