"""Boundary AP: average precision by the lesser of mask IoU and boundary IoU.

Cheng et al., CVPR 2021, as their code computes it: COCO's and LVIS's matching with
another IoU. hotcoco, which matches boxes and masks, takes no IoU of one's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.evaluation.measures.average_precision import PrecisionTable, Record
from halfmask.masks.boundary import SHARE, boundaries
from halfmask.masks.crops import MaskCrops, decode, encode_rle
from halfmask.masks.rle import area_of, compressed, overlaps

LIMITS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """The D detections of a class on one image, best first; A areas, T IoU thresholds.

    Attributes:
        image_id: The image.
        scores: float64 [D].
        matched: bool [A, T, D].
        ignored: bool [A, T, D], neither right nor wrong.
        truths: int64 [A], the objects that count.
    """

    image_id: int
    scores: Floats
    matched: Bools
    ignored: Bools
    truths: NDArray[np.int64]


class BoundaryStream:
    """Matches detections with the truth by boundary IoU, one image after another.

    The twin of `PrecisionStream`. Memory holds the numbers of each matching. The band
    of a mask is drawn only where its mask IoU reaches the lowest threshold.

    Args:
        categories: COCO categories.
        lvis: Whether LVIS's rules apply, see `PrecisionStream`.
        share: Width of the band as a share of the image's diagonal.
    """

    def __init__(
        self, categories: list[Record], *, lvis: bool = False, share: float = SHARE
    ) -> None:
        self._category_ids = tuple(sorted(category["id"] for category in categories))
        self._lvis, self._share = lvis, share
        self._rows: dict[int, list[_Row]] = {number: [] for number in self._category_ids}

    def add(self, image: Record, truth: list[Record], results: list[Record]) -> None:
        """Matches one image; the order of images makes no difference.

        Args:
            image: A COCO image that was not added before; for LVIS with both lists.
            truth: Its COCO annotations with segmentation, area, iscrowd.
            results: Its COCO results with segmentation.
        """
        size = image["height"], image["width"]
        if self._lvis:
            truth = [r for r in truth if r["area"] > 0]
            results = [r for r in results if area_of(r["segmentation"], size) > 0]
        present = {record["category_id"] for record in truth}
        counted = present | {record["category_id"] for record in results}
        if self._lvis:
            counted &= present | set(image["neg_category_ids"])
        for number in counted & self._rows.keys():
            objects = [r for r in truth if r["category_id"] == number]
            found = [r for r in results if r["category_id"] == number]
            found.sort(key=lambda record: -record["score"])
            open_ = self._lvis and number in image["not_exhaustive_category_ids"]
            areas = np.array([area_of(r["segmentation"], size) for r in found], dtype=np.float64)
            outside, ious = _outside(areas) | open_, self._ious(objects, found, size)
            matched, ignored, counts = _match(objects, ious, outside=outside)
            row = _Row(
                image_id=image["id"],
                scores=np.array([r["score"] for r in found], dtype=np.float64),
                matched=matched,
                ignored=ignored,
                truths=counts,
            )
            self._rows[number].append(row)

    def _ious(self, truth: list[Record], found: list[Record], size: tuple[int, int]) -> Floats:
        """float64 [D, G]: a crowd's is the share of the detection's mask that it covers."""
        crowd = np.array([bool(r["iscrowd"]) for r in truth], dtype=bool)
        masks = [[compressed(r["segmentation"], size) for r in rows] for rows in (found, truth)]
        ious = overlaps(masks[0], masks[1], crowd)
        near = (ious >= LIMITS[0]) & ~crowd
        rows, columns = (np.flatnonzero(near.any(axis)) for axis in (1, 0))
        if len(rows):
            found_bands = self._bands([masks[0][i] for i in rows], size)
            true_bands = self._bands([masks[1][i] for i in columns], size)
            borders, single = np.zeros_like(ious), np.zeros(len(columns), dtype=bool)
            borders[np.ix_(rows, columns)] = overlaps(found_bands, true_bands, single)
            ious = np.where(crowd, ious, np.minimum(ious, borders))
        return ious

    def _bands(self, masks: Iterable[Any], size: tuple[int, int]) -> list[dict[str, Any]]:
        crops = [decode(mask, size) for mask in masks]
        packed = MaskCrops.from_bitmaps([c[0] for c in crops], [c[1] for c in crops], size)
        return encode_rle(boundaries(packed, self._share))

    def table(self) -> PrecisionTable:
        """Precision and recall over all images that were added, of the highest limit alone."""
        classes = len(self._category_ids)
        precision, recall = (
            np.full((10, 101, classes, 4, 3), -1.0),
            np.full((10, classes, 4, 3), -1.0),
        )
        for k, number in enumerate(self._category_ids):
            rows = sorted(self._rows[number], key=lambda row: row.image_id)
            truths = sum((row.truths for row in rows), start=np.zeros(4, dtype=np.int64))
            if not truths.any():
                continue
            scores = np.concatenate([row.scores for row in rows])
            order = np.argsort(-scores, kind="stable")
            matched, ignored = (
                np.concatenate([getattr(row, name) for row in rows], axis=-1)[..., order]
                for name in ("matched", "ignored")
            )
            for area in np.flatnonzero(truths):
                curves = _curves(matched[area], ignored[area], int(truths[area]))
                precision[:, :, k, area, 2], recall[:, k, area, 2] = curves
        return PrecisionTable(precision, recall, self._category_ids)


def _outside(areas: Floats) -> Bools:
    """Which of n areas lie outside each range of areas: bool [A, n]."""
    return (areas < AREAS[:, :1]) | (areas > AREAS[:, 1:])


def _match(
    truth: list[Record], ious: Floats, *, outside: Bools
) -> tuple[Bools, Bools, NDArray[np.int64]]:
    """Matches as COCO does: best detection first, with the nearest object that is left.

    Args:
        truth: G objects of one class.
        ious: [D, G].
        outside: bool [A, D], the detections that are ignored without a match.
    Returns:
        matched, ignored and truths of `_Row`.
    """
    crowd = np.array([bool(r["iscrowd"]) for r in truth], dtype=bool)
    skipped = _outside(np.array([r["area"] for r in truth], dtype=np.float64)) | crowd  # [A, G]
    shape = (len(AREAS), len(LIMITS))
    matched, ignored = np.zeros((2, *shape, len(ious)), dtype=bool)
    taken = np.zeros((*shape, len(truth)), dtype=bool)
    for d in np.flatnonzero((ious >= LIMITS[0]).any(1)):
        left = (ious[d] >= np.minimum(LIMITS, 1 - 1e-10)[:, None]) & (~taken | crowd)
        # An object that counts comes before ignored ones, however near; of equally near
        # ones the last.
        first = left & ~skipped[:, None]
        left = np.where(first.any(-1, keepdims=True), first, left)
        nearest = len(truth) - 1 - np.argmax(np.where(left, ious[d], -1.0)[..., ::-1], -1)
        matched[..., d] = left.any(-1)
        ignored[..., d] = matched[..., d] & np.take_along_axis(skipped, nearest, 1)
        area, limit = np.nonzero(matched[..., d])
        taken[area, limit, nearest[area, limit]] = True
    ignored |= ~matched & outside[:, None]
    return matched, ignored, (~skipped).sum(1)


def _curves(matched: Bools, ignored: Bools, truths: int) -> tuple[Floats, Floats]:
    """Precision [T, R] and the highest recall [T] of n detections, best first: bool [T, n]."""
    right = np.cumsum(matched & ~ignored, axis=1, dtype=np.float64)
    wrong = np.cumsum(~matched & ~ignored, axis=1, dtype=np.float64)
    precision = np.zeros((len(right), len(RECALLS)))
    if right.shape[1] == 0:
        return precision, np.zeros(len(right))
    values = right / (right + wrong + np.spacing(1))
    values = np.maximum.accumulate(values[:, ::-1], axis=1)[:, ::-1]
    for t, recall in enumerate(right / truths):
        places = np.searchsorted(recall, RECALLS, side="left")
        reached = places < right.shape[1]
        precision[t, reached] = values[t, places[reached]]
    return precision, right[:, -1] / truths
