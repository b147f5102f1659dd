"""What users put on a conditioning: ControlNets and LoRA hooks."""

from __future__ import annotations

from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.hooks
import comfy.ops
import comfy_extras.nodes_hooks as hook_nodes
import nodes as host_nodes
import torch
from scenes import scene

from workbench.tiny import DEVICE, fill_tiny


def tiny_controlnet(model: Any) -> Any:
    import comfy.cldm.cldm
    import comfy.ops

    config = {k: v for k, v in model.model.model_config.unet_config.items() if k not in ("out_channels",)}
    config.pop("transformer_depth_output", None)
    net = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, operations=comfy.ops.disable_weight_init)
    fill_tiny(net, 5)
    return comfy.controlnet.ControlNet(net, load_device=DEVICE, manual_cast_dtype=None)


def lora_hooked(cond: Any) -> Any:
    """What Create Hook LoRA, Create Hook Keyframe and Cond Set Props make: a LoRA of half strength, then of full."""
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
    weight = scene().model.get_key_patches("diffusion_model.")[key][0][0]
    delta = 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(4))
    hooks = comfy.hooks.create_hook_lora({}, 1.0, 0.0)
    hooks.hooks[0].weights = {key: ("diff", (delta,))}
    hooks.hooks[0].need_weight_init = False
    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(0.5, 0.0, 0))
    keyframes.add(comfy.hooks.HookKeyframe(1.0, 0.2, 0))
    hooks.set_keyframes_on_hooks(keyframes)
    return hook_nodes.ConditioningSetProperties().set_properties(cond, 1.0, "default", hooks=hooks)[0]


def with_control(net: Any, old_node: bool, images: int) -> tuple[Any, Any]:
    s = scene()
    image = torch.rand(images, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    if old_node:
        return host_nodes.ControlNetApply().apply_controlnet(s.positive, net, image, 1.0)[0], s.negative
    return host_nodes.ControlNetApplyAdvanced().apply_controlnet(s.positive, s.negative, net, image, 1.0, 0.0, 1.0)
