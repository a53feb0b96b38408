"""The index of a review: numbers of every annotation of a COCO file, in arrays.

The annotations themselves stay in the file.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.records import is_id
from halfmask.coco.scan.lists import scan_lists
from halfmask.coco.supervision import all_finite, is_crowd, is_missing, provenance

STATES = (
    "",
    "filled",
    "accepted",
    "redrawn",
    "rejected",
    "annotated",
    "confirmed",
    "missing",
    "deleted",
)
"""State of an annotation by its code; 0 means that it cannot be reviewed.

annotated: a person's mask that came with the file. confirmed: one that a reviewer
accepted. missing: the annotation has no mask.
"""
FILLED = STATES.index("rejected")
"""The last code of masks that halfmask filled."""
NO_SCORE = -1.0
LARGEST_SIDE = 1 << 20
CHUNK = 1 << 19
"""Bytes of the file that are parsed at once: a large file must not fill the memory."""


@dataclass(frozen=True, kw_only=True)
class ReviewIndex:
    """A file's annotations by *position* in their list and images by *row* in theirs.

    Attributes:
        digest: SHA-256 of the file.
        categories: its category records, ordered by id.
        ids: int64 [n], annotation ids; −1 where there is none.
        spans: int64 [n, 2], first byte and last + 1.
        images: int32 [n], row of the annotation's image; −1 for an unknown one.
        classes: int32 [n], row in `categories`; −1 for an unknown one.
        scores: float32 [n], the model's estimate of a filled mask's IoU; 0 where there
            is none, which puts the mask first in the queue. NO_SCORE of other masks.
        states: uint8 [n], codes of STATES.
        boxes: float32 [n, 4] xyxy, clipped to the image; zeros where unusable.
        image_spans: int64 [m, 2], first byte and last + 1 of each image record.
        sizes: int32 [m, 2], height and width.
        queue: int32 [q], positions of the masks that halfmask filled, worst score
            first, then in the order of the file.
        by_image: int32 [n], positions sorted by image row.
    """

    digest: str
    categories: list[dict[str, Any]]
    ids: NDArray[np.int64]
    spans: NDArray[np.int64]
    images: NDArray[np.int32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    states: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    image_spans: NDArray[np.int64]
    sizes: NDArray[np.int32]
    queue: NDArray[np.int32]
    by_image: NDArray[np.int32]

    def of_image(self, row: int) -> NDArray[np.int32]:
        """Returns the positions of an image's annotations."""
        rows = self.images[self.by_image]
        first, last = np.searchsorted(rows, row), np.searchsorted(rows, row, side="right")
        return self.by_image[first:last]


class _Columns:
    """Columns that grow by one row for each annotation or image."""

    def __init__(self) -> None:
        self.ids, self.spans = array("q"), array("q")
        self.image_ids, self.category_ids = array("q"), array("q")
        self.scores, self.states, self.boxes = array("f"), array("B"), array("d")
        self.image_record_ids, self.image_spans, self.sizes = array("q"), array("q"), array("l")

    def add_annotation(self, value: Any, span: tuple[int, int]) -> None:
        record: dict[str, Any] = value if isinstance(value, dict) else {}
        ids: list[Any] = [
            record.get(key) if is_id(record.get(key)) else -1
            for key in ("id", "image_id", "category_id")
        ]
        state = _state_of(record)
        is_filled = 0 < STATES.index(state) <= FILLED
        score: Any = record["halfmask"].get("score") if is_filled else NO_SCORE
        bbox: Any = record.get("bbox")
        sound = isinstance(bbox, list) and len(bbox) == 4 and all_finite(bbox)
        self.ids.append(ids[0])
        self.image_ids.append(ids[1])
        self.category_ids.append(ids[2])
        self.spans.extend(span)
        least = 0.0 if is_filled else NO_SCORE
        self.scores.append(min(max(float(score), least), 1.0) if all_finite([score]) else least)
        self.states.append(STATES.index(state))
        self.boxes.extend(bbox if sound else (0, 0, 0, 0))

    def add_image(self, value: Any, span: tuple[int, int]) -> None:
        if not isinstance(value, dict) or not is_id(value.get("id")):
            return
        sides: list[Any] = [value.get("height"), value.get("width")]
        usable = all_finite(sides) and all(
            0 < side <= LARGEST_SIDE and side == int(side) for side in sides
        )
        self.image_record_ids.append(value["id"])
        self.image_spans.extend(span)
        self.sizes.extend((int(sides[0]), int(sides[1])) if usable else (0, 0))


def _state_of(record: dict[str, Any]) -> str:
    if not record or is_crowd(record):
        return ""
    origin = provenance(record)
    if origin is not None:
        return origin
    if is_missing(record.get("segmentation")):
        return "missing"
    note = record.get("halfmask")
    is_confirmed = isinstance(note, dict) and note.get("state") == "confirmed"
    return "confirmed" if is_confirmed else "annotated"


def build_index(path: Path) -> ReviewIndex:
    """Reads a file block by block, without holding it in memory.

    Raises:
        InputError: it is no COCO file.
    """
    digest, columns, categories = hashlib.sha256(), _Columns(), []
    batches = scan_lists(path, lambda _: True, on_chunk=digest.update, chunk_bytes=CHUNK)
    for batch in batches:
        for value, span in zip(batch.items, batch.spans, strict=True):
            if batch.key == "annotations":
                columns.add_annotation(value, span)
            elif batch.key == "images":
                columns.add_image(value, span)
            elif isinstance(value, dict) and is_id(value.get("id")):
                categories.append(value)
    return _assembled(digest.hexdigest(), columns, sorted(categories, key=lambda c: int(c["id"])))


def _assembled(digest: str, columns: _Columns, categories: list[dict[str, Any]]) -> ReviewIndex:
    sizes = np.array(columns.sizes, dtype=np.int32).reshape(-1, 2)
    images = _rows_of(np.array(columns.image_ids), np.array(columns.image_record_ids))
    classes = _rows_of(
        np.array(columns.category_ids), np.array([c["id"] for c in categories], dtype=np.int64)
    )
    boxes = _clipped(np.array(columns.boxes).reshape(-1, 4), images, sizes)
    usable = (
        (images >= 0) & (classes >= 0) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    )
    states = np.array(columns.states, dtype=np.uint8) * usable
    scores = np.array(columns.scores, dtype=np.float32)
    filled = np.flatnonzero((states > 0) & (states <= FILLED))
    return ReviewIndex(
        digest=digest,
        categories=categories,
        ids=np.array(columns.ids),
        spans=np.array(columns.spans).reshape(-1, 2),
        images=images,
        classes=classes,
        scores=scores,
        states=states.astype(np.uint8),
        boxes=boxes,
        image_spans=np.array(columns.image_spans).reshape(-1, 2),
        sizes=sizes,
        queue=filled[np.argsort(scores[filled], kind="stable")].astype(np.int32),
        by_image=np.argsort(images, kind="stable").astype(np.int32),
    )


def _rows_of(wanted: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int32]:
    """Returns the row of each wanted id in `known`, −1 for an unknown one."""
    if not len(known):
        return np.full(len(wanted), -1, dtype=np.int32)
    order = np.argsort(known, kind="stable")
    rows = order[np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)]
    return np.where(known[rows] == wanted, rows, -1).astype(np.int32)


def _clipped(
    boxes: NDArray[np.float64], images: NDArray[np.int32], sizes: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Converts x, y, width, height to xyxy, clipped to the image as in `clip_box`.

    A box that lies outside its image has no area.
    """
    if not len(sizes):
        return np.zeros((len(boxes), 4), dtype=np.float32)
    limits = sizes[images][:, ::-1].astype(np.float64)
    low = np.clip(boxes[:, :2], 0, limits)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limits)
    return np.concatenate([low, high], axis=1).astype(np.float32)
