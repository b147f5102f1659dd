"""DCI beside ControlNets, T2I-Adapters and GLIGEN, with batches, which change how many rows each forward has."""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import comfy.gligen
import comfy.t2i_adapter.adapter as adapters
import nodes as host_nodes
import pytest
import torch
from auxiliary_path import auxiliary_latents
from comfyui_dci.nodes.host.sampling.pairing import AUXILIARY
from conditions import tiny_controlnet, with_control
from rows_seen import assert_only_the_positive_is_blended, rows_seen
from scenes import dci, ksample, relative_difference, scene

from workbench.layouts import TINY_SD1
from workbench.tiny import DEVICE, fill_tiny

pytestmark = pytest.mark.sweep


def t2i_adapter(model: Any) -> Any:
    channels = [TINY_SD1["model_channels"] * multiple for multiple in TINY_SD1["channel_mult"]]
    net = adapters.Adapter(channels=channels, nums_rb=2, cin=64 * 3, ksize=1, sk=True, use_conv=False, xl=False)
    fill_tiny(net, 6)
    return comfy.controlnet.T2IAdapter(net, net.input_channels, 8, "nearest-exact", device=DEVICE)


@pytest.mark.parametrize("share_guidance", [True, False])
@pytest.mark.parametrize("old_node", [True, False])
@pytest.mark.parametrize("kind", [tiny_controlnet, t2i_adapter])
@pytest.mark.parametrize("batch", [1, 2])
def test_controls_act_on_both_branches(kind: Any, old_node: bool, share_guidance: bool, batch: int) -> None:
    s = scene()
    with torch.inference_mode():
        pos, neg = with_control(kind(s.model), old_node, images=batch)
    stock = ksample(s.model, pos, neg, batch=batch)
    assert relative_difference(stock, ksample(s.model, s.positive, s.negative, batch=batch)) > 1e-4
    forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
    assert torch.equal(ksample(forced, pos, neg, batch=batch), stock)
    ours = ksample(dci(s.model, share_guidance=share_guidance), pos, neg, batch=batch)
    assert relative_difference(ours, stock) > 1e-4
    seen = auxiliary_latents(dci(s.model), pos, neg, batch=batch)
    own = kind is t2i_adapter
    assert seen and all((conds[0]["control"] is not pos[0][1]["control"]) == own for conds, _ in seen)


@pytest.mark.parametrize("adapter_last", [True, False])
def test_an_adapter_in_a_stack_is_copied_and_the_users_are_left_clean(adapter_last: bool) -> None:
    s = scene()
    nets = (tiny_controlnet(s.model), t2i_adapter(s.model))
    below, above = nets if adapter_last else nets[::-1]
    with torch.inference_mode():
        pos, neg = with_control(below, False, images=2)
        apply = host_nodes.ControlNetApplyAdvanced().apply_controlnet
        pos, neg = apply(pos, neg, above, torch.rand(2, 64, 64, 3), 0.7, 0.0, 0.6)
    stock = ksample(s.model, pos, neg, batch=2)
    assert torch.equal(ksample(dci(s.model, forced_auxiliary_weight=0.0), pos, neg, batch=2), stock)
    control = pos[0][1]["control"]
    for conds, _ in auxiliary_latents(dci(s.model), pos, neg, batch=2):
        own = conds[0]["control"]
        assert own is not control
        assert (own.previous_controlnet is control.previous_controlnet) == adapter_last
    assert control.cond_hint is None and AUXILIARY not in pos[0][1]
    assert torch.equal(ksample(s.model, pos, neg, batch=2), stock)


def gligen_model() -> Any:
    width, keys = TINY_SD1["model_channels"], TINY_SD1["context_dim"]
    wide = [width] * 4 + [2 * width] * 2 + [2 * width] + [2 * width] * 3 + [width] * 6
    modules = [comfy.gligen.GatedSelfAttentionDense(size, keys, 4, size // 4) for size in wide]
    model = comfy.gligen.Gligen(modules, comfy.gligen.PositionNet(keys, keys), keys)
    fill_tiny(model, 8)
    for module in modules:
        module.alpha_attn.data.fill_(0.7)
    return model


def test_a_gligen_box_acts_on_both_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    s = scene()
    patcher = comfy.model_patcher.ModelPatcher(gligen_model(), DEVICE, torch.device("cpu"))
    with torch.inference_mode():
        (pos,) = host_nodes.GLIGENTextBoxApply().append(s.positive, s.clip, patcher, "a bench", 32, 32, 8, 8)
    stock = ksample(s.model, pos, s.negative)
    assert relative_difference(stock, ksample(s.model, s.positive, s.negative)) > 1e-4
    for share_guidance in (True, False):
        forced = dci(s.model, forced_auxiliary_weight=0.0, share_guidance=share_guidance)
        assert torch.equal(ksample(forced, pos, s.negative), stock)
    assert relative_difference(ksample(dci(s.model), pos, s.negative), stock) > 1e-4
    seen = auxiliary_latents(dci(s.model), pos, s.negative)
    assert seen and all(conds[0]["gligen"][2] == pos[0][1]["gligen"][2] for conds, _ in seen)
    with rows_seen(monkeypatch) as rows:
        ksample(dci(s.model), pos, s.negative)
    assert_only_the_positive_is_blended(rows)
