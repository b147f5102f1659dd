"""The sizes that SDXL is told of an image, beside its prompt: of the picture it was, where it was cropped, and of the result."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ..setting import check_settings, setting

_EDGE = (0, 16384)
_OF_LATENT = "0: the latent's."


@dataclass(frozen=True)
class SizeConditioning:
    """SDXL's sizes in pixels; 0 is not given, and neutral everywhere.

    Raises:
        UserInputError: a number is outside its range.
    """

    width: int = field(
        default=0,
        metadata=setting("Width in pixels that the image is said to have had.", _OF_LATENT, allowed=_EDGE),
    )
    height: int = field(
        default=0,
        metadata=setting("Height in pixels that the image is said to have had.", _OF_LATENT, allowed=_EDGE),
    )
    crop_w: int = field(
        default=0,
        metadata=setting("Pixels said to be cropped from the left.", "0: none.", allowed=_EDGE),
    )
    crop_h: int = field(
        default=0,
        metadata=setting("Pixels said to be cropped from the top.", "0: none.", allowed=_EDGE),
    )
    target_width: int = field(
        default=0,
        metadata=setting("Width in pixels that the result is said to have.", "0: as width.", allowed=_EDGE),
    )
    target_height: int = field(
        default=0,
        metadata=setting("Height in pixels that the result is said to have.", "0: as height.", allowed=_EDGE),
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def given(self) -> dict[str, int]:
        """Return the sizes that were given, by the names that the host's conditioning has for them."""
        return {entry.name: value for entry in fields(self) if (value := getattr(self, entry.name))}
