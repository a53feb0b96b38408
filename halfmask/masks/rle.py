"""COCO segmentations: is one well-formed, what are its pixels, and bitmaps as RLE.

Imports no torch, so that `halfmask doctor` starts fast.
"""

from __future__ import annotations

from typing import Any

import hotcoco.mask as library
import numpy as np
from numpy.typing import NDArray

Segmentation = list[Any] | dict[str, Any]
"""Polygons, a compressed RLE or an uncompressed RLE, as in a COCO file."""
Bitmap = NDArray[np.uint8]
Place = tuple[int, int]
Runs = NDArray[np.int64]

_MERGED = 64  # polygons that are united at a time
LONGEST_RUN = 1 << 32  # COCO's counts are uint32; the limit also keeps the sums below exact


def box_of(
    segmentation: Segmentation, image_size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Returns the tight box xyxy of a well-formed segmentation; None without pixels.

    Draws no canvas.
    """
    x, y, w, h = (int(v) for v in library.toBbox(_united(segmentation, image_size)))
    return (x, y, x + w, y + h) if w > 0 and h > 0 else None


def drawn_extents(
    masks: list[Any], image_size: tuple[int, int], *, polygons: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the tight boxes xyxy, int64 [n, 4], and pixels, int64 [n], of n masks.

    Args:
        masks: well-formed, of images of one size; each a polygon of its own
            (`polygons`) or the counts of a compressed RLE.
    """
    height, width = image_size
    if polygons:
        drawn = library.frPyObjects(masks, height, width)
    else:
        drawn = [{"size": [height, width], "counts": counts} for counts in masks]
    x, y, w, h = library.toBbox(drawn).astype(np.int64).T
    return np.stack([x, y, x + w, y + h], axis=1), library.area(drawn).astype(np.int64)


def box_iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Returns the IoU of two boxes xyxy; the twin of torchvision's, without torch."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return common / max(sum(areas) - common, 1e-9)


def area_of(segmentation: Segmentation, image_size: tuple[int, int]) -> int:
    """Returns the number of pixels of a well-formed segmentation. Draws no canvas."""
    return int(library.area(_united(segmentation, image_size)))


def overlap(first: Segmentation, second: Segmentation, image_size: tuple[int, int]) -> float:
    """Returns the IoU of two well-formed segmentations of one image."""
    pair = _united(first, image_size), _united(second, image_size)
    return float(library.iou([pair[0]], [pair[1]], [0])[0][0])


def overlaps(
    found: list[dict[str, Any]], truth: list[dict[str, Any]], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns the IoU of each of D masks with each of G, float64 [D, G].

    Args:
        found, truth: Compressed RLE of one image.
        crowd: bool [G], the truths of which the share of the other's pixels counts.
    """
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    return np.asarray(library.iou(found, truth, crowd.astype(int).tolist()), dtype=np.float64)


def compressed(segmentation: Segmentation, image_size: tuple[int, int]) -> dict[str, Any]:
    """Returns a well-formed segmentation as one compressed RLE that fits into JSON."""
    return _as_text(_united(segmentation, image_size), image_size)


def united_rle(parts: list[Segmentation], image_size: tuple[int, int]) -> dict[str, Any]:
    """Returns one compressed RLE of all the pixels of well-formed polygons and RLE.

    Args:
        parts: each a polygon x1, y1, x2, y2, … or an RLE.
        image_size: (H, W).
    """
    wrapped: list[Segmentation] = [[p] if isinstance(p, list) else p for p in parts]
    rles = [_united(part, image_size) for part in wrapped]
    return _as_text(rles[0] if len(rles) == 1 else library.merge(rles), image_size)


def crop_of(segmentation: Segmentation, image_size: tuple[int, int]) -> tuple[Bitmap, Place] | None:
    """Draws a well-formed segmentation exactly as pycocotools does.

    Returns:
        The tight bitmap, uint8 [h, w] of 0 and 1, and the x, y of its upper left pixel;
            None without pixels.
    """
    rle = _united(segmentation, image_size)
    x, y, w, h = (int(v) for v in library.toBbox(rle))
    if w <= 0 or h <= 0:
        return None
    dense = np.asarray(library.decode(rle))
    return np.ascontiguousarray(dense[y : y + h, x : x + w]), (x, y)


def rle_of(bitmap: NDArray[Any], place: Place, image_size: tuple[int, int]) -> dict[str, Any]:
    """Returns COCO's compressed RLE of a bitmap, without drawing a canvas.

    Args:
        bitmap: [h, w]; a pixel is in the mask where it is greater than 0.
        place: x and y of its upper left pixel in the image. Pixels outside the image
            are cut off.
        image_size: (H, W).
    Returns:
        {"size": [H, W], "counts": str}.
    """
    height, width = image_size
    (x, y), (h, w) = place, bitmap.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    inside = bitmap[y0 - y : max(y1, y0) - y, x0 - x : max(x1, x0) - x] > 0
    counts = _column_runs(inside, (x0, y0), image_size)
    plain = {"size": [height, width], "counts": counts}
    return _as_text(library.frPyObjects(plain, height, width), image_size)


def fault_of_rle(segmentation: dict[str, Any], image_size: tuple[int, int]) -> str | None:
    """Says briefly what is wrong with an RLE from a JSON file; None if nothing is."""
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


def _united(segmentation: Segmentation, image_size: tuple[int, int]) -> dict[str, Any]:
    """One compressed RLE; polygons are united."""
    rle: dict[str, Any]
    if isinstance(segmentation, list):
        parts = library.frPyObjects(segmentation, *image_size)
        while len(parts) > 1:  # a union of thousands, one after the other, is quadratic
            parts = [
                library.merge(parts[start : start + _MERGED])
                for start in range(0, len(parts), _MERGED)
            ]
        rle = parts[0]
    elif isinstance(segmentation["counts"], list):
        rle = library.frPyObjects(segmentation, *image_size)
    else:
        rle = segmentation
    return rle


def _as_text(rle: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": list(image_size), "counts": text}


def _column_runs(inside: NDArray[np.bool_], place: Place, image_size: tuple[int, int]) -> list[int]:
    """Lengths of the alternating runs of 0 and 1 down the image's columns."""
    (h, w), (x, y), (height, width) = inside.shape, place, image_size
    # Column after column, each with an empty pixel above and below: a run begins or
    # ends, in turn, wherever the value changes.
    columns = np.zeros((w, h + 2), dtype=bool)
    columns[:, 1:-1] = inside.T
    flat = columns.reshape(-1)
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), h + 2)
    places = (x + column) * height + y + row
    starts, ends = places[::2], places[1::2]
    if len(starts) == 0:
        return [height * width]
    # A run that reaches the bottom continues at the top of the next column.
    joined = starts[1:] == ends[:-1]
    starts = starts[np.concatenate([[True], ~joined])]
    ends = ends[np.concatenate([~joined, [True]])]
    bounds = np.empty(2 * len(starts) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1:2], bounds[2:-1:2] = starts, ends
    counts: list[int] = np.diff(bounds).tolist()
    return counts if counts[-1] > 0 else counts[:-1]


def _plain(counts: object) -> Runs:
    if not isinstance(counts, list):
        raise ValueError(
            f"counts are {type(counts).__name__}, expected text or a list of whole numbers"
        )
    if not set(map(type, counts)) <= {int}:
        raise ValueError("counts are not all whole numbers")
    if counts and (min(counts) < 0 or max(counts) > LONGEST_RUN):
        raise ValueError("a run length is negative or longer than any image")
    return np.array(counts, dtype=np.int64)


def _decompress(text: str) -> Runs:
    """Reads COCO's compressed counts: numbers of base-32 digits, lowest digit first.

    From the fourth number on, each is the difference to the number two before it.
    """
    data = text.encode("utf-8", "surrogatepass")
    digits = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - 48
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
    if runs.min() < 0 or runs.max() > LONGEST_RUN:
        raise ValueError("a run length is negative or longer than any image")
    return runs


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
