"""The model of a page: loaded when first needed, shared by all visitors, one request at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from halfmask.coco.images import Pixels
from halfmask.errors import InputError
from halfmask.inference.complete.filling import FilledMask, fillings
from halfmask.inference.looks import Look, looks
from halfmask.inference.predictor import Predictor, load
from halfmask.inference.runtime.names import IN_TORCH, Computing
from halfmask.models.box_segmenter.looks import Effort
from halfmask.structures import Detection
from halfmask.web.budget import ASKING, BusyError, ClientShares

LONGEST_QUEUE = 8
"""Requests that may wait for the model; further ones get `BusyError`."""
MOST_OF_ONE = LONGEST_QUEUE // 2
"""How many of them one address may have, so that others get a turn."""

WHOLE_PIXELS = 4_000_000
"""Pixels of a photograph beyond which a box segmenter sees the box's surroundings only."""
SURROUNDINGS = 1.0
"""Margin around the box, in its longer sides; models look less than half as far."""
SMALLEST_REACH = 64

T = TypeVar("T")
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A model's mask.

    Attributes:
        rle: COCO's compressed RLE.
        area: its pixels.
        score: the model's estimate of the mask's IoU.
        box: xyxy, the box that it was asked for or found.
        label: its class, 0 for none.
        confidence: of a detected object.
        clicks: number of clicks that the mask fits.
    """

    rle: dict[str, Any]
    area: int
    score: float
    box: Box
    label: int = 0
    confidence: float = 1.0
    clicks: int = 0


class Segmenter:
    """The model of a page.

    Args:
        model: as in `halfmask.load`.
        detector: what finds the boxes that `model` fills, as in `halfmask.load`.
        device: as in `halfmask.load`.
        classes: as in `halfmask.load`.
        computing, effort: as in `halfmask.load`.
    """

    def __init__(
        self,
        model: str,
        detector: str | None = None,
        device: str | None = None,
        *,
        classes: str | Sequence[str] | None = None,
        computing: Computing = IN_TORCH,
        effort: Effort | None = None,
    ) -> None:
        self.name = model
        self._model, self._detector, self._device = model, detector, device
        self._classes, self._computing, self._effort = classes, computing, effort
        self._predictor: Predictor | None = None
        self._fault: InputError | None = None
        self._loading = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="halfmask-model")
        self._waiting = threading.BoundedSemaphore(LONGEST_QUEUE)
        self._shares = ClientShares(MOST_OF_ONE)

    def warm_up(self) -> None:
        """Loads the model in the background and runs it once: the first run is slower."""
        self._thread.submit(self._warm)

    def close(self) -> None:
        """Waits for the request in progress; the model answers no more."""
        self._thread.shutdown(cancel_futures=True)

    def predictor(self) -> Predictor:
        """Returns the model; loads it at the first call.

        Raises:
            InputError: there is no such model.
        """
        with self._loading:
            if self._fault is not None:
                raise self._fault
            if self._predictor is None:
                try:
                    self._predictor = load(
                        self._model,
                        self._detector,
                        self._device,
                        classes=self._classes,
                        effort=self._effort,
                        **vars(self._computing),
                    )
                except InputError as error:
                    self._fault = error
                    raise
            return self._predictor

    def segment(
        self, pixels: Pixels, box: Box, label: int = 0, *, size: tuple[int, int] | None = None
    ) -> Drawn:
        """Returns the mask of a box.

        Args:
            pixels: the photograph, or a smaller copy of it.
            box: xyxy, in pixels of the photograph.
            label: the class, 0 for none.
            size: (H, W) of the photograph, in which the box and the mask are; None:
                that of `pixels`.
        Raises:
            InputError: the box is malformed, or lies outside the photograph.
            BusyError: too many requests wait.
        """
        height, width = size or pixels.shape[:2]
        across, down = width / pixels.shape[1], height / pixels.shape[0]
        small = (box[0] / across, box[1] / down, box[2] / across, box[3] / down)

        def draw(predictor: Predictor) -> FilledMask:
            x0, y0, x1, y1 = _window(small, pixels.shape[:2], predictor.can_detect)
            moved = (small[0] - x0, small[1] - y0, small[2] - x0, small[3] - y0)
            found = predictor.segment(
                pixels[y0:y1, x0:x1], [moved], [label] if predictor.categories else None
            )
            return fillings(_on_photograph(found, (x0, y0), (across, down), size=(height, width)))[
                0
            ]

        return _drawn(self._ask(draw), box, label)

    def looks(
        self, pixels: Pixels, box: Box, label: int = 0, *, size: tuple[int, int]
    ) -> list[Look]:
        """Returns the model's looks at a box, in pixels of the photograph.

        Arguments and errors are those of `segment`.
        """
        across, down = size[1] / pixels.shape[1], size[0] / pixels.shape[0]
        small = (box[0] / across, box[1] / down, box[2] / across, box[3] / down)

        def look(predictor: Predictor) -> list[Look]:
            x0, y0, x1, y1 = _window(small, pixels.shape[:2], predictor.can_detect)
            moved = (small[0] - x0, small[1] - y0, small[2] - x0, small[3] - y0)
            found = looks(predictor, pixels[y0:y1, x0:x1], moved, label=label)
            return [
                replace(one, region=_moved(one.region, (x0, y0), (across, down))) for one in found
            ]

        return self._ask(look)

    def detect(self, pixels: Pixels, least: float, most: int) -> list[Drawn]:
        """Returns the objects that a model with a detector finds, best first.

        Args:
            pixels: the photograph.
            least: the lowest confidence.
            most: the largest number of objects.
        Raises:
            InputError: the model has no detector.
            BusyError: too many requests wait.
        """

        def find(predictor: Predictor) -> tuple[Detection, list[FilledMask]]:
            found = predictor.detect(pixels)
            found = found.select(found.scores >= least)
            found = found.select(found.scores.argsort(descending=True)[:most])
            return found, fillings(found)

        found, filled = self._ask(find)
        columns = found.boxes.tolist(), found.labels.tolist(), found.scores.tolist()
        return [_drawn(*row) for row in zip(filled, *columns, strict=True)]

    def _ask(self, question: Callable[[Predictor], T]) -> T:
        """Asks in one thread, since torch keeps memory for every thread that runs it."""
        with self._shares.one(ASKING.get()):
            if not self._waiting.acquire(blocking=False):
                raise BusyError
            try:
                return self._thread.submit(lambda: question(self.predictor())).result()
            finally:
                self._waiting.release()

    def _warm(self) -> None:
        with suppress(InputError):  # the first request for a mask reports it
            blank = np.zeros((64, 64, 3), dtype=np.uint8)
            self.predictor().segment(blank, [(8, 8, 56, 56)])


def _window(box: Box, size: tuple[int, int], whole: bool) -> tuple[int, int, int, int]:
    """Returns the part x0, y0, x1, y1 of a photograph (H, W) that the model needs.

    The rest of a large photograph would cost seconds. The predictor refuses a malformed
    box.
    """
    height, width = size
    reach = SURROUNDINGS * max(box[2] - box[0], box[3] - box[1], SMALLEST_REACH)
    x0, y0 = max(0, math.floor(box[0] - reach)), max(0, math.floor(box[1] - reach))
    x1, y1 = min(width, math.ceil(box[2] + reach)), min(height, math.ceil(box[3] + reach))
    if whole or height * width <= WHOLE_PIXELS or x1 <= x0 or y1 <= y0:
        return 0, 0, width, height
    return x0, y0, x1, y1


def _moved(region: Box, offset: tuple[int, int], scale: tuple[float, float]) -> Box:
    """Moves a rectangle from a part of a smaller copy to the photograph."""
    (x, y), (across, down) = offset, scale
    x0, y0, x1, y1 = region
    return (x0 + x) * across, (y0 + y) * down, (x1 + x) * across, (y1 + y) * down


def _on_photograph(
    found: Detection, offset: tuple[int, int], scale: tuple[float, float], *, size: tuple[int, int]
) -> Detection:
    """Moves masks from a part of a smaller copy to the photograph of `size` (H, W).

    They still are probabilities on rectangles, so only the rectangles change.
    """
    shift, factor = torch.tensor([*offset, *offset]), torch.tensor([*scale, *scale])
    boxes, regions = (found.boxes + shift) * factor, (found.regions + shift) * factor
    return replace(found, boxes=boxes, regions=regions, image_size=size)


def _drawn(filled: FilledMask, box: Box, label: int, confidence: float = 1.0) -> Drawn:
    rle, area, score = filled["segmentation"], filled["area"], filled["score"]
    assert isinstance(rle, dict)  # `fillings` returns polygons only on request
    return Drawn(rle=rle, area=area, score=score, box=box, label=label, confidence=confidence)
