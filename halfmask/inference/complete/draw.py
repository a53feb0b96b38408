"""From the pieces of a plan and their photographs to filled masks."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch

from halfmask.coco.images import Pixels
from halfmask.coco.photographs.reader import PhotographReader
from halfmask.errors import InputError
from halfmask.inference.complete.filling import FilledMask, fillings
from halfmask.inference.complete.photographs import Photograph, ahead, photographs_of
from halfmask.inference.complete.plan import Piece, Record
from halfmask.inference.predictor import Predictor
from halfmask.models.box_segmenter.looks import Effort
from halfmask.structures import Detection

FilledBatch = tuple[list[tuple[int, FilledMask]], list[str]]
"""Masks with their positions, and a line for each photograph that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class MaskDrawer:
    """Draws the masks of a file.

    Attributes:
        predictor: draws the masks that are written.
        categories: the file's.
        reader: of its photographs.
        tolerance: of polygons, in pixels; None: RLE.
        workers: threads that decode photographs.
        loose: whether the boxes may be off.
        beside: draws masks to compare with, if the written masks are a provider's.
        effort: how often `predictor` looks at each box; None: as it is set.
    """

    predictor: Predictor
    categories: list[Record]
    reader: PhotographReader
    tolerance: float | None = None
    workers: int = 0
    loose: bool = False
    beside: Predictor | None = None
    effort: Effort | None = None

    @property
    def looks(self) -> int | None:
        """How often the model looks at each box; None for one without looks."""
        return self.predictor.effort.looks(self.effort)

    def draw(self, pieces: list[Piece], photographs: list[Photograph]) -> FilledBatch:
        """Draws the masks of a batch."""
        there: list[tuple[Piece, Pixels]] = []
        faults: list[str] = []
        for piece, photograph in zip(pieces, photographs, strict=True):
            if isinstance(photograph, InputError):
                faults.append(str(photograph))
            else:
                there.append((piece, photograph))
        if not there:
            return [], faults
        drawn = self._segment(self.predictor, there, self.effort)
        others = (
            [None] * len(there) if self.beside is None else self._segment(self.beside, there, None)
        )
        rows: list[tuple[int, FilledMask]] = []
        for (piece, _), detection, other in zip(there, drawn, others, strict=True):
            rows += zip(piece.positions, fillings(detection, self.tolerance, other), strict=True)
        return rows, faults

    def draw_batches(
        self, batches: list[list[Piece]], rest: Iterable[int]
    ) -> Generator[tuple[int, FilledBatch]]:
        """Draws the batches of these numbers, in order.

        Meanwhile threads decode the photographs of the next ones.
        """

        def read(number: int) -> list[Photograph]:
            return photographs_of(self.reader, batches[number])

        for number, photographs in ahead(rest, read, self.workers):
            yield number, self.draw(batches[number], photographs)

    def _segment(
        self, predictor: Predictor, there: list[tuple[Piece, Pixels]], effort: Effort | None
    ) -> list[Detection]:
        label_of = predictor.labels_of(self.categories)
        return predictor.segment_batch(
            [photograph for _, photograph in there],
            [torch.tensor(piece.boxes, dtype=torch.float32) for piece, _ in there],
            [
                torch.tensor([label_of[c] for c in piece.categories], dtype=torch.int64)
                for piece, _ in there
            ],
            loose=self.loose and predictor.knows_loose_boxes,
            effort=effort,
        )
