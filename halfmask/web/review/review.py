"""A review: the file, its decisions, and the answers to the page's requests."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from pathlib import Path

from halfmask._version import __version__
from halfmask.coco.records import file_name_of
from halfmask.errors import InputError
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import COCO, REVIEW
from halfmask.masks.rle import area_of, compressed, fault_of_rle
from halfmask.web import schema
from halfmask.web.photographs import shrink_for
from halfmask.web.review.decisions import Decision, Decisions, Mask
from halfmask.web.review.export import OutputLock, export_review
from halfmask.web.review.index import STATES
from halfmask.web.review.queue import Queue
from halfmask.web.review.source import ReviewedFile
from halfmask.web.segmenting import Drawn, Segmenter

MOST_OTHERS = 100
"""Boxes of other objects that come with a mask."""
MOST_DRAFTS = 512
"""The model's masks that are kept until a reviewer accepts them."""


class Review:
    """Everything that the review page asks for; safe to use from several threads.

    Args:
        data: the completed COCO file; never written to.
        segmenter: draws the masks of boxes that reviewers drag.
        images: folder of the photographs.
        journal: file of the decisions.
        out: the reviewed file.
    Raises:
        InputError: `data` is no COCO file, or has no mask that halfmask filled; or the
            journal or `out` cannot be used.
    """

    def __init__(
        self, data: Path, segmenter: Segmenter, *, images: Path, journal: Path, out: Path
    ) -> None:
        outputs = [Output(out, "--out", COCO), Output(journal, "--journal", REVIEW)]
        guard(outputs, inputs=[data])
        self.segmenter, self._out = segmenter, out
        self._held = OutputLock(out)
        try:
            self.file = ReviewedFile(data, images)
            self.index = self.file.index
            self.decisions = Decisions(journal, self.index, self.file.decision)
        except BaseException:
            self._held.close()
            raise
        self.queue = Queue(self.index, self.decisions)
        self._drafts: OrderedDict[str, tuple[int, Drawn]] = OrderedDict()
        self._drafting, self._exporting = threading.Lock(), threading.Lock()

    def close(self) -> None:
        self.segmenter.close()
        self.decisions.close()
        self.file.source.close()
        self._held.close()

    def session(self) -> schema.ReviewSession:
        """Returns the facts that stay the same while the server runs."""
        counts = self.queue.by_category()
        categories = [
            schema.CategoryItem(
                id=c["id"], name=_text(c.get("name")), label=row + 1, count=counts[row]
            )
            for row, c in enumerate(self.index.categories)
            if counts[row]
        ]
        return schema.ReviewSession(
            file=self.file.source.path.name,
            out=self._out.name,
            model=self.segmenter.name,
            categories=categories,
            total=len(self.index.queue),
            version=__version__,
        )

    def entry(self, rank: int) -> schema.QueueEntry:
        """Returns a mask for the list."""
        position = int(self.index.queue[rank])
        row = int(self.index.classes[position])
        return schema.QueueEntry(
            position=position,
            rank=rank,
            id=int(self.index.ids[position]),
            score=round(float(self.index.scores[position]), 4),
            category=_text(self.index.categories[row].get("name")),
            label=row + 1,
            state=STATES[self.decisions.states[position]],
        )

    def item(self, position: int, decision: Decision | None = None) -> schema.ItemView:
        """Returns a mask with everything that the page shows beside it.

        Args:
            position: of the annotation.
            decision: its current decision; None reads it.
        """
        decision = decision or self.decisions.current(position)
        size, row = self.file.size_of(position), int(self.index.images[position])
        mask, fault = self.file.mask(position, decision)
        entry = self.entry(self.queue.rank(position))
        boxes = self.index.boxes
        return schema.ItemView(
            version=decision.version,
            state=decision.state,
            by=decision.by,
            when=decision.when,
            position=position,
            rank=entry.rank,
            id=entry.id,
            score=entry.score,
            mask_score=(decision.mask or {}).get("score", entry.score),
            category=schema.CategoryItem(
                id=self.index.categories[entry.label - 1]["id"],
                name=entry.category,
                label=entry.label,
            ),
            image=self._image_view(row),
            box=schema.xywh(*boxes[position].tolist()),
            mask=None if mask is None else schema.Rle(**compressed(mask, size)),
            fault=fault,
            others=[
                schema.xywh(*boxes[other].tolist())
                for other in self.index.of_image(row)[:MOST_OTHERS]
                if other != position and boxes[other][2] > boxes[other][0]
            ],
        )

    def decide(self, position: int, asked: schema.DecisionRequest) -> Decision:
        """Writes a decision to the journal.

        Raises:
            InputError: the request contradicts itself, or its mask cannot be used; or
                the file or the journal is not what it was.
            ConflictError, OSError: as in `Decisions.decide`.
        """
        if (asked.state == "redrawn") != (asked.mask is not None):
            raise InputError("the state redrawn needs a mask, other states take none")
        if asked.draft is not None and asked.state != "accepted":
            raise InputError("a draft is a mask of the model; it needs the state accepted")
        self.file.source.confirm()
        mask: Mask | None = None
        if asked.mask is not None:
            mask = _drawn_by_hand(asked.mask, self.file.size_of(position))
        elif asked.draft is not None:
            mask = self._drawn_by_model(asked.draft, position)
        elif asked.state == "accepted":
            fault = self.file.mask(position, self.decisions.current(position))[1]
            if fault:
                raise InputError(f"there is no mask to accept: {fault}")
        return self.decisions.decide(position, asked.version, asked.state, by=asked.by, mask=mask)

    def segment(self, position: int, box: schema.Box) -> schema.Segmented:
        """Returns the model's mask for another box, and keeps it until it is accepted.

        Raises:
            InputError: the photograph cannot be used, or the box lies outside it.
            BusyError: too many requests wait.
        """
        category = self.index.categories[int(self.index.classes[position])]
        predictor = self.segmenter.predictor()
        label = predictor.labels_of([{"id": 0, "name": category.get("name")}])[0]
        x, y, width, height = box
        row, corners = int(self.index.images[position]), (x, y, x + width, y + height)
        with self.file.pixels(row, shrink_for(width, height)) as pixels:
            drawn = self.segmenter.segment(pixels, corners, label, size=self.file.size_of(position))
        draft = secrets.token_hex(12)
        with self._drafting:
            self._drafts[draft] = (position, drawn)
            while len(self._drafts) > MOST_DRAFTS:
                self._drafts.popitem(last=False)
        return schema.Segmented.of(drawn, draft)

    def export(self) -> schema.Exported:
        """Writes the reviewed file."""
        with self._exporting:
            counts = export_review(self.file.source, self.index, self.decisions, out=self._out)
        return schema.Exported(out=self._out.name, counts=counts)

    def _image_view(self, row: int) -> schema.ImageView:
        image = self.file.image(row)
        height, width = self.index.sizes[row].tolist()
        name = _text(file_name_of(image))
        return schema.ImageView(row=row, id=image["id"], file_name=name, width=width, height=height)

    def _drawn_by_model(self, draft: str, position: int) -> Mask:
        with self._drafting:
            owner, drawn = self._drafts.get(draft, (-1, None))
        if drawn is None or owner != position:
            raise InputError("the server no longer has the model's mask; segment again")
        return {
            "segmentation": drawn.rle,
            "area": drawn.area,
            "model": self.segmenter.predictor().identity,
            "score": drawn.score,
            "box": [round(v, 2) for v in schema.xywh(*drawn.box)],
        }


def _drawn_by_hand(runs: schema.Runs, size: tuple[int, int]) -> Mask:
    rle = {"size": list(runs.size), "counts": runs.counts}
    if fault := fault_of_rle(rle, size):
        raise InputError(f"the drawn mask cannot be used: {fault}")
    return {"segmentation": compressed(rle, size), "area": area_of(rle, size)}


def _text(value: object) -> str:
    """Returns text that JSON can carry; half of a surrogate pair becomes a question mark."""
    return str(value).encode("utf-8", "replace").decode()
