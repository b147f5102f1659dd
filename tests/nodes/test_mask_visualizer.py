"""The picture and the mask are those of the run that made the image: never another run's, nor another image's."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import nodes as host_nodes
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.nodes.apply_dci import ApplyDCI
from comfyui_dci.nodes.dci_sampler import DCISampler
from comfyui_dci.nodes.host import node_text
from comfyui_dci.nodes.mask_visualizer import MaskVisualizer
from node_runs import run
from running_graph import register, run_in, running
from scenes import encode, ksample, scene

ABSOLUTE = {"contrast": "absolute"}


def sampler(seed: int, latent: str = "empty") -> dict[str, Any]:
    return {"class_type": "KSampler", "inputs": {"model": ["dci", 0], "latent_image": [latent, 0], "seed": seed}}


def graph_of(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two samplers on one Apply DCI, and a visualizer on the picture of the first."""
    return {
        "dci": {"class_type": "DCIApply", "inputs": {}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"batch_size": 1}},
        "first": first,
        "second": second,
        "picture": {"class_type": "VAEDecode", "inputs": {"samples": ["first", 0]}},
        "masks": {"class_type": "MaskVisualizer", "inputs": {"masks": ["dci", 1], "image": ["picture", 0]}},
    }


class Queue:
    """One Apply DCI and what its samplers and its visualizer make in queued graphs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.monkeypatch = monkeypatch
        register(monkeypatch, ApplyDCI)
        self.model, self.masks = run(ApplyDCI, model=scene().model, active_fraction=0.5, **settings)

    def sample(self, graph: dict[str, Any], node: str, model: Any = None, positive: Any = None, **options: Any) -> Any:
        s = scene()
        with running(self.monkeypatch, graph, node):
            seed = graph[node]["inputs"]["seed"]
            return ksample(model or self.model, positive or s.positive, s.negative, seed=seed, **options)

    def mask(self, graph: dict[str, Any], image: torch.Tensor, **choice: Any) -> torch.Tensor:
        given = {"masks": self.masks, "image": image, **ABSOLUTE, **choice}
        return run_in(self.monkeypatch, graph, "masks", MaskVisualizer, **given)[1]


def picture(images: int = 1, edge: int = 64) -> torch.Tensor:
    return torch.rand(images, edge, edge, 3)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    return Queue(monkeypatch)


def test_the_second_pass_never_stands_beside_the_first_picture(queue: Queue) -> None:
    for options in ({"size": 16}, {}):  # after an upscale, and at the same size
        graph, image = graph_of(sampler(1), sampler(2, "first")), picture()
        queue.sample(graph, "first")
        alone = queue.mask(graph, image)
        queue.sample(graph, "second", **options)
        assert torch.equal(queue.mask(graph, image, overlay=0.5), alone)
        graph["picture"]["inputs"]["samples"] = ["second", 0]
        assert not torch.equal(queue.mask(graph, picture(edge=8 * options.get("size", 8)))[:, ::2, ::2], alone)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What nodes show, each text with the id of the node."""
    texts: list[tuple[str, str]] = []
    monkeypatch.setattr(node_text, "send_text", lambda text, node: texts.append((text, node)))
    return texts


@pytest.mark.parametrize("model", ["another Apply DCI", "plain"])
def test_the_first_masks_beside_a_later_picture_are_shown_and_told(
    queue: Queue, told: list[tuple[str, str]], model: str
) -> None:
    graph, image = graph_of(sampler(1), sampler(2, "first")), picture()
    graph["plain"] = {"class_type": "CheckpointLoaderSimple", "inputs": {}}
    graph["another Apply DCI"] = {"class_type": "DCIApply", "inputs": {"model": ["plain", 0]}}
    graph["second"]["inputs"]["model"] = [model, 0]
    queue.sample(graph, "first")
    told.clear()
    first = queue.mask(graph, image)
    assert told == []
    graph["picture"]["inputs"]["samples"] = ["second", 0]
    assert torch.equal(queue.mask(graph, image), first)
    text = (
        "These are the masks of node first (KSampler). "
        "Sampled on since, with other masks or none: node second (KSampler)."
    )
    assert told == [(text, "masks")]


def test_nothing_is_told_of_the_masks_of_a_second_pass_beside_its_picture(
    queue: Queue, told: list[tuple[str, str]]
) -> None:
    graph = graph_of(sampler(1), sampler(2, "first"))
    graph["picture"]["inputs"]["samples"] = ["second", 0]
    for node in ("first", "second"):
        queue.sample(graph, node)
    told.clear()
    queue.mask(graph, picture())
    assert told == []


def test_a_sampler_behind_dci_sampler_is_told(monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]) -> None:
    register(monkeypatch, DCISampler)
    s, graph = scene(), graph_of(sampler(1), sampler(2, "first"))
    graph["first"]["class_type"] = "DCISampler"
    graph["dci"] = {"class_type": "CheckpointLoaderSimple", "inputs": {}}
    graph["masks"]["inputs"]["masks"] = ["first", 1]
    given = {"model": s.model, "steps": 2, "active_fraction": 0.5, "positive": s.positive, "negative": s.negative}
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    _, masks = run_in(monkeypatch, graph, "first", DCISampler, seed=1, latent_image=latent, **given)
    told.clear()
    run_in(monkeypatch, graph, "masks", MaskVisualizer, masks=masks, image=picture())
    assert told == []
    graph["picture"]["inputs"]["samples"] = ["second", 0]
    run_in(monkeypatch, graph, "masks", MaskVisualizer, masks=masks, image=picture())
    text = (
        "These are the masks of node first (DCISampler). "
        "Sampled on since, with other masks or none: node second (KSampler)."
    )
    assert told == [(text, "masks")]


def test_an_older_seed_that_the_host_brings_back_has_its_own_masks(queue: Queue) -> None:
    graphs = [graph_of(sampler(seed), sampler(9)) for seed in (1, 2)]
    masks = []
    for graph in graphs:
        queue.sample(graph, "first")
        masks.append(queue.mask(graph, picture()))
    assert not torch.equal(*masks)
    assert torch.equal(queue.mask(graphs[0], picture()), masks[0])


@pytest.mark.parametrize("error", [comfy.model_management.InterruptProcessingException, RuntimeError])
def test_a_cancelled_or_failed_run_publishes_nothing_and_takes_nothing_away(
    queue: Queue, error: type[BaseException]
) -> None:
    graph, cancelled = graph_of(sampler(1), sampler(2)), queue.model.clone()
    calls: list[int] = []

    def stop(executor: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise error()
        return executor(*args)

    cancelled.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "test", stop)
    queue.sample(graph, "first")
    before = queue.mask(graph, picture())
    with pytest.raises(error):
        queue.sample(graph, "second", cancelled)
    assert torch.equal(queue.mask(graph, picture()), before) and len(calls) == 2
    assert len(queue.masks.runs) == 1


def test_a_run_without_dci_shows_no_other_runs_masks(queue: Queue) -> None:
    graph = graph_of(sampler(1), sampler(2))
    queue.sample(graph, "first", positive=encode(scene().clip, "a castle"))
    queue.sample(graph, "second")
    assert queue.mask(graph, picture()).max() == 0


def test_a_picture_of_another_model_or_of_a_forgotten_run_is_refused(queue: Queue) -> None:
    graph = graph_of(sampler(1), sampler(2))
    graph["first"]["inputs"]["model"] = ["another model", 0]
    graph["another model"] = {"class_type": "CheckpointLoaderSimple", "inputs": {}}
    queue.sample(graph, "second")
    with pytest.raises(UserInputError, match="not made by a run whose masks are connected"):
        queue.mask(graph, picture())
    graph["first"]["inputs"]["model"] = ["dci", 0]
    with pytest.raises(UserInputError, match="not kept any more"):
        queue.mask(graph, picture())


def test_one_image_of_a_batch_is_asked_for_by_row(queue: Queue) -> None:
    graph, images = graph_of(sampler(1), sampler(2)), picture(3)
    queue.sample(graph, "first", batch=3)
    whole = queue.mask(graph, images)
    for row in (1, 2, 3):
        for given in (images, images[row - 1 : row]):
            assert torch.equal(queue.mask(graph, given, row=row), whole[row - 1 : row])
    assert len({whole[row].mean().item() for row in range(3)}) == 3
    with pytest.raises(UserInputError, match="1 image was given, the run made 3.*set to its number in the run, 1 … 3"):
        queue.mask(graph, images[1:2])
    with pytest.raises(UserInputError, match="no row 4"):
        queue.mask(graph, images[1:2], row=4)


def test_a_scaled_picture_is_refused_with_the_cure(queue: Queue) -> None:
    graph = graph_of(sampler(1), sampler(2))
    queue.sample(graph, "first")
    with pytest.raises(UserInputError, match="128 x 128 pixels, the run made 64 x 64.*from before it is scaled"):
        queue.mask(graph, picture(edge=128))


def test_masks_of_dci_sampler_are_those_of_its_own_run_for_ever() -> None:
    s = scene()
    given = {"model": s.model, "steps": 4, "active_fraction": 0.5, "positive": s.positive, "negative": s.negative}
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    _, masks = run(DCISampler, seed=1, latent_image=latent, **given)
    first = run(MaskVisualizer, masks=masks, image=picture(), **ABSOLUTE)[1]
    _, others = run(DCISampler, seed=2, latent_image=latent, **given)
    assert torch.equal(run(MaskVisualizer, masks=masks, image=picture(), **ABSOLUTE)[1], first)
    assert not torch.equal(run(MaskVisualizer, masks=others, image=picture(), **ABSOLUTE)[1], first)
    _, none = run(DCISampler, seed=2, latent_image=latent, denoise=0.0, **given)  # the host does not sample
    assert run(MaskVisualizer, masks=none, image=picture(), row=2)[1].max() == 0


@pytest.mark.parametrize("decode", [host_nodes.VAEDecode(), host_nodes.VAEDecodeTiled()])
@pytest.mark.parametrize(("family", "size"), [("sd1", (9, 12)), ("sdxl", (16, 8))])
def test_whatever_the_vae_decodes_is_of_the_runs_size(decode: Any, family: str, size: tuple[int, int]) -> None:
    s = scene(family)
    (latent,) = host_nodes.RepeatLatentBatch().repeat({"samples": torch.zeros(1, 4, *size)}, 2)
    given = {"positive": s.positive, "negative": s.negative, "latent_image": latent, "active_fraction": 0.5}
    made, masks = run(DCISampler, model=s.model, steps=2, **given)
    options = (512, 64, 64, 8) if isinstance(decode, host_nodes.VAEDecodeTiled) else ()
    with torch.inference_mode():
        (image,) = decode.decode(s.base.vae, made, *options)
    shown, mask = run(MaskVisualizer, masks=masks, image=image).result
    assert len(shown) == 2 and mask.shape == (2, 8 * size[0], 8 * size[1]) and mask.max() == 1
