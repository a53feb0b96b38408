"""From the pieces of a plan and their photographs to filled masks."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from halfmask.coco.images import Pixels
from halfmask.coco.photographs.reader import PhotographReader
from halfmask.errors import InputError
from halfmask.inference.complete.filling import FilledMask, fillings
from halfmask.inference.complete.photographs import (
    LargePhotograph,
    Photograph,
    ahead,
    photographs_of,
)
from halfmask.inference.complete.plan import Piece, Record
from halfmask.inference.complete.windows import window_of
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.inference.runtime.names import Computing
from halfmask.inference.runtime.use import limit_size
from halfmask.models.box_segmenter.looks import Effort
from halfmask.models.mask_rcnn.detector import RegionDetector
from halfmask.structures import Detection

FilledBatch = tuple[list[tuple[int, FilledMask]], list[str]]
"""Masks with their positions, and a line for each photograph that cannot be read."""


def drawing_model(
    model: Predictor | str | Path,
    device: str | torch.device | None,
    computing: Computing,
    *,
    if_it_resizes: bool,
) -> Predictor:
    """Loads what draws the masks.

    Args:
        if_it_resizes: whether max_size may be for another model alone, which finds
            objects.
    Raises:
        InputError: as `load`.
    """
    if isinstance(model, Predictor) or not if_it_resizes:
        return as_predictor(model, device=device, computing=computing)
    found = as_predictor(model, device=device, computing=replace(computing, max_size=None))
    if isinstance(found.model, RegionDetector):
        found.max_size = limit_size([found], computing.max_size)
    return found


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A batch's masks as probabilities: positions, the masks, those to compare with."""

    found: list[tuple[tuple[int, ...], Detection, Detection | None]] = field(default_factory=list)
    faults: list[str]
    tolerance: float | None = None


def _encoded(drawn: _Drawn) -> FilledBatch:
    """Turns a batch's masks into the values of a file."""
    rows: list[tuple[int, FilledMask]] = []
    for positions, one, other in drawn.found:
        rows += zip(positions, fillings(one, drawn.tolerance, other), strict=True)
    return rows, drawn.faults


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
        return _encoded(self._drawn(pieces, photographs))

    def draw_batches(
        self, batches: list[list[Piece]], rest: Iterable[int]
    ) -> Generator[tuple[int, FilledBatch]]:
        """Draws the batches of these numbers, in order.

        Meanwhile threads decode the photographs of the next batches, and one encodes
        the masks of the last.
        """
        last = LargePhotograph()

        def read(number: int) -> list[Photograph]:
            return photographs_of(self.reader, batches[number], last)

        def drawn() -> Iterator[tuple[int, _Drawn]]:
            for number, photographs in ahead(rest, read, self.workers):
                yield number, self._drawn(batches[number], photographs)

        pairs = ahead(drawn(), lambda pair: _encoded(pair[1]), min(self.workers, 1))
        for (number, _), filled in pairs:
            yield number, filled

    def _drawn(self, pieces: list[Piece], photographs: list[Photograph]) -> _Drawn:
        there: list[tuple[Piece, Pixels]] = []
        faults: list[str] = []
        for piece, photograph in zip(pieces, photographs, strict=True):
            if isinstance(photograph, InputError):
                faults.append(str(photograph))
            else:
                there.append((piece, photograph))
        if not there:
            return _Drawn(faults=faults)
        drawn = self._segment(self.predictor, there, self.effort)
        others: Sequence[Detection | None] = [None] * len(there)
        if self.beside is not None:
            others = self._segment(self.beside, there, None)
        pairs = zip(there, drawn, others, strict=True)
        found = [(piece.positions, one, other) for (piece, _), one, other in pairs]
        return _Drawn(found=found, faults=faults, tolerance=self.tolerance)

    def _segment(
        self, predictor: Predictor, there: list[tuple[Piece, Pixels]], effort: Effort | None
    ) -> list[Detection]:
        label_of = predictor.labels_of(self.categories)
        windows = [window_of(predictor, pixels, piece.boxes) for piece, pixels in there]
        drawn = predictor.segment_batch(
            [window.cut(pixels) for window, (_, pixels) in zip(windows, there, strict=True)],
            [window.boxes(piece.boxes) for window, (piece, _) in zip(windows, there, strict=True)],
            [
                torch.tensor([label_of[c] for c in piece.categories], dtype=torch.int64)
                for piece, _ in there
            ],
            loose=self.loose and predictor.knows_loose_boxes,
            effort=effort,
        )
        rows = zip(windows, drawn, there, strict=True)
        return [window.on_photograph(found, pixels) for window, found, (_, pixels) in rows]
