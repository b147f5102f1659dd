"""What the output of a diffusion model means."""

from __future__ import annotations

from enum import Enum


class Prediction(str, Enum):
    """What a model's output means: the noise ε, or the velocity v = √ᾱ·ε - √(1-ᾱ)·x₀."""

    EPSILON = "epsilon"
    V = "v"
