"""Load the exported demo model into ComfyUI's own classes and compare them with the training code."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from demo_world.autoencoder import SD1_SCALE
from demo_world.denoiser import predict_noise
from demo_world.latents import load_autoencoder
from demo_world.model import load_model
from demo_world.sampling import LATENT_SHAPE, decode
from demo_world.storage import RELEASE, require, training_log
from demo_world.tokens import END, tokenize
from workbench.pack import import_host

TOLERANCE = 2e-2  # fp16 storage of weights, relative to outputs of about unit size


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the exported file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}, file.metadata()  # noqa: SIM118 (the file is no mapping)


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def full_vocabulary(rows: Tensor, ids: Tensor) -> Tensor:
    """Embedding of all 49,408 tokens: stored rows in place, seeded random rows of the same scale elsewhere."""
    scale = float(rows.std())
    full = torch.randn((END + 1, rows.shape[1]), generator=torch.Generator().manual_seed(0)) * scale
    full[ids.long()] = rows
    return full


def host_text(tensors: dict[str, Tensor], meta: dict[str, str]) -> Any:
    """The host's CLIP with the exported text encoder."""
    import comfy.sd
    from comfy import sd1_clip, supported_models_base

    state = part(tensors, "cond_stage_model.transformer.")
    name = "text_model.embeddings.token_embedding.weight"
    state[name] = full_vocabulary(state[name], tensors["text_token_ids"])
    options = {"dtype": torch.float32, "clip_l_model_config": json.loads(meta["text_config"])}
    target = supported_models_base.ClipTarget(sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(target, model_options=options)
    missing, unexpected = clip.load_sd(state)
    if missing or unexpected:
        raise ValueError(f"The host's CLIP misses {missing} and does not know {unexpected}; export the model again.")
    return clip


def host_unet(tensors: dict[str, Tensor], meta: dict[str, str]) -> torch.nn.Module:
    """The UNet inside the host's SD15 base model, with the exported weights."""
    import comfy.supported_models

    config = comfy.supported_models.SD15(json.loads(meta["unet_config"]))
    config.unet_config = json.loads(meta["unet_config"])  # the class adds num_heads = 8
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    model.load_model_weights(part(tensors, "model."), "diffusion_model.")
    unet: torch.nn.Module = model.diffusion_model
    return unet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=None, help="by default the file the node reads")
    arguments = parser.parse_args()
    import_host()
    import comfy.sd

    log = training_log("verify_host")
    path = require(arguments.model or RELEASE / "dci-demo.safetensors", "python -m demo_world.commands.export_model")
    tensors, meta = read(path)
    model, _ = load_model()
    text = "sketch of a turtle with an apple on grass"
    differences: dict[str, float] = {}
    with torch.inference_mode():
        clip = host_text(tensors, meta)
        ours = model.text_encoder(tokenize([text]))
        theirs = clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]
        differences["text encoder"] = float((ours - theirs).abs().max() / ours.abs().max())

        noisy, timestep = (
            torch.randn((2, *LATENT_SHAPE), generator=torch.Generator().manual_seed(1)),
            torch.tensor([900.0, 90.0]),
        )
        context = ours.expand(2, -1, -1)
        expected = predict_noise(model.unet, noisy, timestep, context)
        found = host_unet(tensors, meta)(noisy, timestep, context, transformer_options={})
        differences["unet"] = float((expected - found).abs().max() / expected.abs().max())

        vae = comfy.sd.VAE(
            sd=part(tensors, "first_stage_model."), config={"params": json.loads(meta["autoencoder_config"])}
        )
        pixels = vae.decode(noisy / SD1_SCALE) * 255.0
        expected_pixels = torch.from_numpy(decode(load_autoencoder(), noisy)).float()
        differences["autoencoder"] = float((pixels - expected_pixels).abs().mean() / 255.0)
    for name, difference in differences.items():
        log.info("%s: relative difference %.5f", name, difference)
    if max(differences.values()) > TOLERANCE:
        raise ValueError(f"The host computes something else than the training code: {differences}.")


if __name__ == "__main__":
    main()
