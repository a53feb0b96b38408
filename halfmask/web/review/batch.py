"""One action with many annotations, and how many bad masks an acceptance would let in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from halfmask.errors import InputError
from halfmask.web.review.editing import Editor
from halfmask.web.review.filters import Filter
from halfmask.web.review.index import FILLED, STATES
from halfmask.web.review.log.decision import ActionResult, Decision, Wish
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.queue import Queue

Action = Literal["accept", "reject", "class", "delete"]
THRESHOLD = 0.5
"""A mask with a lower IoU counts as bad."""
SPREAD = 8.0
"""How closely IoUs lie about their score: they follow a Beta distribution, whose two
parameters sum to this. Fitted to the shipped model's 1195 masks of COCO-mini's val: it
expects 83 bad ones there, and there are 76."""
_STEPS = 512


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What an acceptance of all that a filter selects would mean.

    Attributes:
        count: number of annotations.
        expected_bad: expected number of masks with an IoU below THRESHOLD; None if no
            mask has a score.
        without_score: masks that no score judges: people's, and those without one.
        ground: on what the expectation rests.
    """

    count: int
    expected_bad: float | None
    without_score: int
    ground: str


class Batches:
    """Actions on many annotations, each one step of the journal.

    Args:
        decisions, queue, editor: of the review.
    """

    def __init__(self, decisions: Decisions, queue: Queue, editor: Editor) -> None:
        self._log, self._queue, self._editor = decisions, queue, editor

    def preview(self, wanted: Filter) -> Preview:
        """Returns how many annotations a filter selects, and how many bad masks."""
        table = self._queue.table
        positions = np.flatnonzero(self._queue.selected(wanted))
        states, scores = table.states[positions], table.scores[positions]
        judged = (states > 0) & (states <= FILLED) & (states != STATES.index("redrawn"))
        judged &= scores >= 0
        without = len(positions) - int(judged.sum())
        if not judged.any():
            return Preview(
                count=len(positions),
                expected_bad=None,
                without_score=without,
                ground="no mask here has a score of a model",
            )
        return Preview(
            count=len(positions),
            expected_bad=round(float(chance_of_bad(scores[judged]).sum()), 1),
            without_score=without,
            ground=(
                f"from the scores: the chance that a mask's IoU is below {THRESHOLD}, as "
                "measured on photographs of COCO; other photographs may differ"
            ),
        )

    def run(
        self,
        action: Action,
        by: str,
        positions: Sequence[int],
        *,
        versions: Sequence[int] | None = None,
        category: int | None = None,
    ) -> ActionResult:
        """Does one action with annotations; what cannot be done is left out and named.

        Args:
            action: accept, reject, class or delete.
            by: the reviewer.
            positions: of the annotations.
            versions: those that the reviewer saw; None: any.
            category: the class's id, for the action class.
        Raises:
            InputError: the arguments do not fit each other.
            OSError: the journal cannot be written; nothing has changed.
        """
        if (action == "class") != (category is not None):
            raise InputError("the action class needs a category, other actions take none")
        if versions is not None and len(versions) != len(positions):
            raise InputError("give a version for each position, or none at all")
        table = self._queue.table
        unknown = [p for p in positions if not table.is_item(p)]
        if unknown:
            raise InputError(f"annotation {unknown[0]} of the list is not in the review")
        if len(set(positions)) != len(positions):
            raise InputError("a position stands more than once in the list")
        if category is not None:
            table.class_row(category)
        seen = versions if versions is not None else [None] * len(positions)
        wishes = [
            Wish(position=p, version=v, make=self._maker(action, p, category))
            for p, v in zip(positions, seen, strict=True)
        ]
        return self._log.act(action, by, wishes, strict=False)

    def selected(self, wanted: Filter) -> list[int]:
        """Returns the positions that a filter selects, in the order of the file."""
        positions: list[int] = np.flatnonzero(self._queue.selected(wanted)).tolist()
        return positions

    def _maker(
        self, action: Action, position: int, category: int | None
    ) -> Callable[[Decision], Decision | None]:
        editor, table = self._editor, self._queue.table
        if action == "delete":
            return lambda was: None if was.state == "deleted" else was.after("deleted")
        if category is not None:
            row = table.class_row(category)
            return lambda was: (
                None if table.classes[position] == row else editor.classed(was, category)
            )
        if action == "reject":
            return lambda was: (
                None if was.state == "rejected" else editor.decided(position, was, "rejected")
            )
        return lambda was: (
            None
            if was.state in ("accepted", "confirmed")
            else editor.decided(position, was, "accepted")
        )


def chance_of_bad(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the chance that a mask's IoU is below THRESHOLD, given its score.

    The IoU follows a Beta distribution about the score.

    Args:
        scores: float [n] in [0, 1].
    """
    means = np.linspace(0.005, 0.995, 199)
    grid = (np.arange(_STEPS) + 0.5) / _STEPS
    logs = (means * SPREAD - 1)[:, None] * np.log(grid) + ((1 - means) * SPREAD - 1)[
        :, None
    ] * np.log1p(-grid)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    below = weights[:, grid < THRESHOLD].sum(1) / weights.sum(1)
    found: NDArray[np.float64] = np.interp(np.asarray(scores, dtype=np.float64), means, below)
    return found
