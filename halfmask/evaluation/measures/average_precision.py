"""Average precision of boxes or masks as COCO and LVIS compute it.

One matching of detections with the truth serves every set of classes.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import hotcoco
import numpy as np
from numpy.typing import NDArray

from halfmask.masks.rle import area_of

Kind = Literal["bbox", "segm"]
Record = dict[str, Any]

AP_KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
TOGETHER = 16
"""Images matched in one call, which uses all cores and takes a quarter less time."""


@dataclass(frozen=True)
class PrecisionTable:
    """Precision and recall of one matching; −1 where a class has no truth.

    Axes: T IoU thresholds (0.5 … 0.95), R recall points, K classes, A areas (all, S, M,
    L), L limits of detections (1, 10, 100). LVIS has one limit, 300, which is the last;
    the others are −1.

    Attributes:
        precision: float64 [T, R, K, A, L].
        recall: float64 [T, K, A, L].
        category_ids: The file's ids of the K classes, ascending.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    category_ids: tuple[int, ...]

    def stats(self, category_ids: Collection[int] | None = None) -> list[float]:
        """COCO's twelve numbers over some classes (None: all); −1 where undefined.

        They are AP, AP50, AP75, AP by area, AR at 1, 10 and 100, and AR by area. A
        class without truth drops out of the mean, so this equals the evaluation of a
        file with these classes alone.
        """
        ap, ar = self.precision, self.recall
        if category_ids is not None:
            columns = np.isin(self.category_ids, list(category_ids))
            ap, ar = ap[:, :, columns], ar[:, columns]
        values = [ap[..., 0, 2], ap[0, ..., 0, 2], ap[5, ..., 0, 2]]
        values += [ap[..., area, 2] for area in (1, 2, 3)]
        values += [ar[..., 0, limit] for limit in (0, 1, 2)]
        values += [ar[..., area, 2] for area in (1, 2, 3)]
        return [_mean(v) for v in values]

    def block(self, category_ids: Collection[int] | None = None) -> dict[str, float | None]:
        """The values of `AP_KEYS` in percent over some classes (None: all).

        A value is null where no class has truth.
        """
        values = zip(AP_KEYS, self.stats(category_ids), strict=False)
        return {key: None if value < 0 else 100.0 * value for key, value in values}


def without(record: Record, key: str) -> Record:
    """A copy of the record without one key.

    Detections have either a box or a mask: with both, COCO takes the box's area for the
    mask's.
    """
    return {name: value for name, value in record.items() if name != key}


def empty_block() -> dict[str, float | None]:
    """The block of an AP that was not computed."""
    return dict.fromkeys(AP_KEYS)


class PrecisionStream:
    """Matches detections with the truth by COCO's rules, one image after another.

    hotcoco does it, a port of pycocotools with the same results to the last bit. Memory
    holds the numbers of each matching, and the records of the last `TOGETHER` images.

    Args:
        categories: COCO categories.
        kind: bbox or segm.
        lvis: Whether LVIS's rules apply: of an image only the classes of its truth and
            of its `neg_category_ids` count, and a detection without a match is ignored
            if its class is in `not_exhaustive_category_ids`. Objects and detections of
            no area do not count. Crowds, which LVIS has not, are ignored as in COCO.
    """

    def __init__(self, categories: list[Record], kind: Kind, *, lvis: bool = False) -> None:
        self._category_ids = tuple(sorted(category["id"] for category in categories))
        self._lvis = lvis
        self._matching = hotcoco.StreamingEval(categories, iou_type=kind, lvis_style=lvis)
        self._images: set[int] = set()
        self._waiting: tuple[list[Record], list[Record], list[Record]] = ([], [], [])

    def add(self, image: Record, truth: list[Record], results: list[Record]) -> None:
        """Matches one image; the order of images makes no difference.

        Args:
            image: A COCO image that was not added before; for LVIS with both lists.
            truth: Its COCO annotations with bbox or segmentation, area, iscrowd. Their
                ids are ignored.
            results: Its COCO results; for `segm` with segmentation and without bbox,
                see `without`.
        """
        assert image["id"] not in self._images, f"image {image['id']} twice"
        self._images.add(image["id"])
        if not self._category_ids:
            return
        if self._lvis:
            # As the lvis package's `get_ann_ids` chooses them.
            truth, results = ([r for r in rs if _area_of(r) > 0] for rs in (truth, results))
        images, rows, found = self._waiting
        images.append(image)
        # New ids, since files repeat ids and COCO's evaluator reads an id of 0 as
        # unmatched.
        rows += [record | {"id": number} for number, record in enumerate(truth, len(rows) + 1)]
        found += results
        if len(images) == TOGETHER:
            self._match()

    def _match(self) -> None:
        self._matching.update(*self._waiting)
        self._waiting = ([], [], [])

    def table(self) -> PrecisionTable:
        """Precision and recall over all images that were added; ends the stream."""
        if not self._category_ids or not self._images:
            nothing = np.full((10, 101, len(self._category_ids), 4, 3), -1.0)
            return PrecisionTable(nothing, nothing[:, 0], self._category_ids)
        if self._waiting[0]:
            self._match()
        evaluation = self._matching.finalize()
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        tables = evaluation.eval
        assert tables is not None
        precision, recall = (
            _three_limits(np.asarray(tables[name])) for name in ("precision", "recall")
        )
        return PrecisionTable(precision, recall, self._category_ids)


def _area_of(record: Record) -> float:
    """The area that a record states, else that of its box or of its RLE."""
    if "area" in record:
        return float(record["area"])
    if "bbox" in record:
        return float(record["bbox"][2] * record["bbox"][3])
    height, width = record["segmentation"]["size"]
    return area_of(record["segmentation"], (height, width))


def _three_limits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = 3 - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(missing, 0)], constant_values=-1.0)


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
