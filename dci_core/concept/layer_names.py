"""How programs name a cross-attention projection: the host, diffusers, and trainers of LoRAs (kohya's names).

The host's name is that of the original checkpoints below "diffusion_model.". diffusers numbers the layers of each block anew.
"""

from __future__ import annotations

import re

from ..errors import UserInputError
from ..families import FAMILIES, Family

HOST_PREFIX = "diffusion_model."
_KOHYA_PREFIX = "lora_unet_"
_HOST_PLACE = re.compile(r"(?:(input|output)_blocks\.(\d+)|middle_block)\.1\.(?=transformer_blocks\.)")
_DIFFUSERS_PLACE = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.attentions\.(\d+)\.(?=transformer_blocks\.)")


def family_named(name: str) -> Family:
    """Return the family of that name.

    Raises:
        UserInputError: this version does not know it.
    """
    if name not in FAMILIES:
        raise UserInputError(
            f"The concept is of the family {name!r}, this version knows {', '.join(FAMILIES)}. Update the node pack."
        )
    return FAMILIES[name]


def diffusers_name(module: str, family: Family) -> str:
    """Return diffusers' name of a projection, such as "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k".

    Args:
        module: the host's name, such as "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k".
        family: of the model.

    Raises:
        UserInputError: it is no layer of a UNet.
    """
    inner = module.removeprefix(HOST_PREFIX)
    place = _HOST_PLACE.match(inner)
    if place is None:
        raise UserInputError(f"{module} is no layer of an SD1.x, SD2.x or SDXL network. Save the concept again.")
    rest = inner[place.end() :]
    if place[1] is None:
        return f"mid_block.attentions.0.{rest}"
    first, half = (1, "down") if place[1] == "input" else (0, "up")
    block, layer = divmod(int(place[2]) - first, family.layers_per_block + 1)
    return f"{half}_blocks.{block}.attentions.{layer}.{rest}"


def host_name(name: str, family: Family) -> str:
    """Return the host's name of a projection that is named as diffusers or as original checkpoints do.

    Args:
        name: without the ".weight" behind it; the inverse of ``diffusers_name``, or a name of the host with or without
            what stands before "input_blocks", "middle_block" or "output_blocks".
        family: of the model.

    Raises:
        ValueError: it is named in another way.
    """
    inner = name[max(name.find(HOST_PREFIX), 0) :].removeprefix(HOST_PREFIX)
    if _HOST_PLACE.match(inner):
        return HOST_PREFIX + inner
    inner = inner.removeprefix("unet.")
    place = _DIFFUSERS_PLACE.match(inner)
    if place is None:
        raise ValueError(f"{name!r} is no layer of an SD1.x, SD2.x or SDXL network")
    rest = inner[place.end() :]
    if place[1] is None:
        return f"{HOST_PREFIX}middle_block.1.{rest}"
    first, half = (1, "input") if place[1] == "down" else (0, "output")
    number = first + int(place[2]) * (family.layers_per_block + 1) + int(place[3])
    return f"{HOST_PREFIX}{half}_blocks.{number}.1.{rest}"


def kohya_name(module: str, family: Family) -> str:
    """Return the name of a projection in LoRA files, such as "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k".

    As kohya's trainers write it: diffusers' name for SD1.x and SD2.x, the original one for SDXL and its relatives. AUTOMATIC1111,
    Forge, diffusers and the host read either.
    """
    inner = module.removeprefix(HOST_PREFIX) if family.pooled_from else diffusers_name(module, family)
    return _KOHYA_PREFIX + inner.replace(".", "_")
