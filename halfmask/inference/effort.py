"""How often a model looks at each box: what a user chose, and whether the model can."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from halfmask.errors import InputError
from halfmask.models.box_segmenter.looks import EFFORTS, Effort, expect_effort
from halfmask.models.box_segmenter.model import BoxSegmenter

logger = logging.getLogger(__name__)

USUAL: Effort = "best"
"""The effort of a call that names none."""


class EffortChoice:
    """The effort of a predictor.

    Args:
        model: draws the masks. Only a box segmenter has looks to choose from.
        name: of the model, for messages.

    Attributes:
        usual: the effort of calls that name none.
    """

    def __init__(self, model: Any, name: str) -> None:
        self._model, self._name = model, name
        self._warned: set[Effort] = set()
        self.usual: Effort = USUAL

    def set(self, effort: Effort | None) -> None:
        """Sets the effort of calls that name none; None keeps it.

        Raises:
            InputError: there is no such effort, or the model has no looks.
        """
        self.usual = self.checked(effort) or self.usual

    @contextmanager
    def temporarily(self, effort: Effort | None) -> Iterator[None]:
        """Sets the effort of calls that name none, until the block ends.

        Raises:
            InputError: as `checked`.
        """
        before = self.usual
        self.set(effort)
        try:
            yield
        finally:
            self.usual = before

    def checked(self, effort: Effort | None) -> Effort | None:
        """Returns the effort.

        Raises:
            InputError: there is no such effort, or the model has no looks.
        """
        if effort is None:
            return None
        if effort not in EFFORTS:
            raise InputError(f"effort: expected {', '.join(EFFORTS)}, found {effort!r}")
        if not isinstance(self._model, BoxSegmenter):
            raise InputError(
                f"--effort: {self._name} looks once at a photograph and has no looks to choose; "
                "leave --effort out (a box segmenter has them)"
            )
        return effort

    def expect(self, effort: Effort | None) -> None:
        """From now on, the model looks as often as this says; None: as usual.

        Raises:
            InputError: as `checked`.
        """
        chosen = self.checked(effort) or self.usual
        if isinstance(self._model, BoxSegmenter):
            expect_effort(self._model, chosen)
            self._warn_unfitted(self._model, chosen)

    def looks(self, effort: Effort | None = None) -> int | None:
        """Returns the number of looks at each box; None for a model without looks."""
        if not isinstance(self._model, BoxSegmenter):
            return None
        self.expect(effort)
        reader = self._model.reader
        return len(reader.contexts) * (2 if reader.mirror else 1)

    def _warn_unfitted(self, model: BoxSegmenter, effort: Effort) -> None:
        """Says once that a fitted model lacks the fit of a lighter effort."""
        scores = model.quality_score
        lacks = not scores.fitted and bool((scores.spread > 0).any())
        if lacks and effort not in self._warned:
            self._warned.add(effort)
            logger.warning(
                "%s has a fitted quality score for effort best, none for %s: its scores are the "
                "masks' own expected IoU, which is often too high. Train the model again to fit "
                "one for each effort",
                self._name,
                effort,
            )
