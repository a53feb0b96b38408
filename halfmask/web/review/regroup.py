"""Splits one annotation into several, and merges several into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from halfmask.errors import InputError
from halfmask.masks.parts import parts_of
from halfmask.masks.rle import area_of, compressed, crop_of, rle_of, united_rle
from halfmask.web import schema
from halfmask.web.drawing import Mask, Size, mask_box
from halfmask.web.review.editing import Edited, Editor
from halfmask.web.review.log.decision import Decision, Wish
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.source import ReviewedFile


class Regrouper:
    """Splits and merges annotations, each as one action of the journal.

    Errors are those of `Editor`.

    Args:
        file: the reviewed file.
        decisions, editor: of the review.
    """

    def __init__(self, file: ReviewedFile, decisions: Decisions, editor: Editor) -> None:
        self._file, self._log, self._editor = file, decisions, editor
        self._table = file.table

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
        state = (
            "redrawn" if self._editor.is_drawn(position, was) or parts is not None else was.state
        )
        if state in ("filled", "accepted", "rejected"):  # the model drew these parts
            masks = [self._drawn_by(position, was) | mask for mask in masks]

        def piece(mask: Mask, new: Decision | None = None) -> Callable[[Decision], Decision]:
            own = mask_box(mask, size)
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
        drawn = any(self._editor.is_drawn(p, now) for p, now in zip(positions, seen, strict=True))
        if not drawn:
            mask = self._drawn_by(first, seen[0]) | mask
        state = "redrawn" if drawn else "accepted"
        box = mask_box(mask, size)

        def united(was: Decision) -> Decision:
            return was.after(state, mask=mask, box=box, alone=False)

        wishes = [
            Wish(position=p, version=v, make=united if p == first else self._editor.deleted)
            for p, v in zip(positions, versions, strict=True)
        ]
        return Edited(self._log.act("merge", by, wishes), moved=True)

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
