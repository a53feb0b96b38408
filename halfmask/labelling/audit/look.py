"""Looks at the masks of people in a file with a model, a batch of photographs at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from halfmask.coco.file import CocoFile
from halfmask.coco.images import Pixels
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.inference.complete.photographs import (
    LargePhotograph,
    Photograph,
    ReadsPhotographs,
    ahead,
    photographs_of,
)
from halfmask.inference.complete.plan import Piece, batches_of, pieces_of
from halfmask.inference.predictor import Predictor
from halfmask.labelling.audit.edges import edges_on_grid
from halfmask.labelling.audit.maps import Maps, grid_window, probs_on_grid
from halfmask.labelling.audit.measures import measures_of
from halfmask.labelling.audit.placing import HELD, Neighbours, Placed, place
from halfmask.models.box_segmenter.looks import Effort
from halfmask.progress import Progress
from halfmask.structures import Detection


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """Masks of one photograph that were measured, n of them.

    Attributes:
        image_id: of the photograph.
        positions: of the annotations, in the file's list.
        measures: float32 [n, F], columns as in `measures.MEASURES`.
        twins: position of the most alike other mask; −1 without another.
        fitting: position of the other box that fits best; −1 without another.
    """

    image_id: int
    positions: tuple[int, ...]
    measures: NDArray[np.float32]
    twins: list[int]
    fitting: list[int]


@dataclass(kw_only=True)
class Looker:
    """Measures the masks of a file.

    Attributes:
        predictor: the model that is compared with.
        file: the annotations.
        reader: of the photographs.
        workers: threads that decode photographs.
        effort: how often the model looks at each box; None: once, as `fast` does.
        unread: a line for each photograph that cannot be read.
        counts: annotations by what happens to them: `looked_at`, or why not.
    """

    predictor: Predictor
    file: CocoFile
    reader: ReadsPhotographs
    workers: int = 2
    effort: Effort | None = None
    unread: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def batches(self) -> list[list[Piece]]:
        """Returns the masks to look at; counts the annotations that have none."""
        pieces: list[Piece] = []
        for image in self.file.images:
            rows = zip(
                self.file.annotations_of(image["id"]), self.file.states_of(image["id"]), strict=True
            )
            chosen = []
            for annotation, state in rows:
                if state in HELD:
                    chosen.append((self.file.position_of(annotation), annotation))
                elif state is not MaskState.BROKEN:
                    self.counts[str(state)] += 1
            pieces += pieces_of(self.file, image, chosen)
        return list(batches_of(pieces))

    def look(
        self, batches: list[list[Piece]], progress: Progress | None = None
    ) -> Iterator[LookedAt]:
        """Yields the measures of the masks, photograph by photograph."""
        for piece, pixels, drawn in self.drawings(batches, progress):
            yield self.measured(piece, pixels, drawn)

    def drawings(
        self, batches: list[list[Piece]], progress: Progress | None = None
    ) -> Iterator[tuple[Piece, Pixels, Detection]]:
        """Yields the model's masks for the boxes of each piece, and its photograph."""
        label_of = self.predictor.labels_of(self.file.categories)
        done, total = 0, sum(len(batch) for batch in batches)
        last = LargePhotograph()

        def read(batch: list[Piece]) -> list[Photograph]:
            return photographs_of(self.reader, batch, last)

        with looking(self.predictor, self.effort):
            for batch, photographs in ahead(batches, read, self.workers):
                there = self._readable(batch, photographs)
                for (piece, pixels), drawn in self._drawn(there, label_of):
                    yield piece, pixels, drawn
                done += len(batch)
                if progress is not None:
                    progress("looking at masks", done, total)

    def _readable(
        self, batch: list[Piece], photographs: list[Photograph]
    ) -> list[tuple[Piece, Pixels]]:
        there: list[tuple[Piece, Pixels]] = []
        for piece, photograph in zip(batch, photographs, strict=True):
            if isinstance(photograph, InputError):
                line = str(photograph)
                self.unread += [] if line in self.unread else [line]
                self.counts["photograph unread"] += len(piece.positions)
            else:
                there.append((piece, photograph))
                self.counts["looked_at"] += len(piece.positions)
        return there

    def _drawn(
        self, there: list[tuple[Piece, Pixels]], label_of: dict[int, int]
    ) -> Iterator[tuple[tuple[Piece, Pixels], Detection]]:
        if not there:
            return
        drawn = self.predictor.segment_batch(
            [pixels for _, pixels in there],
            [torch.tensor(piece.boxes, dtype=torch.float32) for piece, _ in there],
            [torch.tensor([label_of[c] for c in piece.categories]) for piece, _ in there],
        )
        yield from zip(there, drawn, strict=True)

    def measured(self, piece: Piece, pixels: Pixels, drawn: Detection) -> LookedAt:
        """Returns the measures of the masks of a piece; takes a row of `drawings`."""
        image_id = piece.image["id"]
        records = self.file.annotations_of(image_id)
        by_position = {self.file.position_of(record): record for record in records}
        placed = place(
            [by_position[position] for position in piece.positions],
            piece.positions,
            Neighbours.of(self.file, image_id),
            size=piece.size,
        )
        return LookedAt(
            image_id=image_id,
            positions=piece.positions,
            measures=compared(drawn, pixels, placed),
            twins=placed.twins,
            fitting=placed.fitting,
        )


def compared(drawn: Detection, pixels: Pixels, placed: Placed) -> NDArray[np.float32]:
    """Returns the measures of masks beside a model's masks for the same boxes."""
    windows = [grid_window((*box,)) for box in drawn.boxes.tolist()]
    edges = np.stack([edges_on_grid(pixels, window) for window in windows])
    return measures_of(placed.masks, on_grids(drawn), edges, placed=placed.placement)


def on_grids(drawn: Detection) -> Maps:
    """Returns a model's probabilities on the grids of its boxes, float32 [n, G, G]."""
    maps = drawn.mask_probs.numpy()
    rows = zip(maps, drawn.regions.tolist(), drawn.boxes.tolist(), strict=True)
    return np.stack([probs_on_grid(p, (*r,), grid_window((*b,))) for p, r, b in rows])


def looking(predictor: Predictor, effort: Effort | None) -> AbstractContextManager[None]:
    """Sets how often a model looks at each box until a block ends; None: once.

    Raises:
        InputError: an effort is named, and the model has no looks.
    """
    once: Effort | None = None if predictor.effort.looks() is None else "fast"
    return predictor.effort.temporarily(effort or once)
