"""Actions on single annotations: what each makes of an annotation's state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from halfmask.errors import InputError
from halfmask.web import schema
from halfmask.web.drawing import Mask, inside, left_box, mask_box
from halfmask.web.review.index import STATES
from halfmask.web.review.log.decision import ActionResult, Box, Decision, Wish
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.source import ReviewedFile


@dataclass(frozen=True)
class Edited:
    """What an action did, and whether a mask took its annotation's box along."""

    outcome: ActionResult
    moved: bool = False


class Editor:
    """Changes annotations; each method writes one action to the journal.

    All raise ConflictError if an annotation has another version by now, InputError if
    the action makes no sense, and OSError if the journal cannot be written.
    """

    def __init__(self, file: ReviewedFile, decisions: Decisions) -> None:
        self._file, self._log, self._table = file, decisions, file.table

    def decide(
        self, position: int, version: int, by: str, *, state: str, mask: Mask | None
    ) -> Edited:
        """Accepts, rejects or redraws a mask.

        A new mask that leaves the annotation's box takes the box along.

        Args:
            position: of the annotation.
            version: the version that the reviewer saw.
            by: the reviewer.
            state: accepted, rejected or redrawn.
            mask: the new mask, drawn by hand or by a model; None keeps the current one.
        """
        moved = False

        def make(was: Decision) -> Decision:
            nonlocal moved
            if mask is None:
                return self.decided(position, was, state)
            check_present(was)
            box = left_box(mask, self._box(position), self._file.size_of(position))
            moved = box is not None
            new = was.after(state, mask=mask, alone=False)
            return new if box is None else new.after(box=box)

        what = {"accepted": "accept", "rejected": "reject", "redrawn": "redraw"}[state]
        wish = Wish(position=position, version=version, make=make)
        return Edited(self._log.act(what, by, [wish]), moved)

    def decided(self, position: int, was: Decision, state: str) -> Decision:
        """Returns the current mask accepted or rejected.

        A person's mask that is accepted is confirmed: it stays a person's.

        Raises:
            InputError: there is no mask, or the annotation is deleted.
        """
        check_present(was)
        if state == "rejected":
            if was.state == "missing":
                raise InputError("there is no mask to reject")
            return was.after("rejected")
        fault = self._file.mask(position, was)[1]
        if fault:
            raise InputError(f"there is no mask to accept: {fault}")
        return was.after("confirmed" if self.is_drawn(position, was) else "accepted")

    def is_drawn(self, position: int, now: Decision) -> bool:
        """Whether a person drew the current mask."""
        if now.mask is not None:
            return "model" not in now.mask
        if position >= self._table.file_count:
            return False
        return STATES[self._file.index.states[position]] in ("redrawn", "annotated", "confirmed")

    def set_class(self, position: int, version: int, by: str, *, category: int) -> Edited:
        """Sets the class to a category id of the file."""
        wish = Wish(
            position=position, version=version, make=lambda was: self.classed(was, category)
        )
        return Edited(self._log.act("class", by, [wish]))

    def classed(self, was: Decision, category: int) -> Decision:
        """Returns the annotation with another class."""
        self._table.class_row(category)
        check_present(was)
        return was.after(category=category)

    def set_box(
        self, position: int, version: int, by: str, *, box: Box, mask: Mask | None, state: str
    ) -> Edited:
        """Sets the box, and the mask if one follows.

        Args:
            position: of the annotation.
            version: the version that the reviewer saw.
            by: the reviewer.
            box: x, y, width, height.
            mask: that follows the box; None: the mask stays, and the note says so.
            state: of the mask that follows: accepted or redrawn.
        """
        size = self._file.size_of(position)
        box = inside(box, size)
        own = None if mask is None else left_box(mask, box, size)

        def make(was: Decision) -> Decision:
            check_present(was)
            if mask is None:
                return was.after(box=box, alone=was.state != "missing")
            return was.after(state, mask=mask, box=own or box, alone=False)

        wish = Wish(position=position, version=version, make=make)
        return Edited(self._log.act("box", by, [wish]), own is not None)

    def delete(self, position: int, version: int, by: str) -> Edited:
        """Deletes an annotation: the reviewed file leaves it out."""
        wish = Wish(position=position, version=version, make=self.deleted)
        return Edited(self._log.act("delete", by, [wish]))

    def deleted(self, was: Decision) -> Decision:
        """Returns the annotation deleted."""
        check_present(was)
        return was.after("deleted")

    def add(
        self, row: int, by: str, *, category: int, box: Box | None, mask: Mask | None, state: str
    ) -> Edited:
        """Adds an annotation to a photograph.

        Args:
            row: of the photograph.
            by: the reviewer.
            category: id of its class.
            box: x, y, width, height; None: the mask's own box.
            mask: drawn by hand or by a model; None: a box alone.
            state: accepted, redrawn or missing.
        """
        self._table.class_row(category)
        size, moved = self._file.size_of_image(row), False
        if box is not None:
            box = inside(box, size)
        if mask is not None:
            own = mask_box(mask, size) if box is None else left_box(mask, box, size)
            moved, box = own is not None and box is not None, own or box
        if box is None:
            raise InputError("an annotation needs a box or a mask")
        made = Decision(version=0, state=state, category=category, box=box, mask=mask, image=row)
        wish = Wish(image=row, make=lambda _: made)
        return Edited(self._log.act("add", by, [wish]), moved)

    def area(self, position: int, now: Decision) -> float | None:
        """Returns the area as the reviewed file has it; None: the file has none."""
        if now.mask is not None:
            return float(now.mask["area"])
        area: Any = self._file.annotation(position).get("area")
        return area if isinstance(area, int | float) and math.isfinite(area) else None

    def _box(self, position: int) -> Box:
        x, y, width, height = schema.xywh(*self._table.boxes[position].tolist())
        return x, y, width, height


def check_present(now: Decision) -> None:
    """Raises InputError if an annotation is deleted."""
    if now.state == "deleted":
        raise InputError("the annotation is deleted; undo that first")
