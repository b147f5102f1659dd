"""What the user is told of weaker LoRA in the auxiliary branch, and what is refused."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import comfy.sd
import pytest
import torch
from comfy_extras.nodes_model_merging import ModelMergeSimple
from comfyui_dci.dci_core.errors import UserInputError
from comfyui_dci.dci_core.sampling.settings import DCISettings
from comfyui_dci.nodes.host.sampling.conditioning import build_conditioning
from comfyui_dci.nodes.host.sampling.patch import apply_dci
from quantised_models import FORMATS, OF_BLOCKS, model_of
from scenes import dci, ksample, positive, scene
from text_loras import with_text_lora
from weights_seen import lora_file, lora_scene, weak


@pytest.mark.parametrize("kind", [*FORMATS[:2], OF_BLOCKS])
@torch.inference_mode()
def test_quantised_weights_are_refused_with_a_way_out(kind: str) -> None:
    base = model_of(kind)
    s = scene("mini")
    model = base.model.clone()
    model.add_patches({key: ("diff", (0.1 * torch.ones(64, 64),)) for key in _quantised_keys(base.model)[:1]})
    patched = dci(model)
    with pytest.raises(UserInputError, match="Set auxiliary_lora_strength to 1, or load an fp16"):
        ksample(patched, weak(s.positive, 0.5), s.negative)
    assert patched.hook_patches == {} and patched.hook_mode is comfy.hooks.EnumHookMode.MaxSpeed


def _quantised_keys(model: Any) -> list[str]:
    return [
        f"diffusion_model.{n}" for n, _ in model.model.diffusion_model.named_parameters() if "attn1.to_q.weight" in n
    ]


def told(model: Any, cond: Any) -> str:
    lines: list[str] = []
    s = scene("mini")
    patched, _ = apply_dci(model, DCISettings(active_fraction=0.5), tell=lines.append)
    ksample(patched, cond, s.negative)
    return lines[-1]


def test_the_report_says_what_was_exchanged() -> None:
    s, model, keys = lora_scene()
    line = told(model, weak(s.positive, 0.5))
    said = f"auxiliary weights: LoRA at 0.5 of its strength, {len(keys)} weights exchanged before each auxiliary pass"
    assert said in line
    both = told(model, weak(s.positive, 0.5) + weak(positive(s.clip, "a V* cat asleep"), 0.25))
    assert "LoRA at 0.25 and 0.5 of its strength" in both
    assert "auxiliary weights" not in told(model, s.positive)


def test_the_report_says_that_there_is_nothing_to_weaken() -> None:
    s = scene("mini")
    plain = ksample(dci(s.base.model), s.positive, s.negative)
    line = told(s.base.model, weak(s.positive, 0.5))
    assert "nothing to weaken to 0.5" in line and "on the positive by Create Hook Model as LoRA" in line
    assert torch.equal(ksample(dci(s.base.model), weak(s.positive, 0.5), s.negative), plain)


def test_the_report_names_a_lora_that_keeps_its_strength() -> None:
    s, model, _ = lora_scene()
    file = lora_file(s.base.model, seed=2)
    for given, is_weakened in ((model, True), (s.base.model, False)):
        bypassing = comfy.sd.load_bypass_lora_for_models(given, None, file, 1.0, 0.0)[0]
        line = told(bypassing, weak(s.positive, 0.5))
        assert "a LoRA in bypass mode keeps its strength" in line
        assert ("weights exchanged" in line) == is_weakened and "nothing to weaken" not in line


def test_the_report_tells_a_lora_of_the_text_encoder_alone() -> None:
    s = scene("mini")
    clip = with_text_lora(s.clip, 0.8)
    with torch.inference_mode():
        conds = [
            build_conditioning(clip, "a V* cat", "dog", auxiliary_lora_strength=s).conditioning for s in (0.0, 1.0)
        ]
    assert "LoRA at 0 of its strength in the text encoder alone" in told(s.base.model, conds[0])
    assert "auxiliary weights" not in told(s.base.model, conds[1])


def test_a_merged_model_is_no_lora() -> None:
    s = scene("mini")
    other = s.base.model.clone()
    other.add_patches({key: ("diff", (torch.ones_like(w[0][0]),)) for key, w in _some_weights(other).items()})
    merged = ModelMergeSimple().merge(s.base.model, other, 0.3)[0]
    assert "nothing to weaken" in told(merged, weak(s.positive, 0.0))


def _some_weights(model: Any) -> dict[str, Any]:
    return {key: each for key, each in model.get_key_patches().items() if key.endswith("attn1.to_q.weight")}
