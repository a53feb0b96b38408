"""What the review page shows of annotations: an item, a row of the list, a history."""

from __future__ import annotations

from typing import Any

from halfmask.coco.records import file_name_of
from halfmask.errors import InputError
from halfmask.masks.parts import parts_of
from halfmask.masks.rle import compressed, crop_of
from halfmask.web import schema
from halfmask.web.review.index import STATES
from halfmask.web.review.log.comments import Remark
from halfmask.web.review.log.decision import Decision
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.log.history import Event, history
from halfmask.web.review.queue import DISAGREEMENT, Order, Queue
from halfmask.web.review.source import ReviewedFile
from halfmask.web.review.table import ORIGINS

MOST_OTHERS = 100
"""Other objects of a photograph that come with an annotation."""
USUAL = Order()


class Views:
    """Answers about annotations.

    Args:
        file: the reviewed file.
        decisions, queue: of the review.
    """

    def __init__(self, file: ReviewedFile, decisions: Decisions, queue: Queue) -> None:
        self._file, self._log, self._queue = file, decisions, queue
        self._table, self._index = file.table, file.index

    def row(self, position: int, order: Order = USUAL) -> dict[str, Any]:
        """Returns the keys of `QueueEntry` of an annotation."""
        table, row = self._table, int(self._table.classes[position])
        category = self._index.categories[row]
        score = float(table.scores[position])
        return {
            "position": position,
            "rank": self._queue.rank(position, order),
            "id": table.id_of(position),
            "score": None if score < 0 else round(score, 4),
            "category": plain_text(category.get("name")),
            "label": row + 1,
            "state": STATES[table.states[position]],
            "origin": ORIGINS[table.origins[position]],
            "image": int(table.images[position]),
            "box": schema.xywh(*table.boxes[position].tolist()),
            "category_id": category["id"],
            "version": int(table.versions[position]),
            "comments": self._log.comments.open_at(position),
            "by": self._log.person(position),
            "value": self._queue.value(order.sort, position),
        }

    def item(self, position: int, decision: Decision | None = None) -> schema.ItemView:
        """Returns an annotation with everything that the page shows beside it.

        Args:
            position: of the annotation.
            decision: its current decision; None reads it.
        """
        decision = decision or self._log.current(position)
        table, size = self._table, self._file.size_of(position)
        mask, fault = self._file.mask(position, decision)
        entry, row = self.row(position), int(table.images[position])
        name, label = entry.pop("category"), entry["label"]
        known = {"version": decision.version, "state": decision.state, "by": decision.by}
        return schema.ItemView.model_validate(
            entry
            | known
            | {
                "when": decision.when,
                "mask_score": (decision.mask or {}).get("score", entry["score"]),
                "category": {"id": entry["category_id"], "name": name, "label": label},
                "image": self._photograph(row),
                "mask": None if mask is None else compressed(mask, size),
                "fault": fault,
                "doubt": self._queue.value(DISAGREEMENT, position),
                "others": [
                    schema.xywh(*table.boxes[other].tolist())
                    for other in self._near(row)
                    if other != position and table.boxes[other][2] > table.boxes[other][0]
                ],
                "added": position >= table.file_count,
                "box_alone": decision.alone,
                "parts": _parts(mask, size),
                "comments": self.comments(position),
                "can_accept": mask is not None and decision.state != "deleted",
            }
        )

    def photo_items(self, row: int, *, masks: bool) -> schema.PhotoItems:
        """Returns the annotations of a photograph that are not deleted.

        Args:
            row: of the photograph.
            masks: whether each comes with its mask.
        """
        found = [
            position
            for position in self._table.of_image(row)
            if STATES[self._table.states[position]] not in ("", "deleted")
        ]
        items = []
        for position in found[:MOST_OTHERS]:
            mask = None
            if masks:
                mask = self._file.mask(position, self._log.current(position))[0]
            size = self._file.size_of_image(row)
            drawn = None if mask is None else schema.Rle(**compressed(mask, size))
            items.append(schema.PhotoEntry(**self.row(position), mask=drawn))
        return schema.PhotoItems(items=items, left_out=max(0, len(found) - MOST_OTHERS))

    def comments(self, position: int) -> list[schema.CommentView]:
        """Returns the comments about an annotation, oldest first."""
        return [comment_view(remark) for remark in self._log.comments.of(position)]

    def open_comments(self, most: int, *, only_open: bool) -> schema.CommentList:
        """Returns the newest comments about all annotations.

        Args:
            most: the largest number of comments.
            only_open: leave out closed ones.
        """
        log = self._log.comments
        found = [
            remark
            for position in log.positions(only_open=only_open)
            for remark in log.of(position)
            if remark.open or not only_open
        ]
        found.sort(key=lambda remark: remark.when, reverse=True)
        shown = [comment_view(remark) for remark in found[:most]]
        return schema.CommentList(comments=shown, total=len(found))

    def history(self, position: int) -> schema.HistoryView:
        """Returns the changes of an annotation and the comments about it, newest first."""
        events = history(self._log, position)
        return schema.HistoryView(entries=[self._history_entry(position, e) for e in events])

    def _history_entry(self, position: int, event: Event) -> schema.HistoryEntry:
        now, box, name = event.decision, None, None
        if now is not None:
            box = now.box
            if now.category is None:
                row = int(self._index.classes[position])
            else:
                row = self._table.class_row(now.category)
            name = plain_text(self._index.categories[row].get("name"))
        return schema.HistoryEntry(
            what=event.what,
            by=event.by,
            when=event.when,
            version=None if now is None else now.version,
            state=None if now is None else now.state,
            category=name,
            box=box,
            mask_changed=event.mask_changed,
            together=event.together,
            text=event.text,
            open=event.open,
        )

    def _near(self, row: int) -> list[int]:
        found = [
            position
            for position in self._table.of_image(row)
            if STATES[self._table.states[position]] != "deleted"
        ]
        return found[:MOST_OTHERS]

    def _photograph(self, row: int) -> schema.ImageView:
        image = self._file.image(row)
        height, width = self._index.sizes[row].tolist()
        name = plain_text(file_name_of(image))
        return schema.ImageView(row=row, id=image["id"], file_name=name, width=width, height=height)


def comment_view(remark: Remark) -> schema.CommentView:
    """Returns a comment for the page."""
    return schema.CommentView(
        position=remark.position,
        number=remark.number,
        by=remark.by,
        when=remark.when,
        text=remark.text,
        open=remark.open,
    )


def plain_text(value: object) -> str:
    """Returns text that JSON can carry; half of a surrogate pair becomes a question mark."""
    return str(value).encode("utf-8", "replace").decode()


def check_row(row: int, count: int) -> None:
    """Raises InputError unless there is an image of this row."""
    if not 0 <= row < count:
        raise InputError(f"there is no image {row}")


def _parts(mask: Any, size: tuple[int, int]) -> int:
    crop = None if mask is None else crop_of(mask, size)
    return 0 if crop is None else int(parts_of(crop[0]).max())
