"""A MODEL, its CLIP and its VAE, and what is asked of them again and again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import comfy.model_sampling
from torch import Tensor

from ...dci_core.errors import UserInputError
from ...dci_core.families import Family
from ...dci_core.prediction import Prediction
from .families import family_of, variant_of
from .tokenizer import tokenizers_of
from .weights import check_readable


@dataclass(frozen=True)
class HostModel:
    """A base model as the host's loaders give it. Nothing of it is changed.

    What is asked of it is found once, when it is first asked for, so make a new one after the parts have been patched.

    Args:
        model: the MODEL; LoRAs on it belong to it.
        clip: its CLIP, or None where the checkpoint holds none.
        vae: its VAE, or None.
    """

    model: Any
    clip: Any
    vae: Any

    @cached_property
    def family(self) -> Family:
        """The model's family; see ``family_of``."""
        return family_of(self.model)

    @cached_property
    def tokenizers(self) -> dict[str, Any]:
        """The CLIP's tokenizers by text encoder name."""
        return tokenizers_of(self.clip)

    @property
    def sigmas(self) -> Tensor:
        """σ of every timestep, [T], ascending: the host's own tensor."""
        sigmas: Tensor = self._sampling.sigmas
        return sigmas

    @cached_property
    def prediction(self) -> Prediction:
        """What the network predicts, also after a ModelSampling node changed it.

        Raises:
            UserInputError: something other than ε or v on discrete timesteps.
        """
        sampling = self._sampling
        if not isinstance(sampling, comfy.model_sampling.ModelSamplingDiscrete) or isinstance(
            sampling, (comfy.model_sampling.EDM, comfy.model_sampling.X0)
        ):
            raise UserInputError(
                f"This model samples as {type(sampling).__mro__[1].__name__}. Training knows ε- and v-prediction with "
                "discrete timesteps; take model-sampling nodes out or use another checkpoint."
            )
        if len(sampling.sigmas) != sampling.num_timesteps:
            raise UserInputError(
                f"This model samples on {len(sampling.sigmas)} of its {sampling.num_timesteps} timesteps (distilled, such "
                "as LCM). Train on the model from before that node; the concept can be applied to this one."
            )
        return Prediction.V if isinstance(sampling, comfy.model_sampling.V_PREDICTION) else Prediction.EPSILON

    @cached_property
    def _sampling(self) -> Any:
        return self.model.get_model_object("model_sampling")

    def check_trainable(self) -> None:
        """Refuse a model that cannot be trained.

        Raises:
            UserInputError: it is of no family, takes extra inputs, predicts something else, its weights cannot be read, or the
            CLIP does not belong to it.
        """
        family = self.family
        if self.clip is None:
            raise UserInputError(
                "There is no CLIP: the checkpoint holds no text encoder. Load one with a CLIP loader and connect that."
            )
        config = self.model.model.model_config.unet_config
        channels = config["in_channels"]
        if channels != family.latent_channels or (family.name == "sd2" and config.get("adm_in_channels")):
            raise UserInputError(
                f"This {family.name} model takes extra inputs ({channels} channels): it is {variant_of(self.model)}. Train on "
                "the plain text-to-image model of the family; the concept can be applied to this one."
            )
        _ = self.prediction  # refuses what is neither ε nor v
        check_readable(self.model)
        found = tuple(self.tokenizers)
        if set(found) != set(family.text_encoders):
            raise UserInputError(
                f"A {family.name} model needs the text encoders {list(family.text_encoders)}, this CLIP has {list(found)}. "
                "Connect the CLIP of the same checkpoint."
            )

    def check_vae(self) -> None:
        """Refuse a VAE that is none, as loaders return for checkpoints without one, or whose latents are another kind's.

        Raises:
            UserInputError: as above.
        """
        if self.vae is None or self.vae.first_stage_model is None:
            raise UserInputError("There is no VAE: the checkpoint holds none. Load one with Load VAE and connect that.")
        if self.vae.latent_channels != self.family.latent_channels:
            raise UserInputError(
                f"This VAE makes latents of {self.vae.latent_channels} channels, the model takes "
                f"{self.family.latent_channels}. Connect the VAE of the same family."
            )
