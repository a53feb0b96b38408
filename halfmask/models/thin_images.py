"""Images so thin that torchvision's resizing would leave no row or column of them: 1 × 2000 pixels at 1333 at most."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def thickened(images: list[Tensor], longest: int) -> list[Tensor]:
    """The images [3, H, W] as they are, but for those whose shorter side would vanish: its pixels are repeated until it does not.

    Args:
        longest: pixels of the longer side that resizing allows.
    """
    return [_thickened(image, longest) for image in images]


def _thickened(image: Tensor, longest: int) -> Tensor:
    height, width = int(image.shape[-2]), int(image.shape[-1])
    least = max(height, width) // longest + 1
    if min(height, width) >= least or max(height, width) <= longest:
        return image
    return functional.interpolate(image[None], (max(height, least), max(width, least)), mode="nearest")[0]
