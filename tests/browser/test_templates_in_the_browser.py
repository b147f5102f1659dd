"""Every template, in the frontend itself: opened in both canvases, and queued where its models can be had small."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from browser_page import VIEWPORT, Canvas

from workbench.comfy_server import ComfyServer
from workbench.templates import LAYOUTS, file_of, graph_of

SHOTS = Path(os.environ.get("DCI_SCREENSHOTS", "output/screenshots"))
"""Screenshots are kept here, to be looked at."""
SMALL: dict[str, dict[str, Any]] = {
    "DCIClassImages": {"count": 2, "steps": 2, "resolution": 64},
    "ICOTrainer": {"steps": 4, "resolution": 64, "batch_size": 1, "learning_rate": 1e-4},
    "EmptyLatentImage": {"width": 64, "height": 64},
    "DCISampler": {"steps": 4, "active_fraction": 0.5},
    "KSampler": {"steps": 4},
    "DCIApply": {"active_fraction": 0.5},
    "DCILambdaSweep": {"steps": 4, "active_fraction": 0.5, "injection_strengths": "0, 1", "seed_count": 1},
}
NOT_QUEUED = ("controlnet",)
"""There is no small ControlNet."""


def template(name: str) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads(file_of(name).read_text(encoding="utf-8"))
    return graph


@pytest.mark.parametrize("nodes_2", [False, True], ids=["canvas", "nodes 2.0"])
def test_every_template_opens_readable_whole_and_without_a_word_of_ours_in_the_console(
    browser: Any, server: ComfyServer, nodes_2: bool
) -> None:
    page = browser.new_page(viewport=VIEWPORT)
    canvas = Canvas(page, server, nodes_2)
    for name in LAYOUTS:
        canvas.load(template(name))
        nodes = canvas.nodes()
        canvas.screenshot(SHOTS / f"{name}{' nodes 2.0' if nodes_2 else ''}.png")
        assert all(node["known"] for node in nodes) and canvas.scale() >= 0.6, name
        for first in nodes:
            for second in nodes:
                (a, b, c, d), (e, f, g, h) = first["box"], second["box"]
                apart = first["id"] >= second["id"] or a >= e + g or e >= a + c or b >= f + h or f >= b + d
                assert apart, f"{name}: {first['title']} lies on {second['title']}"
        queued = canvas.prompt()
        for key, node in graph_of(name).items():
            assert {entry: queued[key]["inputs"][entry] for entry in node["inputs"]} == node["inputs"], (name, key)
    assert canvas.said == []
    page.close()


def test_the_templates_run_one_after_the_other_as_a_newcomer_would(canvas: Canvas, server: ComfyServer) -> None:
    concepts = server.base / "models" / "dci_concepts"
    for name in ("train", *(name for name in LAYOUTS if name not in ("demo", "train", *NOT_QUEUED))):
        canvas.open()
        canvas.load(template(name))
        canvas.set(SMALL)
        canvas.run()
        pictures = canvas.pictures()
        canvas.screenshot(SHOTS / f"{name} after its run.png")
        assert any(title.startswith("Save") for title in pictures), (name, pictures)
        if name == "train":
            assert pictures["Your photographs"] == 4
            for other in ("my_mug", "my_toy_sdxl"):
                shutil.copy(concepts / "my_toy.safetensors", concepts / f"{other}.safetensors")
    assert canvas.said == []


def test_the_demo_shows_progress_is_cancelled_goes_on_and_ends_in_pictures(canvas: Canvas, server: ComfyServer) -> None:
    canvas.load(template("demo"))
    sizes = {"ICOTrainer": {"steps": 400, "batch_size": 1}, "DCISampler": {"steps": 3}}
    canvas.set({**sizes, "DCILambdaSweep": {"steps": 3, "seed_count": 1}})
    canvas.queue()
    step = """() => app.graph._nodes.find((node) => node.type === "ICOTrainer").widgets
      .some((widget) => widget.type === "progressText" && /step \\d+ of 400/.test(widget.value))"""
    canvas.page.wait_for_function(step, timeout=120_000)
    canvas.page.evaluate("() => app.api.interrupt(null)")
    entry = canvas.wait_for_end()
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    said = canvas.texts()["ICOTrainer"]
    assert "Stopped at step " in said and "queue the same graph again to go on" in said
    canvas.set({"ICOTrainer": {"steps": int(said.split("Stopped at step ")[1].split(" ")[0]) + 2}})
    canvas.run()
    assert "Going on from step " in canvas.texts()["ICOTrainer"]
    pictures = canvas.pictures()
    canvas.screenshot(SHOTS / "demo after its run.png")
    assert pictures["DCI Demo Subject"] == 6
    assert {"Save grid", "Save images", "Save mask picture", "Save loss curve"} <= set(pictures)
    assert canvas.texts()["DCISampler"].startswith("DCI on in step")
    assert canvas.said == []


def test_a_picture_dropped_on_the_canvas_and_a_saved_graph_bring_it_back(canvas: Canvas, server: ComfyServer) -> None:
    canvas.load(template("sweep"))
    canvas.set({"AuxPromptBuilder": {"prompt": "a V* toy in the snow"}})
    before, saved = canvas.prompt(), canvas.saved()
    canvas.open()
    canvas.load(saved)
    assert canvas.prompt() == before
    newest = max((server.base / "output").glob("dci_sweep_*.png"), key=lambda file: file.stat().st_mtime)
    canvas.drop(newest)
    assert {node["type"] for node in canvas.nodes()} >= {"DCILambdaSweep", "AuxPromptBuilder", "SaveImage"}


@pytest.mark.parametrize("nodes_2", [False, True], ids=["canvas", "nodes 2.0"])
def test_a_graph_of_before_the_settings_nodes_means_the_same_and_shows_what_it_has_set(
    browser: Any, server: ComfyServer, nodes_2: bool
) -> None:
    page = browser.new_page(viewport=VIEWPORT)
    canvas = Canvas(page, server, nodes_2)
    old = json.loads((Path(__file__).parent / "demo_before_settings_nodes.json").read_text(encoding="utf-8"))
    canvas.load(old)
    (trainer,) = [node for node in canvas.prompt().values() if node["class_type"] == "ICOTrainer"]
    (saved,) = [node["widgets_values"] for node in old["nodes"] if node["type"] == "ICOTrainer"]
    names = [entry for entry in trainer["inputs"] if entry not in ("model", "clip", "vae", "images")]
    values = {name: value for name, value in trainer["inputs"].items() if name in names and name != "class_noun"}
    given = dict(zip(WIDGETS, saved))
    later = {"captions": "", "preset": "with_dci", "keep_state": "up to 1 GB"}  # inputs that came after that graph
    assert values == {name: value for name, value in (given | later).items() if name in values}
    assert given["ema_decay"] == 0.98 and given["checkpoints_kept"] == 2
    shown = canvas.shown_widgets("ICOTrainer")
    turned = {"contexts_before", "contexts_after", "concept_vectors", "context_learning_rate"}
    assert turned | {"ema_decay", "checkpoint_every", "checkpoints_kept"} <= set(shown)
    assert not {"rank", "mode", "optimizer", "stop_after", "keep_state"} & set(shown)
    canvas.screenshot(SHOTS / f"demo of before{' nodes 2.0' if nodes_2 else ''}.png")
    if nodes_2:  # there they are elements of the page
        assert page.get_by_text("ema_decay", exact=True).count() and not page.get_by_text("min_snr_gamma").count()
    page.close()


WIDGETS = (
    *("class_noun", "contexts_before", "contexts_after", "concept_vectors", "steps", "batch_size", "learning_rate"),
    *("context_learning_rate", "seed", "resolution", "flip", "placeholder", "keep_contexts", "regularization_captions"),
    *("crop", "mode", "rank", "token_learning_rate", "optimizer", "schedule", "warmup_steps", "accumulation_steps"),
    *("max_gradient_norm", "min_snr_gamma", "noise_offset", "ema_decay", "prior_loss_weight", "precision"),
    *("gradient_checkpointing", "evaluate_every", "stop_after", "checkpoint_every", "checkpoints_kept"),
    *("checkpoint_steps", "reuse", "preview_every", "preview_prompt", "captions", "preset", "keep_state"),
)
"""Of the trainer, as they stood when that graph was saved."""
