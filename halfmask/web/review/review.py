"""A review: the file, its decisions, and the answers to the page's requests."""

from __future__ import annotations

import threading
from pathlib import Path

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import COCO, REVIEW
from halfmask.web import schema
from halfmask.web.drawing import Mask, drawn_by_hand
from halfmask.web.review.batch import THRESHOLD, Batches
from halfmask.web.review.drafts import Drafts
from halfmask.web.review.editing import Edited, Editor
from halfmask.web.review.export import OutputLock, export_review
from halfmask.web.review.filters import Filter
from halfmask.web.review.log.decision import Decision
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.log.statistics import Statistics
from halfmask.web.review.people.doubts import DoubtOrder
from halfmask.web.review.queue import Queue
from halfmask.web.review.regroup import Regrouper
from halfmask.web.review.source import ReviewedFile
from halfmask.web.review.views import Views, plain_text
from halfmask.web.segmenting import Segmenter


class Review:
    """Everything that the review page asks for; safe to use from several threads.

    Args:
        data: the COCO file; never written to.
        segmenter: draws the masks of boxes that reviewers drag.
        images: folder of the photographs.
        journal: file of the decisions.
        out: the reviewed file.
        people: whether people's masks are reviewed, not those that halfmask filled;
            None: if it filled none.
    Attributes:
        file, index, table: what is reviewed, and its current state.
        decisions, queue, views, editor, regrouper, batch, drafts, statistics, doubts:
            its parts.
    Raises:
        InputError: `data` is no COCO file, or has nothing to review; or the journal or
            `out` cannot be used.
    """

    def __init__(
        self,
        data: Path,
        segmenter: Segmenter,
        *,
        images: Path,
        journal: Path,
        out: Path,
        people: bool | None = None,
    ) -> None:
        outputs = [Output(out, "--out", COCO), Output(journal, "--journal", REVIEW)]
        guard(outputs, inputs=[data])
        self.segmenter, self._out = segmenter, out
        self._held = OutputLock(out)
        try:
            self.file = ReviewedFile(data, images)
            self.index, self.table = self.file.index, self.file.table
            self.decisions = Decisions(journal, self.table, self.file.decision)
        except BaseException:
            self._held.close()
            raise
        self.queue = Queue(self.index, self.decisions, people)
        self.views = Views(self.file, self.decisions, self.queue)
        self.editor = Editor(self.file, self.decisions)
        self.regrouper = Regrouper(self.file, self.decisions, self.editor)
        self.batch = Batches(self.decisions, self.queue, self.editor)
        self.drafts = Drafts(self.file, segmenter)
        self.statistics = Statistics(self.decisions)
        self.doubts = DoubtOrder(self.file, self.queue, segmenter)
        self._exporting = threading.Lock()

    def close(self) -> None:
        self.doubts.stop()
        self.segmenter.close()
        self.decisions.close()
        self.file.source.close()
        self._held.close()

    def session(self) -> schema.ReviewSession:
        """Returns the facts that stay the same while the server runs."""
        counts = self.queue.by_category()
        categories = [
            schema.CategoryItem(
                id=c["id"], name=plain_text(c.get("name")), label=row + 1, count=counts[row]
            )
            for row, c in enumerate(self.index.categories)
        ]
        return schema.ReviewSession(
            file=self.file.source.path.name,
            out=self._out.name,
            model=self.segmenter.name,
            categories=[c for c in categories if c.count],
            all_categories=categories,
            total=len(self.queue),
            version=__version__,
            origin="person" if self.queue.people else "filled",
            sorts=self.queue.sorts,
            threshold=THRESHOLD,
            seq=self.decisions.journal.end,
        )

    def all_states(self) -> dict[str, int]:
        """Returns state → number of annotations in the review."""
        return self.queue.progress(Filter())

    def item(self, position: int, decision: Decision | None = None) -> schema.ItemView:
        """Returns an annotation with everything that the page shows beside it."""
        return self.views.item(position, decision)

    def decide(self, position: int, asked: schema.DecisionRequest) -> Edited:
        """Writes a decision to the journal.

        Raises:
            InputError: the request contradicts itself, or its mask cannot be used; or
                the file or the journal is not what it was.
            ConflictError, OSError: as in `Decisions.act`.
        """
        if (asked.state == "redrawn") != (asked.mask is not None):
            raise InputError("the state redrawn needs a mask, other states take none")
        if asked.draft is not None and asked.state != "accepted":
            raise InputError("a draft is a mask of the model; it needs the state accepted")
        self.file.source.confirm()
        mask, _ = self._new_mask(("item", position), asked.mask, asked.draft)
        return self.editor.decide(position, asked.version, asked.by, state=asked.state, mask=mask)

    def set_class(self, position: int, asked: schema.ClassRequest) -> Edited:
        """Sets the class of an annotation."""
        self.file.source.confirm()
        return self.editor.set_class(position, asked.version, asked.by, category=asked.category)

    def set_box(self, position: int, asked: schema.BoxRequest) -> Edited:
        """Sets the box of an annotation, and its mask if one comes along."""
        self.file.source.confirm()
        mask, state = self._new_mask(("item", position), asked.mask, asked.draft)
        return self.editor.set_box(
            position, asked.version, asked.by, box=asked.box, mask=mask, state=state
        )

    def delete(self, position: int, asked: schema.EditRequest) -> Edited:
        """Deletes an annotation."""
        self.file.source.confirm()
        return self.editor.delete(position, asked.version, asked.by)

    def split(self, position: int, asked: schema.SplitRequest) -> Edited:
        """Makes several annotations of one."""
        self.file.source.confirm()
        size = self.file.size_of(position)
        parts = None if asked.parts is None else [drawn_by_hand(p, size) for p in asked.parts]
        return self.regrouper.split(position, asked.version, asked.by, parts=parts)

    def merge(self, asked: schema.MergeRequest) -> Edited:
        """Makes one annotation of several."""
        self.file.source.confirm()
        return self.regrouper.merge(asked.positions, asked.versions, asked.by)

    def add(self, row: int, asked: schema.AddRequest) -> Edited:
        """Adds an annotation to a photograph."""
        self.file.source.confirm()
        mask, state = self._new_mask(("photo", row), asked.mask, asked.draft, row=row)
        return self.editor.add(
            row, asked.by, category=asked.category, box=asked.box, mask=mask, state=state
        )

    def segment(self, position: int, box: schema.Box) -> schema.Segmented:
        """Returns the model's mask for another box; see `Drafts.segment`."""
        row = int(self.table.images[position])
        category = int(self.table.classes[position])
        return self.drafts.segment(("item", position), row, box, category=category)

    def segment_new(self, row: int, asked: schema.NewSegmentRequest) -> schema.Segmented:
        """Returns the model's mask for the box of a new annotation."""
        category = self._class_row(asked.category)
        return self.drafts.segment(("photo", row), row, asked.box, category=category)

    def refine(self, position: int, asked: schema.RefineRequest) -> schema.Refined:
        """Returns a mask that fits clicks; see `Drafts.refine`."""
        row = int(self.table.images[position])
        category = int(self.table.classes[position])
        return self.drafts.refine(("item", position), row, asked, category=category)

    def refine_new(self, row: int, asked: schema.NewRefineRequest) -> schema.Refined:
        """Returns a mask that fits clicks, for a new annotation."""
        category = self._class_row(asked.category)
        return self.drafts.refine(("photo", row), row, asked, category=category)

    def export(self) -> schema.Exported:
        """Writes the reviewed file."""
        with self._exporting:
            written = export_review(self.file, self.decisions, out=self._out)
        return schema.Exported(
            out=self._out.name, comments_open=self.statistics.open_comments(), **written.to_json()
        )

    def _class_row(self, category: int | None) -> int | None:
        return None if category is None else self.table.class_row(category)

    def _new_mask(
        self,
        owner: tuple[str, int],
        drawn: schema.Runs | None,
        draft: str | None,
        *,
        row: int | None = None,
    ) -> tuple[Mask | None, str]:
        """Returns a drawn or a model's mask and its state: redrawn, accepted or missing."""
        if drawn is not None and draft is not None:
            raise InputError("give a drawn mask or a draft of the model, not both")
        if drawn is not None:
            size = self.file.size_of(owner[1]) if row is None else self.file.size_of_image(row)
            return drawn_by_hand(drawn, size), "redrawn"
        if draft is not None:
            return self.drafts.mask(draft, owner), "accepted"
        return None, "missing"
