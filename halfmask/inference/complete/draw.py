"""From the pieces of a plan and their photographs to filled masks."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from halfmask.coco.images import Pixels
from halfmask.errors import InputError
from halfmask.inference.complete.filling import FilledMask, fillings
from halfmask.inference.complete.photographs import Photograph, ahead, photographs_of
from halfmask.inference.complete.plan import Piece, Record
from halfmask.inference.predictor import Predictor
from halfmask.structures import Detection

Drawn = tuple[int, list[tuple[int, FilledMask]], list[str]]
"""Number of a batch, its masks by position, and a line for each photograph that could
not be read.
"""


@dataclass(frozen=True)
class MaskDrawer:
    """What draws the masks of a file, and how.

    Attributes:
        predictor: draws the masks that are written.
        categories: the file's.
        folder: of its photographs.
        polygons: outlines instead of RLE.
        workers: threads that decode photographs.
        loose: whether the boxes may be off.
        beside: draws masks to compare those with, where another's are written.
    """

    predictor: Predictor
    categories: list[Record]
    folder: Path
    polygons: bool
    workers: int
    loose: bool
    beside: Predictor | None = None

    def draw(
        self, pieces: list[Piece], photographs: list[Photograph]
    ) -> list[tuple[int, FilledMask]]:
        """The masks of the pieces whose photograph is there, by position."""
        there = [
            (piece, p)
            for piece, p in zip(pieces, photographs, strict=True)
            if not isinstance(p, InputError)
        ]
        if not there:
            return []
        drawn = self._segment(self.predictor, there)
        others = [None] * len(there) if self.beside is None else self._segment(self.beside, there)
        rows: list[tuple[int, FilledMask]] = []
        for (piece, _), detection, other in zip(there, drawn, others, strict=True):
            rows += zip(piece.positions, fillings(detection, self.polygons, other), strict=True)
        return rows

    def draw_with_faults(
        self, pieces: list[Piece], photographs: list[Photograph]
    ) -> tuple[list[tuple[int, FilledMask]], list[str]]:
        """`draw`, and a line for each photograph that is not there."""
        return self.draw(pieces, photographs), [
            str(p) for p in photographs if isinstance(p, InputError)
        ]

    def _segment(self, predictor: Predictor, there: list[tuple[Piece, Pixels]]) -> list[Detection]:
        labels = predictor.labels_of(self.categories)
        boxes = [torch.tensor(piece.boxes, dtype=torch.float32) for piece, _ in there]
        classes = [
            torch.tensor([labels[c] for c in piece.categories], dtype=torch.int64)
            for piece, _ in there
        ]
        loose = self.loose and predictor.knows_loose_boxes
        return predictor.segment_batch(
            [photograph for _, photograph in there], boxes, classes, loose
        )


def drawn_here(
    run: MaskDrawer, batches: list[list[Piece]], rest: Iterable[int]
) -> Generator[Drawn]:
    """Draws the batches of these numbers, in order, while threads decode the next ones'
    photographs.
    """
    for number, photographs in ahead(
        rest, lambda k: photographs_of(run.folder, batches[k]), run.workers
    ):
        yield number, *run.draw_with_faults(batches[number], photographs)
