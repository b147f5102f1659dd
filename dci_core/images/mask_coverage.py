"""What masks leave of their images, and whether they look inverted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .crop import centre_part

LEAST_LEFT = 0.02
"""Share of a cropped image below which a mask leaves almost nothing: 82 of the 64 × 64 latents of 512 pixels."""
LEAST_CONTRAST = 0.25
"""By how much the border of a mask is whiter than its middle when it looks inverted."""


def share_left(mask: Tensor, height_px: int, width_px: int) -> float:
    """Return the share of a cropped image that a mask leaves, 0 … 1.

    Args:
        mask: where the image counts, [height, width], values 0 … 1.
        height_px, width_px: of the cropped image.
    """
    return float(centre_part(_values(mask)[None, None], height_px, width_px).mean())


def looks_inverted(mask: Tensor) -> bool:
    """Tell whether a mask [height, width] is white along its border and darker in its middle, where subjects are.

    The border is a sixteenth of each edge on each side, the middle the inner half of each edge.
    """
    values = _values(mask)
    height, width = values.shape
    rim = torch.ones_like(values, dtype=torch.bool)
    rim[max(1, height // 16) : -max(1, height // 16), max(1, width // 16) : -max(1, width // 16)] = False
    border = values[rim].mean()
    middle = values[height // 4 : height - height // 4, width // 4 : width - width // 4].mean()
    return bool(border > 0.5 and border - middle >= LEAST_CONTRAST)


def mask_remarks(masks: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Return what is to be said of the masks of a run before it starts; nothing without masks.

    Args:
        masks: each [height, width], where its image counts, values 0 … 1.
        sizes: height and width in pixels that each image is brought to.
    """
    if not masks:
        return []
    shares = [share_left(mask, *size) for mask, size in zip(masks, sizes)]
    remarks = [f"Masks leave {_percent(sum(shares) / len(shares))} of the images."]
    inverted = [number for number, mask in enumerate(masks, 1) if looks_inverted(mask)]
    if inverted:
        remarks.append(
            f"{_which(inverted, len(masks))} white along the border and dark in the middle, so the background would be "
            "learned. If the subject is what is black, put InvertMask between: Load Image's mask is white where a picture "
            "is transparent."
        )
    little = [number for number, share in enumerate(shares, 1) if share < LEAST_LEFT]
    if little:
        remarks.append(
            f"{_which(little, len(masks))} black nearly everywhere once the image is cropped: less than "
            f"{_percent(LEAST_LEFT)} of it would be learned. Look at the mask, cut the photograph closer, or set crop to "
            "buckets."
        )
    return remarks


def _values(mask: Tensor) -> Tensor:
    return mask.detach().to(torch.float32).nan_to_num().clamp(0.0, 1.0)


def _which(numbers: Sequence[int], masks: int) -> str:
    if len(numbers) == masks:
        return "All masks are" if masks > 1 else "The mask is"
    return f"Mask{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} {'are' if len(numbers) > 1 else 'is'}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "less than 1 %"
