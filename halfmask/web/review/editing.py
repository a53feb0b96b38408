"""Actions on single annotations: what each makes of an annotation's state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from halfmask.errors import InputError
from halfmask.masks.parts import parts_of
from halfmask.masks.rle import (
    area_of,
    box_of,
    compressed,
    crop_of,
    fault_of_rle,
    rle_of,
    united_rle,
)
from halfmask.web import schema
from halfmask.web.review.log.decision import Box, Decision, Mask, Outcome, Wish
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.source import ReviewedFile

Size = tuple[int, int]


@dataclass(frozen=True)
class Edited:
    """What an action did, and whether a mask took its annotation's box along."""

    outcome: Outcome
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
        state = self._file.index.states[position] if position < self._table.file_count else 0
        return state in _DRAWN

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
            own = own_box(mask, size) if box is None else left_box(mask, box, size)
            moved, box = own is not None and box is not None, own or box
        if box is None:
            raise InputError("an annotation needs a box or a mask")
        made = Decision(version=0, state=state, category=category, box=box, mask=mask, image=row)
        wish = Wish(image=row, make=lambda _: made)
        return Edited(self._log.act("add", by, [wish]), moved)

    def split(
        self, position: int, version: int, by: str, *, parts: Sequence[Mask] | None
    ) -> Edited:
        """Makes several annotations of one; the largest part keeps the annotation.

        Args:
            position: of the annotation.
            version: the version that the reviewer saw.
            by: the reviewer.
            parts: the masks; None: the connected parts of the mask.
        """
        size, row = self._file.size_of(position), int(self._table.images[position])
        was = self._log.current(position)
        masks = list(parts) if parts is not None else self._parts(position, was, size)
        if len(masks) < 2:
            raise InputError("the mask has one part only, so there is nothing to split")
        category = self._category(position, was)
        state = "redrawn" if self.is_drawn(position, was) or parts is not None else was.state
        if state in ("filled", "accepted", "rejected"):  # the model drew these parts
            masks = [self._drawn_by(position, was) | mask for mask in masks]

        def piece(mask: Mask, new: Decision | None = None) -> Callable[[Decision], Decision]:
            own = own_box(mask, size)
            return lambda now: (new or now).after(state, mask=mask, box=own, alone=False)

        new = Decision(version=0, state=state, category=category, image=row)
        wishes = [
            Wish(position=position, version=version, make=piece(masks[0])),
            *(Wish(image=row, make=piece(mask, new)) for mask in masks[1:]),
        ]
        return Edited(self._log.act("split", by, wishes), moved=True)

    def merge(self, positions: Sequence[int], versions: Sequence[int], by: str) -> Edited:
        """Makes one annotation of several of one photograph and class.

        The first keeps the union of the masks; the others are deleted.
        """
        if len(positions) != len(versions) or len(set(positions)) != len(positions):
            raise InputError("merge needs different annotations, and the version of each")
        table, first = self._table, positions[0]
        for column, what in ((table.images, "photograph"), (table.classes, "class")):
            if len({int(column[p]) for p in positions}) > 1:
                raise InputError(f"annotations of more than one {what} cannot be merged")
        size, seen = self._file.size_of(first), [self._log.current(p) for p in positions]
        shapes = [self._shape(p, now) for p, now in zip(positions, seen, strict=True)]
        union = united_rle([compressed(shape, size) for shape in shapes], size)
        mask = {"segmentation": union, "area": area_of(union, size)}
        drawn = any(self.is_drawn(p, now) for p, now in zip(positions, seen, strict=True))
        if not drawn:
            mask = self._drawn_by(first, seen[0]) | mask
        state = "redrawn" if drawn else "accepted"
        box = own_box(mask, size)

        def united(was: Decision) -> Decision:
            return was.after(state, mask=mask, box=box, alone=False)

        wishes = [
            Wish(position=p, version=v, make=united if p == first else self.deleted)
            for p, v in zip(positions, versions, strict=True)
        ]
        return Edited(self._log.act("merge", by, wishes), moved=True)

    def area(self, position: int, now: Decision) -> float | None:
        """Returns the area as the reviewed file has it; None: the file has none."""
        if now.mask is not None:
            return float(now.mask["area"])
        area: Any = self._file.annotation(position).get("area")
        return area if isinstance(area, int | float) and math.isfinite(area) else None

    def _parts(self, position: int, was: Decision, size: Size) -> list[Mask]:
        crop = crop_of(self._shape(position, was), size)
        if crop is None:
            return []
        bitmap, place = crop
        labels = parts_of(bitmap)
        masks = []
        for label in range(1, int(labels.max()) + 1):
            rle = rle_of((labels == label).astype(np.uint8), place, size)
            masks.append({"segmentation": rle, "area": int((labels == label).sum())})
            if len(masks) > schema.MOST_PARTS:
                raise InputError(
                    f"the mask has more than {schema.MOST_PARTS} parts; erase the smallest first"
                )
        return masks

    def _shape(self, position: int, now: Decision) -> Any:
        if now.state == "deleted":
            raise InputError(f"annotation {int(self._table.ids[position])} is deleted")
        shape, fault = self._file.mask(position, now)
        if shape is None:
            raise InputError(f"annotation {int(self._table.ids[position])} has no mask: {fault}")
        return shape

    def _drawn_by(self, position: int, now: Decision) -> Mask:
        """Returns which model drew the current mask, and its score."""
        if now.mask is not None:
            return {key: now.mask[key] for key in ("model", "score") if key in now.mask}
        note = self._file.annotation(position).get("halfmask")
        known = note if isinstance(note, dict) else {}
        model = known.get("model")
        model = model if isinstance(model, str) else "unknown"
        return {"model": model} | ({"score": known["score"]} if "score" in known else {})

    def _category(self, position: int, now: Decision) -> int:
        if now.category is not None:
            return now.category
        row = int(self._table.classes[position])
        return int(self._file.index.categories[row]["id"])

    def _box(self, position: int) -> Box:
        x, y, width, height = schema.xywh(*self._table.boxes[position].tolist())
        return x, y, width, height


_DRAWN = (3, 5, 6)
"""Codes of states in a file whose masks a person drew: redrawn, annotated, confirmed."""


def check_present(now: Decision) -> None:
    """Raises InputError if an annotation is deleted."""
    if now.state == "deleted":
        raise InputError("the annotation is deleted; undo that first")


def drawn_by_hand(runs: schema.Runs, size: Size) -> Mask:
    """Returns a drawn mask as the journal keeps it.

    Raises:
        InputError: it has another size than the photograph, or no pixel.
    """
    rle = {"size": list(runs.size), "counts": runs.counts}
    if fault := fault_of_rle(rle, size):
        raise InputError(f"the drawn mask cannot be used: {fault}")
    return {"segmentation": compressed(rle, size), "area": area_of(rle, size)}


def own_box(mask: Mask, size: Size) -> Box | None:
    """Returns a mask's own box x, y, width, height."""
    found = box_of(mask["segmentation"], size)
    if found is None:
        return None
    x, y, width, height = schema.xywh(*found)
    return x, y, width, height


def left_box(mask: Mask, box: Box, size: Size) -> Box | None:
    """Returns a mask's own box if a pixel of it lies outside a box; else None."""
    own = own_box(mask, size)
    if own is None:
        return None
    ends = own[0] + own[2], own[1] + own[3]
    is_inside = (
        own[0] >= math.floor(box[0])
        and own[1] >= math.floor(box[1])
        and ends[0] <= math.ceil(box[0] + box[2])
        and ends[1] <= math.ceil(box[1] + box[3])
    )
    return None if is_inside else own


def inside(box: Box, size: Size) -> Box:
    """Returns the part of a box on a photograph (H, W), to a hundredth of a pixel.

    Raises:
        InputError: it lies outside.
    """
    x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
    x1, y1 = min(box[0] + box[2], float(size[1])), min(box[1] + box[3], float(size[0]))
    x, y, width, height = (round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0))
    if width <= 0 or height <= 0:
        raise InputError("the box lies outside the photograph")
    return x, y, width, height
