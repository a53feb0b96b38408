"""Which annotations of a COCO file `complete` fills, in which batches, and which it
leaves alone and why.
"""

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
"""A batch is at most so many images, boxes and pixels of images (one image at least).
Part of what makes the bytes the same: never a setting, never fitted to the machine.
"""


@dataclass(frozen=True)
class Piece:
    """Boxes of one image that are drawn together.

    Attributes:
        image: the image's record.
        size: its (H, W).
        positions: places in the document's list of annotations.
        boxes: xyxy, clipped to the image.
        categories: category id of each.
    """

    image: Record
    size: tuple[int, int]
    positions: tuple[int, ...]
    boxes: tuple[Box, ...]
    categories: tuple[int, ...]


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        batches: pieces in file order.
        broken: positions whose unusable mask is replaced (and its old value kept).
        counts: annotations by what becomes of them: `missing`, `broken` and `refilled`
            are filled; `kept`, `earlier` (filled before), `rejected`, `suspect`,
            `crowd` and `unusable` (no box to go by) stay as they are.
        suspects: annotation ids.
        unusable: what names an annotation without a usable box, image or class.
        to_fill: category id → how many masks are to be filled.
    """

    batches: list[list[Piece]] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    suspects: list[int] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    to_fill: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many masks are to be filled."""
        return sum(self.to_fill.values())


def plan(file: CocoFile, redo_filled: bool = False) -> Plan:
    """Looks at every annotation.

    Args:
        file: the file.
        redo_filled: fill anew what halfmask filled and nobody reviewed, and what a
            reviewer rejected.
    """
    out = Plan()
    position_of = {id(a): k for k, a in enumerate(file.document["annotations"])}
    pieces: list[Piece] = []
    seen: set[int] = set()
    for image in file.images:
        chosen: list[int] = []
        for annotation in file.annotations_of(image["id"]):
            position = position_of[id(annotation)]
            seen.add(position)
            if _choose(out, file, annotation, position, redo_filled):
                chosen.append(position)
        pieces += _pieces(file, image, chosen)
    for position, annotation in enumerate(file.document["annotations"]):
        if position not in seen:
            out.counts["unusable"] += 1
            out.unusable.append(_label(annotation, position))
    out.batches = list(_batches(pieces))
    return out


def _choose(
    out: Plan, file: CocoFile, annotation: Record, position: int, redo_filled: bool
) -> bool:
    """Whether the annotation is to be filled; counts it either way."""
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
    origin = provenance(annotation)
    match state:
        case MaskState.CROWD | MaskState.SUSPECT | MaskState.MISSING | MaskState.BROKEN:
            return str(state)
        case MaskState.MASK:
            return "kept"
    if origin == "accepted":
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
            image,
            size,
            tuple(part),
            tuple(box for box in boxes if box is not None),
            tuple(row["category_id"] for row in rows),
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
