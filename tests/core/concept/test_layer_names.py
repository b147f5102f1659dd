"""Names of layers: by hand, as real files of SD1.5, SDXL and KOALA have them, and there and back."""

from __future__ import annotations

import pytest
from comfyui_dci.dci_core.concept.layer_names import diffusers_name, family_named, host_name, kohya_name
from comfyui_dci.dci_core.errors import UserInputError

IN, MIDDLE, OUT = "input_blocks.{}.1", "middle_block.1", "output_blocks.{}.1"
KEY = "transformer_blocks.0.attn2.to_k"
NAMES = [
    ("sd1", IN.format(1), "down_blocks.0.attentions.0"),
    ("sd1", IN.format(5), "down_blocks.1.attentions.1"),
    ("sd2", IN.format(8), "down_blocks.2.attentions.1"),
    ("sd1", MIDDLE, "mid_block.attentions.0"),
    ("sd1", OUT.format(3), "up_blocks.1.attentions.0"),
    ("sd1", OUT.format(11), "up_blocks.3.attentions.2"),
    ("sdxl", IN.format(4), "down_blocks.1.attentions.0"),
    ("sdxl", IN.format(8), "down_blocks.2.attentions.1"),
    ("sdxl", OUT.format(5), "up_blocks.1.attentions.2"),
    ("koala_700m", IN.format(3), "down_blocks.1.attentions.0"),
    ("koala_700m", OUT.format(3), "up_blocks.1.attentions.1"),
]


@pytest.mark.parametrize(("family", "host", "diffusers"), NAMES)
def test_a_layer_has_diffusers_name_and_is_found_again_by_it(family: str, host: str, diffusers: str) -> None:
    kind = family_named(family)
    ours, theirs = f"diffusion_model.{host}.{KEY}", f"{diffusers}.{KEY}"
    assert diffusers_name(ours, kind) == theirs
    assert host_name(theirs, kind) == host_name(f"unet.{theirs}", kind) == ours


def test_the_names_of_original_checkpoints_are_the_host_s() -> None:
    sd1, ours = family_named("sd1"), f"diffusion_model.{OUT.format(7)}.{KEY}"
    for prefix in ("model.diffusion_model.", "diffusion_model.", ""):
        assert host_name(f"{prefix}{OUT.format(7)}.{KEY}", sd1) == ours


def test_loras_are_named_as_kohya_s_trainers_do() -> None:
    ours = f"diffusion_model.{IN.format(4)}.transformer_blocks.1.attn2.to_out.0"
    assert kohya_name(ours, family_named("sd1")) == (
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_out_0"
    )
    assert kohya_name(ours, family_named("sdxl")) == "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_out_0"


def test_what_is_no_such_layer_is_refused() -> None:
    with pytest.raises(UserInputError, match="diffusion_model.joint_blocks.0.attn is no layer of an SD1.x"):
        diffusers_name("diffusion_model.joint_blocks.0.attn", family_named("sd1"))
    for name in (KEY, "cond_stage_model.x", "down_blocks.1.resnets.0.conv1"):
        with pytest.raises(ValueError, match="is no layer of an SD1.x"):
            host_name(name, family_named("sd1"))
    with pytest.raises(UserInputError, match="family 'sd9', this version knows sd1, sd2, sdxl"):
        family_named("sd9")
