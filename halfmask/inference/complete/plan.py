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

FATES_TO_FILL = ("missing", "replaced", "refilled")
"""Counts of a plan whose annotations get a new mask."""
BATCH_IMAGES = 8
BATCH_BOXES = 64
BATCH_PIXELS = 16_000_000
TILE = 2048
"""Limits of a batch (at least one image), and the side of the squares by which the
boxes of an image of more than BATCH_PIXELS are grouped. Never a setting, never fitted
to the machine: the output's bytes depend on them.
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
        replaced: positions of annotations with a broken mask that is replaced (its old
            value is kept).
        counts: annotations by what happens to them: `missing`, `replaced` (broken) and
            `refilled` are filled; `kept`, `earlier` (filled before), `rejected`,
            `suspect`, `broken`, `crowd` and `unusable` (no usable box) stay as they
            are.
        suspects: ids of annotations whose polygon repeats their box.
        broken: ids of annotations whose broken mask stays: a person may have drawn it.
        unusable: names of annotations without a usable box, image or class.
        to_fill: category id → how many masks are to be filled.
        added: digest of the objects that a detector added to the file; None without.
        counted_images: number of images to fill in a plan without batches.
    """

    batches: list[list[Piece]] = field(default_factory=list)
    replaced: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    suspects: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    to_fill: Counter[int] = field(default_factory=Counter)
    added: str | None = None
    counted_images: int = 0

    @property
    def image_count(self) -> int:
        """How many images have masks to be filled."""
        return self.counted_images or len(self.photographs)

    @property
    def total(self) -> int:
        """How many masks are to be filled."""
        return sum(self.to_fill.values())

    @property
    def large(self) -> dict[int, Record]:
        """The records of the images that are drawn in parts, as they are very large."""
        pieces = (piece for batch in self.batches for piece in batch)
        return {p.image["id"]: p.image for p in pieces if p.size[0] * p.size[1] > BATCH_PIXELS}

    @property
    def photographs(self) -> dict[int, Record]:
        """The records of the images that have boxes to fill, by id."""
        return {piece.image["id"]: piece.image for batch in self.batches for piece in batch}


@dataclass(frozen=True)
class Redo:
    """Which masks `complete` draws again, besides those that are missing.

    Attributes:
        filled: what halfmask filled and nobody reviewed, and what a reviewer rejected.
        broken: masks that cannot be read.
    """

    filled: bool = False
    broken: bool = False


NOTHING_AGAIN = Redo()


def plan(file: CocoFile, redo: Redo = NOTHING_AGAIN, added: str | None = None) -> FillingPlan:
    """Looks at every annotation of a file.

    Args:
        file: the file.
        redo: what is drawn again.
        added: see `FillingPlan`.
    """
    out = FillingPlan(added=added)
    annotations = file.document["annotations"]
    pieces: list[Piece] = []
    seen: set[int] = set()
    for image in file.images:
        rows = [(file.position_of(a), a) for a in file.annotations_of(image["id"])]
        seen.update(position for position, _ in rows)
        chosen = [row for row in rows if _is_chosen(out, file, row, redo=redo)]
        pieces += pieces_of(file, image, chosen)
    out.unusable = [annotation_name(a, k) for k, a in enumerate(annotations) if k not in seen]
    if out.unusable:
        out.counts["unusable"] = len(out.unusable)
    out.batches = list(batches_of(pieces))
    return out


def _is_chosen(out: FillingPlan, file: CocoFile, row: tuple[int, Record], *, redo: Redo) -> bool:
    """Whether the annotation at a position is to be filled; counts it in any case."""
    position, annotation = row
    fate = _fate(file, annotation, redo)
    out.counts[fate] += 1
    if fate == "suspect":
        out.suspects.append(annotation["id"])
    if fate == "broken":
        out.broken.append(annotation["id"])
    if fate == "replaced":
        out.replaced.add(position)
    if fate not in FATES_TO_FILL:
        return False
    out.to_fill[annotation["category_id"]] += 1
    return True


def _fate(file: CocoFile, annotation: Record, redo: Redo) -> str:
    state = file.state_of(annotation)
    if state == MaskState.BROKEN:
        return "replaced" if redo.broken else "broken"
    if state in (MaskState.CROWD, MaskState.SUSPECT, MaskState.MISSING):
        return str(state)
    origin = provenance(annotation)
    if state == MaskState.MASK or origin == "accepted":
        return "kept"
    if redo.filled:
        return "refilled"
    return "rejected" if origin == "rejected" else "earlier"


def pieces_of(file: CocoFile, image: Record, chosen: list[tuple[int, Record]]) -> Iterator[Piece]:
    """Yields the chosen annotations of an image, each with its position, in pieces."""
    size = file.size_of(image["id"])
    for part in _parts(chosen, size):
        boxes = [clip_box(row["bbox"], size) for _, row in part]
        yield Piece(
            image=image,
            size=size,
            positions=tuple(position for position, _ in part),
            boxes=tuple(box for box in boxes if box is not None),
            categories=tuple(row["category_id"] for _, row in part),
        )


def _parts(
    chosen: list[tuple[int, Record]], size: tuple[int, int]
) -> Iterator[list[tuple[int, Record]]]:
    """Cuts the boxes of an image into pieces, those of a very large one by their places."""
    groups = [chosen]
    if size[0] * size[1] > BATCH_PIXELS:
        by_tile: dict[tuple[int, int], list[tuple[int, Record]]] = {}
        for row in chosen:
            x, y, width, height = row[1]["bbox"]
            tile = int((y + height / 2) // TILE), int((x + width / 2) // TILE)
            by_tile.setdefault(tile, []).append(row)
        groups = [by_tile[tile] for tile in sorted(by_tile)]
    for group in groups:
        for start in range(0, len(group), BATCH_BOXES):
            yield group[start : start + BATCH_BOXES]


def batches_of(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Yields pieces in batches that fit the memory, in order."""
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


def annotation_name(annotation: object, position: int) -> str:
    """Names an annotation by its id, or by its position if it has none."""
    number = annotation.get("id") if isinstance(annotation, dict) else None
    return f"annotation {number}" if isinstance(number, int) else f"item {position} of annotations"
