"""One model for all visitors of a page: loaded when it is first needed, asked by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from halfmask.errors import InputError

if TYPE_CHECKING:
    from halfmask.coco.photographs import Pixels
    from halfmask.inference.filling import Filling
    from halfmask.inference.predictor import Predictor

LONGEST_QUEUE = 8
"""So many may wait for the model; others are told to try again."""

Box = tuple[float, float, float, float]


class BusyError(Exception):
    """Too many wait for the model already."""


@dataclass(frozen=True)
class Drawn:
    """A model's mask: COCO's compressed RLE, its pixels, the model's estimate of its IoU, and its class and confidence if it found it."""

    segmentation: dict[str, Any]
    area: int
    score: float
    box: Box
    label: int = 0
    confidence: float = 1.0


class Segmenter:
    """The model of a page.

    Args:
        model: what `inference.predictor.load` takes.
        detector: another model, whose boxes it fills.
        device: as in `load`.
    """

    def __init__(self, model: str, detector: str | None = None, device: str | None = None) -> None:
        self.name = model
        self._model, self._detector, self._device = model, detector, device
        self._predictor: Predictor | None = None
        self._fault: InputError | None = None
        self._loading, self._turn = threading.Lock(), threading.Lock()
        self._waiting = threading.BoundedSemaphore(LONGEST_QUEUE)

    def warm_up(self) -> None:
        """Loads the model in the background, so that the first question need not wait for it."""
        threading.Thread(target=self._warm, name="halfmask-model", daemon=True).start()

    def predictor(self) -> Predictor:
        """The model, loaded now if it was not.

        Raises:
            InputError: there is no such model.
        """
        from halfmask.inference.predictor import load

        with self._loading:
            if self._fault is not None:
                raise self._fault
            if self._predictor is None:
                try:
                    self._predictor = load(self._model, self._detector, self._device)
                except InputError as error:
                    self._fault = error
                    raise
            return self._predictor

    def segment(self, pixels: Pixels, box: Box, label: int = 0) -> Drawn:
        """The mask of a box xyxy.

        Raises:
            InputError: the box is none, or lies outside the photograph.
            BusyError: too many wait.
        """
        from halfmask.inference.filling import fillings

        with self._asked() as predictor:
            found = predictor.segment(pixels, [box], [label] if predictor.categories else None)
            filling = fillings(found)[0]
        return Drawn(_rle(filling), filling["area"], filling["score"], box, label)

    def detect(self, pixels: Pixels, least: float, most: int) -> list[Drawn]:
        """What a model with a detector finds with a confidence of at least `least`, `most` at most, best first.

        Raises:
            InputError: the model has no detector.
            BusyError: too many wait.
        """
        from halfmask.inference.filling import fillings

        with self._asked() as predictor:
            found = predictor.detect(pixels)
            found = found.select(found.scores >= least)
            found = found.select(found.scores.argsort(descending=True)[:most])
            filled = fillings(found)
        rows = zip(filled, found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
        return [Drawn(_rle(f), f["area"], f["score"], tuple(b), k, s) for f, b, k, s in rows]

    @contextmanager
    def _asked(self) -> Iterator[Predictor]:
        if not self._waiting.acquire(blocking=False):
            raise BusyError
        try:
            predictor = self.predictor()
            with self._turn:
                yield predictor
        finally:
            self._waiting.release()

    def _warm(self) -> None:
        try:
            predictor = self.predictor()
            import numpy as np

            with self._turn:  # the first mask takes longer than the others
                predictor.segment(np.zeros((64, 64, 3), dtype=np.uint8), [(8, 8, 56, 56)])
        except InputError:
            pass  # said to whoever asks for a mask


def _rle(filling: Filling) -> dict[str, Any]:
    segmentation = filling["segmentation"]
    assert isinstance(segmentation, dict)  # polygons were not asked for
    return segmentation
