"""Orders people's masks by their doubt while the review is served.

A thread looks at one photograph after another, first without the model, then with it,
by the measures and the score of `halfmask audit`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.images import Pixels
from halfmask.errors import InputError
from halfmask.inference.complete.plan import Piece
from halfmask.inference.predictor import Predictor
from halfmask.labelling.audit.look import Looker
from halfmask.labelling.audit.rank import plain_doubts
from halfmask.labelling.audit.score import wrongness
from halfmask.structures import Detection
from halfmask.web import schema
from halfmask.web.budget import BusyError
from halfmask.web.review.people.photographs import (
    MOST_MASKS,
    PERSON,
    OnePhotograph,
    PhotographRecords,
    photograph_records,
    rows_to_look_at,
    whole_photograph,
)
from halfmask.web.review.queue import DISAGREEMENT, Queue
from halfmask.web.review.source import ReviewedFile
from halfmask.web.segmenting import Segmenter

logger = logging.getLogger(__name__)

ORDER_SECONDS = 2.0
"""The queue is sorted anew at most this often."""
PAUSE_SECONDS = 0.002
"""Between photographs, so that requests get a turn."""
BUSY_SECONDS = 1.0
State = Literal["off", "looking", "done", "no model", "stopped"]
Drawn = list[tuple[Piece, Pixels, Detection]]


class DoubtOrder:
    """The order of people's masks, the most doubtful first.

    It exists from the beginning; the values come while a thread runs. Memory holds one
    photograph with its annotations, and some bytes for each annotation of the file.

    Args:
        file: the reviewed file.
        queue: of the review; it gets the order if it has people's masks.
        segmenter: the model.
    """

    def __init__(self, file: ReviewedFile, queue: Queue, segmenter: Segmenter) -> None:
        self._file, self._queue, self._segmenter = file, queue, segmenter
        count = file.table.file_count
        self._values: NDArray[np.float32] = np.full(count, np.nan, dtype=np.float32)
        self._wanted = np.zeros(count, dtype=bool)
        self._looked_at = self._turn = 0
        self._total, self._fault = 0, ""
        self._state: State = "off"
        self._sorted = 0.0
        self._predictor: Predictor | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="halfmask-doubts", daemon=True)
        if queue.people:
            self._publish()

    def start(self) -> None:
        """Begins to look, in the background; does nothing without people's masks."""
        table, count = self._file.table, self._file.table.file_count
        if not self._queue.people:
            return
        self._wanted = (table.origins[:count] == PERSON) & (table.versions[:count] == 0)
        self._total, self._state = int(self._wanted.sum()), "looking"
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; waits for the photograph that it looks at."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def view(self) -> schema.DoubtsView:
        """Returns how far it is."""
        return schema.DoubtsView(
            state=self._state,
            looked_at=self._looked_at,
            total=self._total,
            skipped=self._total - self._looked_at if self._state == "done" else 0,
            fault=self._fault,
            turn=self._turn,
        )

    def _run(self) -> None:
        try:
            self._each(self._without_model)
            self._publish()
            try:
                self._predictor = self._segmenter.when_idle(lambda model: model, self._stopped)
            except InputError as error:
                return self._end("no model", str(error))
            self._each(self._with_model)
            self._end("stopped" if self._stopped.is_set() else "done")
        except (InputError, OSError) as error:
            self._end("stopped", str(error))
        except Exception as error:  # or the thread would end in silence
            logger.exception("people's masks are looked at no more")
            self._end("stopped", f"{type(error).__name__}: {error}")

    def _end(self, state: State, fault: str = "") -> None:
        self._publish()
        if fault:
            logger.warning("people's masks stay in the order that they have: %s", fault)
        self._state, self._fault = state, fault

    def _publish(self) -> None:
        """Sorts the queue by the values so far."""
        self._queue.order_by(DISAGREEMENT, self._values.copy())
        self._turn, self._sorted = self._turn + 1, time.monotonic()

    def _each(self, look: Callable[[PhotographRecords], None]) -> None:
        for row, positions in rows_to_look_at(self._file):
            if self._stopped.wait(PAUSE_SECONDS):
                return
            if len(positions) <= MOST_MASKS:
                look(photograph_records(self._file, row, positions))
            if time.monotonic() - self._sorted >= ORDER_SECONDS:
                self._publish()

    def _without_model(self, records: PhotographRecords) -> None:
        for image_id in records.file.image_ids:
            found = plain_doubts(records.file, image_id)
            self._note(records, [*found], [*found.values()])

    def _with_model(self, records: PhotographRecords) -> None:
        pixels = self._pixels(records.row)
        if pixels is None or self._predictor is None:
            return
        looker = Looker(
            predictor=self._predictor, file=records.file, reader=OnePhotograph(pixels), workers=0
        )
        for piece in [piece for batch in looker.batches() for piece in batch]:
            for drawn in self._drawings(looker, piece):
                found = looker.measured(*drawn)
                self._note(records, found.positions, wrongness(found.measures).tolist())
        if not self._stopped.is_set():
            self._looked_at += int(self._wanted[records.positions].sum())

    def _drawings(self, looker: Looker, piece: Piece) -> Drawn:
        """Returns the model's masks, drawn when no visitor waits for it."""
        return (
            self._segmenter.when_idle(lambda _: [*looker.drawings([[piece]])], self._stopped) or []
        )

    def _pixels(self, row: int) -> Pixels | None:
        """Returns a photograph; None if it cannot be read."""
        while not self._stopped.is_set():
            try:
                return whole_photograph(self._file, row)
            except BusyError:
                self._stopped.wait(BUSY_SECONDS)
            except InputError as error:
                logger.info("not looked at: %s", error)
                return None
        return None

    def _note(
        self, records: PhotographRecords, rows: Sequence[int], scores: Sequence[float]
    ) -> None:
        """Keeps scores; a mask that was doubtful without the model stays so."""
        positions = records.positions[np.array(rows, dtype=np.int64)]
        old = self._values[positions]
        self._values[positions] = np.fmax(old, np.array(scores, dtype=np.float32))
