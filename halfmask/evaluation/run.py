"""Evaluates a model on a COCO file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from halfmask.data.dataset import CocoInstances
    from halfmask.evaluation.subject import Detect, Segment
    from halfmask.structures import Detection, Target

BATCH = 4
"""Images that go through a model together."""


@dataclass
class Reader:
    """Reads the data set in batches, decoding ahead, with a progress bar over all
    passes; remembers what could not be read.
    """

    dataset: CocoInstances
    workers: int
    passes: int
    skipped: dict[int, str] = field(default_factory=dict)

    def __enter__(self) -> Reader:
        from halfmask.progress import Display

        self._display = Display(quiet=True)
        self._display.start("evaluating", len(self.dataset) * self.passes, "image")
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def batches(self) -> Iterator[tuple[list[int], list[Tensor], list[Target]]]:
        """Image ids, images and targets."""
        from halfmask.inference.complete.photographs import ahead

        starts = range(0, len(self.dataset), BATCH)
        for start, rows in ahead(starts, self._read, self.workers):
            if rows:
                ids = [row[0] for row in rows]
                yield ids, [row[1] for row in rows], [row[2] for row in rows]
            self._display.advance(min(BATCH, len(self.dataset) - start))

    def _read(self, start: int) -> list[tuple[int, Tensor, Target]]:
        from halfmask.errors import InputError

        rows: list[tuple[int, Any, Any]] = []
        for k in range(start, min(start + BATCH, len(self.dataset))):
            image_id = self.dataset.image_ids[k]
            try:
                rows.append((image_id, *self.dataset[k]))
            except InputError as error:
                self.skipped[image_id] = str(error)
        return rows


def found_masks(reader: Reader, detect: Detect) -> Iterator[tuple[int, Detection]]:
    for ids, images, _ in reader.batches():
        yield from zip(ids, detect(ids, images), strict=True)


def given_masks(reader: Reader, segment: Segment) -> Iterator[tuple[int, Tensor, Detection]]:
    for ids, images, targets in reader.batches():
        drawn = segment(images, targets)
        yield from zip(ids, [t.annotation_ids for t in targets], drawn, strict=True)
