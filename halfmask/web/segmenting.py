"""The model of a page: loaded when first needed, shared by all visitors, one request at a time."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.images import Pixels
from halfmask.errors import InputError
from halfmask.inference.complete.filling import FilledMask, fillings
from halfmask.inference.predictor import Predictor, load
from halfmask.inference.refine import Look, look_of, looks, refine, takes_clicks
from halfmask.inference.runtime.names import IN_TORCH, Computing
from halfmask.masks.rle import Place
from halfmask.models.box_segmenter.looks import Effort
from halfmask.structures import Detection
from halfmask.web.budget import ASKING, BusyError, ClientShares
from halfmask.web.surroundings import Box, Readable, View, Whole, view_of, whole_view

LONGEST_QUEUE = 8
"""Requests that may wait for the model; further ones get `BusyError`."""
MOST_OF_ONE = LONGEST_QUEUE // 2
"""How many of them one address may have, so that others get a turn."""

IDLE_SECONDS = 0.05
"""Work in the background looks this often whether a visitor waits."""
TIDY_SECONDS = 2.0
"""Freed memory goes back to the system at most this often."""

T = TypeVar("T")
Click = tuple[float, float, bool]
DrawnMask = tuple[NDArray[np.bool_], Place]


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
        self._visitors: set[object] = set()
        self._tidied = 0.0

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

    def segment(self, pixels: Pixels, box: Box, label: int = 0) -> Drawn:
        """Returns the mask of a box.

        Args:
            pixels: the photograph, uint8 [H, W, 3].
            box: xyxy, in pixels of the photograph.
            label: the class, 0 for none.
        Raises:
            InputError: the box is malformed, or lies outside the photograph.
            BusyError: too many requests wait.
        """
        return self.segment_in(Whole(pixels), box, label)

    def segment_in(self, photo: Readable, box: Box, label: int = 0) -> Drawn:
        """As `segment`, of a photograph of which only the box's surroundings are read."""
        view = self._view(box, photo)

        def draw(predictor: Predictor) -> FilledMask:
            labels = [label] if predictor.categories else None
            found = predictor.segment(pixels, [view.inside(box)], labels)
            return fillings(view.on_photograph(found))[0]

        with self._place():
            pixels = photo.pixels(view.window, view.size)
            return _drawn(self._ask(draw), box, label)

    def looks(self, photo: Readable, box: Box, label: int = 0) -> list[Look]:
        """Returns the model's looks at a box, in pixels of the photograph.

        Arguments and errors are those of `segment_in`.
        """
        view = self._view(box, photo)

        def look(predictor: Predictor) -> list[Look]:
            found = looks(predictor, pixels, view.inside(box), label=label)
            return [replace(one, region=view.outside(one.region)) for one in found]

        with self._place():
            pixels = photo.pixels(view.window, view.size)
            return self._ask(look)

    def takes_clicks(self) -> bool:
        """Whether `refined` works: the model was trained with clicks."""
        return takes_clicks(self.predictor())

    def refined(
        self, photo: Readable, box: Box, clicks: Sequence[Click], *, drawn: DrawnMask | None
    ) -> Look:
        """Returns the mask of a box by a model that takes clicks, on the photograph.

        Args:
            photo: the photograph.
            box: xyxy, in pixels of the photograph.
            clicks: x and y of each, and whether it is on the object.
            drawn: the mask so far and x, y of its upper left pixel; None: none.
        Raises:
            InputError: the box or a click cannot be used, or the model takes no clicks.
            BusyError: too many requests wait.
        """
        view = self._view(box, photo)
        rows = [[0, *view.inside((x, y, x, y))[:2], positive] for x, y, positive in clicks]
        mask = None if drawn is None else view.mask_inside(*drawn)

        def ask(predictor: Predictor) -> Look:
            found = refine(predictor, pixels, [view.inside(box)], clicks=rows, mask=mask)
            found = view.on_photograph(found)
            return look_of(found.mask_probs[0], found.regions[0], float(found.quality[0]))

        with self._place():
            pixels = photo.pixels(view.window, view.size)
            return self._ask(ask)

    def when_idle(self, question: Callable[[Predictor], T], stopped: threading.Event) -> T | None:
        """Asks as soon as no visitor waits for the model; returns None if stopped before."""
        while self._visitors:
            if stopped.wait(IDLE_SECONDS):
                return None
        return None if stopped.is_set() else self._ask(question)

    def detect_in(self, photo: Readable, least: float, most: int) -> list[Drawn]:
        """Returns the objects that a model with a detector finds, best first.

        Args:
            photo: the photograph.
            least: the lowest confidence.
            most: the largest number of objects.
        Raises:
            InputError: the model has no detector.
            BusyError: too many requests wait.
        """
        view = whole_view(photo.size)

        def find(predictor: Predictor) -> tuple[Detection, list[FilledMask]]:
            found: Detection = predictor.detect(pixels, least_score=least)
            found = found.select(found.scores.argsort(descending=True)[:most])
            found = view.on_photograph(found)
            return found, fillings(found)

        with self._place():
            pixels = photo.pixels(view.window, view.size)
            found, filled = self._ask(find)
        columns = found.boxes.tolist(), found.labels.tolist(), found.scores.tolist()
        return [_drawn(*row) for row in zip(filled, *columns, strict=True)]

    def _view(self, box: Box, photo: Readable) -> View:
        """Returns what the model sees: a model that detects always sees all."""
        return whole_view(photo.size) if self.predictor().can_detect else view_of(box, photo.size)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Holds a place in the queue; whoever has none does not decode a photograph either."""
        with self._shares.one(ASKING.get()):
            if not self._waiting.acquire(blocking=False):
                raise BusyError
            visitor = object()
            self._visitors.add(visitor)
            try:
                yield
            finally:
                self._visitors.discard(visitor)
                self._waiting.release()

    def _ask(self, question: Callable[[Predictor], T]) -> T:
        """Asks in one thread, since torch keeps memory for every thread that runs it."""
        found = self._thread.submit(lambda: question(self.predictor())).result()
        if time.monotonic() - self._tidied >= TIDY_SECONDS:
            self._tidied = time.monotonic()
            return_freed_memory()
        return found

    def _warm(self) -> None:
        with suppress(InputError):  # the first request for a mask reports it
            blank = np.zeros((64, 64, 3), dtype=np.uint8)
            self.predictor().segment(blank, [(8, 8, 56, 56)])


def return_freed_memory() -> None:
    """Makes glibc return freed memory to the system; does nothing with other C libraries."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _drawn(filled: FilledMask, box: Box, label: int, confidence: float = 1.0) -> Drawn:
    rle, area, score = filled["segmentation"], filled["area"], filled["score"]
    assert isinstance(rle, dict)  # `fillings` returns polygons only on request
    return Drawn(rle=rle, area=area, score=score, box=box, label=label, confidence=confidence)
