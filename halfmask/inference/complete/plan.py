"""Decides which annotations of a COCO file `complete` fills, and in which batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from halfmask.coco.file import CocoFile
from halfmask.coco.records import Box, clip_box
from halfmask.coco.supervision import MaskState, provenance

Record = dict[str, Any]

BATCH_IMAGES = 8
BATCH_BOXES = 64
BATCH_PIXELS = 16_000_000
"""Limits of a batch (at least one image). Never a setting, never fitted to the machine:
the output's bytes depend on them.
"""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Boxes of one image that are segmented together.

    Attributes:
        image: the image's record.
        size: its (H, W).
        positions: indices in the document's list of annotations.
        boxes: xyxy, clipped to the image.
        categories: category id of each.
    """

    image: Record
    size: tuple[int, int]
    positions: tuple[int, ...]
    boxes: tuple[Box, ...]
    categories: tuple[int, ...]


@dataclass(kw_only=True)
class FillingPlan:
    """Which masks are to be filled.

    Attributes:
        batches: pieces in file order.
        broken: positions of annotations with an unusable mask, which is replaced (its
            old value is kept).
        counts: annotations by what happens to them: `missing`, `broken` and `refilled`
            are filled; `kept`, `earlier` (filled before), `rejected`, `suspect`,
            `crowd` and `unusable` (no usable box) stay as they are.
        suspects: ids of annotations whose polygon repeats their box.
        unusable: names of annotations without a usable box, image or class.
        to_fill: category id → how many masks are to be filled.
        added: digest of the objects that a detector added to the file; None without.
    """

    batches: list[list[Piece]] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    suspects: list[int] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    to_fill: Counter[int] = field(default_factory=Counter)
    added: str | None = None

    @property
    def total(self) -> int:
        """How many masks are to be filled."""
        return sum(self.to_fill.values())

    @property
    def photographs(self) -> dict[int, Record]:
        """The records of the images that have boxes to fill, by id."""
        return {piece.image["id"]: piece.image for batch in self.batches for piece in batch}


def plan(file: CocoFile, redo_filled: bool = False, added: str | None = None) -> FillingPlan:
    """Looks at every annotation of a file.

    Args:
        file: the file.
        redo_filled: also fill what halfmask filled and nobody reviewed, and what a
            reviewer rejected.
        added: see `FillingPlan`.
    """
    out = FillingPlan(added=added)
    annotations = file.document["annotations"]
    position_of = {id(annotation): k for k, annotation in enumerate(annotations)}
    pieces: list[Piece] = []
    seen: set[int] = set()
    for image in file.images:
        positions = [position_of[id(a)] for a in file.annotations_of(image["id"])]
        seen.update(positions)
        chosen = [
            k
            for k in positions
            if _is_chosen(out, file, annotations[k], position=k, redo_filled=redo_filled)
        ]
        pieces += _pieces(file, image, chosen)
    out.unusable = [_label(a, k) for k, a in enumerate(annotations) if k not in seen]
    if out.unusable:
        out.counts["unusable"] = len(out.unusable)
    out.batches = list(_batches(pieces))
    return out


def _is_chosen(
    out: FillingPlan, file: CocoFile, annotation: Record, *, position: int, redo_filled: bool
) -> bool:
    """Whether the annotation is to be filled; counts it in any case."""
    fate = _fate(file, annotation, redo_filled)
    out.counts[fate] += 1
    if fate == "suspect":
        out.suspects.append(annotation["id"])
    if fate == "broken":
        out.broken.add(position)
    if fate not in ("missing", "broken", "refilled"):
        return False
    out.to_fill[annotation["category_id"]] += 1
    return True


def _fate(file: CocoFile, annotation: Record, redo_filled: bool) -> str:
    state = file.state_of(annotation)
    if state in (MaskState.CROWD, MaskState.SUSPECT, MaskState.MISSING, MaskState.BROKEN):
        return str(state)
    origin = provenance(annotation)
    if state == MaskState.MASK or origin == "accepted":
        return "kept"
    if redo_filled:
        return "refilled"
    return "rejected" if origin == "rejected" else "earlier"


def _pieces(file: CocoFile, image: Record, positions: list[int]) -> Iterator[Piece]:
    size = file.size_of(image["id"])
    for start in range(0, len(positions), BATCH_BOXES):
        part = positions[start : start + BATCH_BOXES]
        rows = [file.document["annotations"][k] for k in part]
        boxes = [clip_box(row["bbox"], size) for row in rows]
        yield Piece(
            image=image,
            size=size,
            positions=tuple(part),
            boxes=tuple(box for box in boxes if box is not None),
            categories=tuple(row["category_id"] for row in rows),
        )


def _batches(pieces: list[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    boxes = pixels = 0
    for piece in pieces:
        boxes += len(piece.positions)
        pixels += piece.size[0] * piece.size[1]
        if batch and (len(batch) == BATCH_IMAGES or boxes > BATCH_BOXES or pixels > BATCH_PIXELS):
            yield batch
            batch, boxes, pixels = [], len(piece.positions), piece.size[0] * piece.size[1]
        batch.append(piece)
    if batch:
        yield batch


def _label(annotation: object, position: int) -> str:
    number = annotation.get("id") if isinstance(annotation, dict) else None
    return f"annotation {number}" if isinstance(number, int) else f"item {position} of annotations"
