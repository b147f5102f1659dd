"""Scenes that may become the demo, each with a second noun in a new context or style, by subject."""

from __future__ import annotations

from demo_world.scenes import Scene

SCENES: dict[str, tuple[Scene, ...]] = {
    "panda": (
        Scene("panda", "umbrella", "in a city"),
        Scene("panda", "dragon-face", "in space"),
        Scene("panda", "guitar", style="drawing of", context="at sunset"),
        Scene("panda", "balloon", "on a mountain", colour="red"),
    ),
    "parrot": (
        Scene("parrot", "top-hat", "in the snow"),
        Scene("parrot", "guitar", "in a library"),
        Scene("parrot", "umbrella", "in the rain"),
        Scene("parrot", "cactus", "in the desert"),
    ),
    "zebra": (
        Scene("zebra", "balloon", "in a flower field"),
        Scene("zebra", "umbrella", "in a city"),
        Scene("zebra", "cactus", "in the desert"),
    ),
    "teddy-bear": (
        Scene("teddy-bear", "rocket", "on the moon"),
        Scene("teddy-bear", "umbrella", "in a forest"),
        Scene("teddy-bear", "balloon", "on a beach"),
    ),
    "racing-car": (
        Scene("racing-car", "cactus", "in the desert"),
        Scene("racing-car", "robot", "in a city"),
        Scene("racing-car", "rocket", "on the moon"),
    ),
}
