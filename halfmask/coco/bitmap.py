"""Masks as bitmaps, without torch: the pixels of a segmentation and the RLE of pixels, one mask at a time."""

from __future__ import annotations

from typing import Any

import hotcoco.mask as library
import numpy as np
from numpy.typing import NDArray

from halfmask.coco.rle import Segmentation, box_of, encoded

Bitmap = NDArray[np.uint8]
Place = tuple[int, int]


def crop_of(segmentation: Segmentation, image_size: tuple[int, int]) -> tuple[Bitmap, Place] | None:
    """The tight bitmap [h, w] of 0 and 1 of a sound segmentation and the x, y of its upper left pixel; None without pixels."""
    box = box_of(segmentation, image_size)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    dense = np.asarray(library.decode(encoded(segmentation, image_size)))
    return np.ascontiguousarray(dense[y0:y1, x0:x1]), (x0, y0)


def rle_of(bitmap: NDArray[Any], place: Place, image_size: tuple[int, int]) -> dict[str, Any]:
    """COCO's compressed RLE of a bitmap at x, y of an image (H, W); what lies outside the image is cut off."""
    height, width = image_size
    canvas = np.zeros((height, width), dtype=np.uint8, order="F")
    (x, y), (h, w) = place, bitmap.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x1 > x0 and y1 > y0:
        canvas[y0:y1, x0:x1] = np.asarray(bitmap[y0 - y : y1 - y, x0 - x : x1 - x]) > 0
    counts = library.encode(canvas)["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def area_of(segmentation: Segmentation, image_size: tuple[int, int]) -> int:
    """The pixels of a sound segmentation."""
    return int(library.area(encoded(segmentation, image_size)))
