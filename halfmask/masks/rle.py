"""COCO's run lengths: is an RLE sound, and where are a segmentation's pixels. Without
torch, so that `doctor` starts at once.
"""

from __future__ import annotations

from typing import Any

import hotcoco.mask as library
import numpy as np
from numpy.typing import NDArray

Segmentation = list[Any] | dict[str, Any]
Runs = NDArray[np.int64]

_LONGEST_RUN = 1 << 32  # COCO's counts are uint32; this also keeps the sums below from wrapping


def box_of(
    segmentation: Segmentation, image_size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """The tight box xyxy of a sound segmentation's pixels; None for a mask without
    pixels. Makes no canvas.
    """
    x, y, w, h = (int(v) for v in library.toBbox(encoded(segmentation, image_size)))
    return (x, y, x + w, y + h) if w > 0 and h > 0 else None


def area_of(segmentation: Segmentation, image_size: tuple[int, int]) -> int:
    """Pixels of a sound segmentation. Makes no canvas."""
    return int(library.area(encoded(segmentation, image_size)))


def overlap(first: Segmentation, second: Segmentation, image_size: tuple[int, int]) -> float:
    """IoU of two sound segmentations of one image."""
    pair = encoded(first, image_size), encoded(second, image_size)
    return float(library.iou([pair[0]], [pair[1]], [0])[0][0])


def compressed(segmentation: Segmentation, image_size: tuple[int, int]) -> dict[str, Any]:
    """A sound segmentation as COCO's compressed RLE with counts as text, fit for JSON."""
    rle = encoded(segmentation, image_size)
    counts = rle["counts"]
    return {
        "size": list(image_size),
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }


def pixels_of(segmentation: Segmentation, image_size: tuple[int, int]) -> int:
    """The number of pixels of a sound segmentation."""
    return int(library.area(encoded(segmentation, image_size)))


def fault_of_rle(segmentation: dict[str, Any], image_size: tuple[int, int]) -> str | None:
    """What is wrong with an RLE from a JSON file, in a few words; None where nothing is."""
    height, width = image_size
    size = segmentation.get("size")
    if size != [height, width] or set(map(type, size)) != {int}:
        return f"RLE of size {_short(size)} on an image of [{height}, {width}] (height, width)"
    if "counts" not in segmentation:
        return "RLE without counts"
    try:
        counts = segmentation["counts"]
        runs = _decompress(counts) if isinstance(counts, str) else _plain(counts)
    except ValueError as error:
        return f"corrupt RLE: {error}"
    if int(runs.sum()) != height * width:
        return (
            f"corrupt RLE: its runs cover {int(runs.sum())} pixels, the image has {height * width}"
        )
    return None if int(runs[1::2].sum()) > 0 else "RLE without a single pixel"


def encoded(segmentation: Segmentation, image_size: tuple[int, int]) -> dict[str, Any]:
    """One compressed RLE of a sound segmentation, polygons united."""
    height, width = image_size
    if isinstance(segmentation, list):
        merged: dict[str, Any] = library.merge(library.frPyObjects(segmentation, height, width))
        return merged
    if isinstance(segmentation["counts"], list):
        encoded: dict[str, Any] = library.frPyObjects(segmentation, height, width)
        return encoded
    return segmentation


def _plain(counts: object) -> Runs:
    if not isinstance(counts, list):
        raise ValueError(
            f"counts are {type(counts).__name__}, expected text or a list of whole numbers"
        )
    if not set(map(type, counts)) <= {int}:
        raise ValueError("counts are not all whole numbers")
    if counts and (min(counts) < 0 or max(counts) > _LONGEST_RUN):
        raise ValueError("a run length is negative or longer than any image")
    return np.array(counts, dtype=np.int64)


def _decompress(text: str) -> Runs:
    """COCO's compressed counts: base-32 digits, lowest first; from the fourth number
    on, the difference to the last but one.
    """
    digits = (
        np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int64) - 48
    )
    if not len(digits):
        return np.zeros(0, dtype=np.int64)
    if digits.min() < 0 or digits.max() > 63:
        raise ValueError("the compressed counts hold a character that COCO does not use")
    last = (digits & 32) == 0
    if not last[-1]:
        raise ValueError("the compressed counts end within a number")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 8:
        raise ValueError("a run length is longer than any image")
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((digits & 31) << (5 * place), starts)
    runs -= np.where(digits[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0 or runs.max() > _LONGEST_RUN:
        raise ValueError("a run length is negative or longer than any image")
    return runs


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


Bitmap = NDArray[np.uint8]
Place = tuple[int, int]


def crop_of(segmentation: Segmentation, image_size: tuple[int, int]) -> tuple[Bitmap, Place] | None:
    """The tight bitmap [h, w] of 0 and 1 of a sound segmentation and the x, y of its
    upper left pixel; None without pixels.
    """
    box = box_of(segmentation, image_size)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    dense = np.asarray(library.decode(encoded(segmentation, image_size)))
    return np.ascontiguousarray(dense[y0:y1, x0:x1]), (x0, y0)


def rle_of(bitmap: NDArray[Any], place: Place, image_size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed RLE of a bitmap at x, y of an image (H, W); what lies outside
    the image is cut off.
    """
    height, width = image_size
    canvas = np.zeros((height, width), dtype=np.uint8, order="F")
    (x, y), (h, w) = place, bitmap.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x1 > x0 and y1 > y0:
        canvas[y0:y1, x0:x1] = np.asarray(bitmap[y0 - y : y1 - y, x0 - x : x1 - x]) > 0
    counts = library.encode(canvas)["counts"]
    return {
        "size": [height, width],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }
