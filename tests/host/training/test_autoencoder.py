"""A VAE that gives NaN is named, with the picture and the cure, before the first step; no black picture is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nodes as host_nodes
import pytest
import torch
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.images.folder import write_image
from comfyui_dci.nodes.host.model import HostModel
from comfyui_dci.nodes.host.training.class_images import ClassImagePlan, class_images
from comfyui_dci.nodes.host.training.preview import PreviewPlan
from comfyui_dci.nodes.host.training.trainer import Storage, train_concept
from training_runs import Watch, inputs, settings

from workbench.tiny import Tiny, tiny, tiny_vae

CURE = "float16 is too narrow.*--bf16-vae or --fp32-vae, or load one that is made for it, such as sdxl-vae-fp16-fix"
NAN = float("nan")


def narrow_vae(dtype: torch.dtype) -> Any:
    """Return a VAE whose values go past what float16 holds, as those of SDXL's own do."""
    vae = tiny_vae()
    with torch.no_grad():
        for part in (vae.first_stage_model.taesd_encoder, vae.first_stage_model.taesd_decoder):
            next(layer for layer in part if isinstance(layer, torch.nn.Conv2d)).weight.mul_(1e7)
    vae.vae_dtype = dtype
    vae.first_stage_model.to(dtype)
    return vae


def spoilt(vae: Any, work: str, calls: set[int], value: float = NAN) -> Any:
    """Let a VAE give a value in one corner in some of its calls, counted from 1."""
    stock, count = getattr(vae, work), 0

    def maybe(given: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        result = stock(given)
        if count in calls:
            result = result.clone()
            result[(-1,) * result.ndim] = value
        return result

    setattr(vae, work, maybe)
    return vae


def run(base: Tiny, **options: Any) -> Watch:
    watch = Watch()
    given = options.pop("given", None) or inputs()
    with torch.inference_mode():
        train_concept(HostModel(*base), given, settings(**options.pop("changes", {})), observer=watch, **options)
    return watch


def test_a_vae_that_overflows_in_half_precision_is_named_and_trains_in_full() -> None:
    base = tiny("mini")
    with pytest.raises(
        UserInputError, match=f"^Reference image 1 became NaN in the VAE, which computes in float16. {CURE}"
    ):
        run(base._replace(vae=narrow_vae(torch.float16)))
    assert run(base._replace(vae=narrow_vae(torch.float32)), changes={"steps": 1}).steps == [1]


@pytest.mark.parametrize("value", [NAN, float("inf")])
@pytest.mark.parametrize("call, name", [(2, "Reference image 2"), (5, "Regularization image 2")])
def test_the_picture_is_named_before_the_first_step(call: int, name: str, value: float, tmp_path: Path) -> None:
    base = tiny("mini")
    vae, watch = spoilt(base.vae, "encode", {call}, value), Watch()
    message = (
        f"^{name} became NaN in the VAE, which computes in float32. Its file seems to be damaged: load another VAE"
    )
    with torch.inference_mode(), pytest.raises(UserInputError, match=message):
        given = inputs(regularized=True)
        train_concept(HostModel(*base._replace(vae=vae)), given, settings(flip=True), Storage(tmp_path), observer=watch)
    assert watch.steps == []


def test_an_image_that_holds_nan_itself_is_blamed_itself() -> None:
    given = inputs()
    given.images[1][3, 3, 0] = NAN
    with pytest.raises(UserInputError, match="reference image.* not finite"):
        run(tiny("mini"), given=given)


def test_a_class_image_that_becomes_nan_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, plan = tiny("mini"), ClassImagePlan("cat", count=3, steps=1, resolution=64)
    vae = spoilt(tiny_vae(), "decode", {2})
    message = r"^Class image 2 \('photo of a cat'\) became NaN in the VAE, which computes in float32. Its file seems"
    with torch.inference_mode():
        with pytest.raises(UserInputError, match=message):
            class_images(HostModel(*base._replace(vae=vae)), plan, tmp_path, lambda *told: None)
        assert len(list(tmp_path.rglob("*.png"))) == 1
        stock = host_nodes.common_ksampler
        nothing = {"samples": torch.full((1, 4, 8, 8), NAN)}
        monkeypatch.setattr(host_nodes, "common_ksampler", lambda *given: (nothing,))
        with pytest.raises(
            UserInputError, match="Class image 2 .*became NaN in the model, before.*--force-upcast-attention"
        ):
            class_images(HostModel(*base), plan, tmp_path, lambda *told: None)
        monkeypatch.setattr(host_nodes, "common_ksampler", stock)
        assert len(class_images(HostModel(*base), plan, tmp_path, lambda *told: None)) == 3


@torch.inference_mode()
def test_a_black_class_image_of_an_earlier_run_is_drawn_again(tmp_path: Path) -> None:
    base, plan = HostModel(*tiny("mini")), ClassImagePlan("cat", count=2, steps=1, resolution=64)
    before = [entry.image for entry in class_images(base, plan, tmp_path, lambda *told: None)]
    file = sorted(tmp_path.rglob("*.png"))[1]
    write_image(torch.zeros(64, 64, 3), "photo of a cat", file)
    again = [entry.image for entry in class_images(base, plan, tmp_path, lambda *told: None)]
    assert all(torch.equal(one, other) for one, other in zip(before, again, strict=True))


def test_previews_of_a_vae_that_gives_nan_end_and_say_so_on_the_node() -> None:
    base = tiny("mini")
    warned: list[str] = []

    class Warned(Watch):
        def warn(self, text: str) -> None:
            warned.append(text)

    watch = Warned()
    vae = spoilt(base.vae, "decode", {2, 3, 4})
    with torch.inference_mode():
        train_concept(
            HostModel(*base._replace(vae=vae)), inputs(), settings(steps=4), preview=PreviewPlan(1), observer=watch
        )
    assert list(watch.pictures) == [1] and watch.steps == [1, 2, 3, 4]
    assert len(warned) == 1
    assert warned[0].startswith("No preview after step 2, nor later: The picture became NaN in the VAE")
