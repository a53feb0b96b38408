"""Images, whatever they come as, to the one form that models take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from halfmask.coco.images import read_photograph, to_rgb
from halfmask.errors import InputError

ImageLike = str | Path | Image.Image | NDArray[Any] | Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm"})


def as_tensor(image: ImageLike) -> Tensor:
    """float32 [3, H, W], RGB in [0, 1].

    Args:
        image: a file; a PIL image of any mode; uint8 [H, W, 3] RGB or [H, W] grey; or
            float [3, H, W] in [0, 1], passed on as it is. Pixels are taken as they are
            stored: an EXIF orientation is not applied, as COCO's boxes are in stored
            pixels.
    Raises:
        InputError: the file is absent, cut short or no picture, or the array has
            another form.
    """
    if isinstance(image, str | Path):
        image = read_photograph(image)
    if isinstance(image, Tensor):
        return _checked(image)
    pixels = to_rgb(image) if isinstance(image, Image.Image) else image
    if (
        pixels.dtype != np.uint8
        or pixels.ndim not in (2, 3)
        or (pixels.ndim == 3 and pixels.shape[2] != 3)
    ):
        raise InputError(
            f"an image array is uint8 [H, W, 3] or [H, W], found {pixels.dtype} "
            f"{list(pixels.shape)}"
        )
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).div_(255.0)


def images_in(folder: Path) -> list[Path]:
    """The pictures of a folder, by name, without its subfolders.

    Raises:
        InputError: there is none.
    """
    found = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not found:
        raise InputError(
            f"{folder}: a folder without images (looked for {', '.join(sorted(SUFFIXES))})"
        )
    return found


def _checked(image: Tensor) -> Tensor:
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise InputError(
            f"an image tensor is float [3, H, W] in [0, 1], found {image.dtype} {list(image.shape)}"
        )
    return image.to(torch.float32)
