"""Images of every kind that users have, as the tensors that models take."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from halfmask.coco.images import Pixels, read_photograph, to_rgb
from halfmask.coco.locate import files_below
from halfmask.errors import InputError

ImageLike = str | Path | bytes | IO[bytes] | Image.Image | NDArray[Any] | Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm"})


def as_tensor(image: ImageLike) -> Tensor:
    """Returns an image as float32 [3, H, W], RGB in [0, 1].

    Arguments and errors are those of `read_image`, which also checks a tensor's values.
    """
    pixels = _checked_tensor(image) if isinstance(image, Tensor) else read_image(image)
    if isinstance(pixels, Tensor):
        unit = pixels.to(torch.float32)
        return unit / 255.0 if pixels.dtype == torch.uint8 else unit
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(torch.float32).div_(255.0)


def read_image(image: ImageLike) -> Pixels | Tensor:
    """Reads and checks an image.

    A file is turned as its EXIF orientation says, like a viewer shows it; a PIL image
    or an array is taken unchanged.

    Args:
        image: a path; the bytes of an image file, or a file object open for reading
            bytes; a PIL image of any mode; an array uint8 [H, W, 3] RGB or [H, W] grey;
            or a tensor [3, H, W] RGB, uint8 or float in [0, 1].
    Returns:
        Pixels, uint8 [H, W, 3] or [H, W]; a tensor stays the tensor it is.
    Raises:
        InputError: the image has another type, shape or range, or cannot be read.
    """
    if isinstance(image, Tensor):
        return _in_range(_checked_tensor(image))
    if isinstance(image, np.ndarray):
        return _checked_array(image)
    if isinstance(image, Image.Image):
        return _pixels_of(image)
    if isinstance(image, str | Path):
        return read_photograph(image)
    if isinstance(image, bytes | bytearray):
        image = io.BytesIO(image)
    if not hasattr(image, "read"):
        raise InputError(
            "an image is a path, bytes, a file object, a PIL image, a NumPy array or a tensor; "
            f"found {type(image).__name__}"
        )
    return read_photograph(image)


def images_in(folder: Path, skip: Path | None = None) -> list[Path]:
    """Returns the image files of a folder and the folders below it, sorted.

    Hidden folders are left out, and so is `skip`.

    Raises:
        InputError: there are none.
    """
    paths = (folder / name for name in files_below(folder, skip))
    found = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if not found:
        raise InputError(
            f"{folder}: a folder without images (looked for {', '.join(sorted(SUFFIXES))})"
        )
    return found


def _pixels_of(image: Image.Image) -> Pixels:
    try:
        return to_rgb(image)
    except Exception as error:  # Pillow decodes late, and its decoders raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"the PIL image cannot be read ({reason})") from error


def _checked_array(pixels: NDArray[Any]) -> Pixels:
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not fits or not pixels.size:
        raise InputError(
            "an image array is uint8 [H, W, 3] or [H, W], found "
            f"{pixels.dtype} {list(pixels.shape)}"
        )
    return pixels


def _checked_tensor(image: Tensor) -> Tensor:
    typed = image.dtype == torch.uint8 or image.is_floating_point()
    if image.ndim != 3 or image.shape[0] != 3 or not typed or not image.numel():
        raise InputError(
            "an image tensor is [3, H, W], uint8 or float in [0, 1], found "
            f"{image.dtype} {list(image.shape)}"
        )
    return image


def _in_range(image: Tensor) -> Tensor:
    """The tensor, unless its values are plainly not in [0, 1]; resizing overshoots a little."""
    if image.is_floating_point():
        low, high = (float(v) for v in image.aminmax())
        if not (low >= -1 and high <= 2):  # NaN fails both
            raise InputError(
                f"a float image tensor has values in [0, 1], found {low:g} to {high:g}; divide "
                "8-bit values by 255"
            )
    return image
