"""One model for all visitors of a page: loaded when it is first needed, asked by one at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from halfmask.errors import InputError

if TYPE_CHECKING:
    from halfmask.coco.images import Pixels
    from halfmask.inference.complete.filling import FilledMask
    from halfmask.inference.predictor import Predictor
    from halfmask.structures import Detection

LONGEST_QUEUE = 8
"""So many may wait for the model; others are told to try again."""

WHOLE_PIXELS = 4_000_000
"""A photograph of more pixels is handed to a model that only draws masks without what
is far from the box.
"""
SURROUNDINGS = 1.0
"""How far from the box, in its longer sides; models look less than half as far."""
SMALLEST_REACH = 64

T = TypeVar("T")
Box = tuple[float, float, float, float]


class BusyError(Exception):
    """Too many wait for the model already."""


@dataclass(frozen=True)
class Drawn:
    """A model's mask: COCO's compressed RLE, its pixels, the model's estimate of its
    IoU, and its class and confidence if it found it.
    """

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
        self._loading = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="halfmask-model")
        self._waiting = threading.BoundedSemaphore(LONGEST_QUEUE)

    def warm_up(self) -> None:
        """Loads the model in the background, so that the first question need not wait for it."""
        self._thread.submit(self._warm)

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

    def segment(
        self, pixels: Pixels, box: Box, label: int = 0, size: tuple[int, int] | None = None
    ) -> Drawn:
        """The mask of a box xyxy.

        Args:
            pixels: the photograph, or a smaller copy of it.
            size: (H, W) of the photograph, which the box and the mask are on; None:
                that of `pixels`.
        Raises:
            InputError: the box is none, or lies outside the photograph.
            BusyError: too many wait.
        """
        from halfmask.inference.complete.filling import fillings

        height, width = size or pixels.shape[:2]
        across, down = width / pixels.shape[1], height / pixels.shape[0]
        small = (box[0] / across, box[1] / down, box[2] / across, box[3] / down)

        def draw(predictor: Predictor) -> FilledMask:
            x0, y0, x1, y1 = _window(small, pixels.shape[:2], predictor.can_detect)
            moved = (small[0] - x0, small[1] - y0, small[2] - x0, small[3] - y0)
            found = predictor.segment(
                pixels[y0:y1, x0:x1], [moved], [label] if predictor.categories else None
            )
            return fillings(_moved(found, (x0, y0), (across, down), (height, width)))[0]

        filling = self._ask(draw)
        return Drawn(_rle(filling), filling["area"], filling["score"], box, label)

    def detect(self, pixels: Pixels, least: float, most: int) -> list[Drawn]:
        """What a model with a detector finds with a confidence of at least `least`,
        `most` at most, best first.

        Raises:
            InputError: the model has no detector.
            BusyError: too many wait.
        """
        from halfmask.inference.complete.filling import fillings

        def find(predictor: Predictor) -> tuple[Detection, list[FilledMask]]:
            found = predictor.detect(pixels)
            found = found.select(found.scores >= least)
            found = found.select(found.scores.argsort(descending=True)[:most])
            return found, fillings(found)

        found, filled = self._ask(find)
        rows = zip(
            filled, found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
        )
        return [Drawn(_rle(f), f["area"], f["score"], tuple(b), k, s) for f, b, k, s in rows]

    def _ask(self, question: Callable[[Predictor], T]) -> T:
        """Asks in the model's own thread: torch's memory is then not kept once for
        every thread of the server.
        """
        if not self._waiting.acquire(blocking=False):
            raise BusyError
        try:
            return self._thread.submit(lambda: question(self.predictor())).result()
        finally:
            self._waiting.release()

    def _warm(self) -> None:
        import numpy as np

        with suppress(InputError):  # said to whoever asks for a mask
            predictor = self.predictor()
            predictor.segment(
                np.zeros((64, 64, 3), dtype=np.uint8), [(8, 8, 56, 56)]
            )  # the first takes longer


def _window(box: Box, size: tuple[int, int], whole: bool) -> tuple[int, int, int, int]:
    """The part x0, y0, x1, y1 of a photograph (H, W) that a model which only draws
    masks looks at, with room to spare.

    Of a large photograph the rest would cost seconds; a box that is none is left to the
    predictor to refuse.
    """
    height, width = size
    reach = SURROUNDINGS * max(box[2] - box[0], box[3] - box[1], SMALLEST_REACH)
    x0, y0 = max(0, math.floor(box[0] - reach)), max(0, math.floor(box[1] - reach))
    x1, y1 = min(width, math.ceil(box[2] + reach)), min(height, math.ceil(box[3] + reach))
    if whole or height * width <= WHOLE_PIXELS or x1 <= x0 or y1 <= y0:
        return 0, 0, width, height
    return x0, y0, x1, y1


def _moved(
    found: Detection, offset: tuple[int, int], scale: tuple[float, float], size: tuple[int, int]
) -> Detection:
    """What was drawn on a part of a smaller copy, on the photograph (H, W): masks are
    probabilities on rectangles until then.
    """
    import torch

    shift, factor = torch.tensor([*offset, *offset]), torch.tensor([*scale, *scale])
    boxes, regions = (found.boxes + shift) * factor, (found.regions + shift) * factor
    return replace(found, boxes=boxes, regions=regions, image_size=size)


def _rle(filling: FilledMask) -> dict[str, Any]:
    segmentation = filling["segmentation"]
    assert isinstance(segmentation, dict)  # polygons were not asked for
    return segmentation
