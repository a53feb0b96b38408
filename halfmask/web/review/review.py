"""A review: the file, its index, the decisions, and what the page is told of them."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.coco.images import Pixels
from halfmask.coco.records import file_name_of
from halfmask.coco.supervision import MaskState, judge
from halfmask.errors import InputError
from halfmask.masks.rle import area_of, compressed, fault_of_rle
from halfmask.web import schema
from halfmask.web.photographs import Shown, bytes_inside, decoded, read_size, shown, shrink_for
from halfmask.web.review.decisions import Decision, Decisions, Mask
from halfmask.web.review.export import check_out, export
from halfmask.web.review.index import STATES, ReviewIndex, SourceFile, build_index
from halfmask.web.review.queue import Queue
from halfmask.web.segmenting import Drawn, Segmenter

MOST_OTHERS = 100
"""Boxes of other objects that are sent with a mask."""
MOST_DRAFTS = 512
"""Answers of the model that are remembered until somebody accepts them."""


@dataclass(frozen=True)
class Places:
    """Files of a review.

    Attributes:
        source: the completed COCO file; never written to.
        images: the folder of its photographs.
        journal: where decisions are noted.
        out: where the reviewed file goes.
    """

    source: Path
    images: Path
    journal: Path
    out: Path


class Review:
    """Everything the review page asks for; safe to use from several threads.

    Raises:
        InputError: no COCO file, nothing in it that halfmask filled, no such folder, or
            a journal that is not its own.
    """

    def __init__(self, places: Places, segmenter: Segmenter) -> None:
        check_out(places.out, places.source, places.journal)
        self.places, self.segmenter = places, segmenter
        self.index: ReviewIndex = build_index(places.source)
        if not len(self.index.queue):
            raise InputError(
                f"{places.source}: no mask in it was filled by halfmask, so there is nothing "
                "to review; fill them first: halfmask complete"
            )
        self._source = SourceFile(places.source)
        self.decisions = Decisions(places.journal, self.index, self._own)
        self.queue = Queue(self.index, self.decisions)
        self._drafts: OrderedDict[str, tuple[int, Drawn]] = OrderedDict()
        self._drafting, self._exporting = threading.Lock(), threading.Lock()

    def close(self) -> None:
        self.decisions.close()
        self._source.close()

    def session(self) -> schema.ReviewSession:
        """What does not change while the server runs."""
        counts = self.queue.by_category()
        categories = [
            schema.Category(id=c["id"], name=_text(c.get("name")), label=row + 1, count=counts[row])
            for row, c in enumerate(self.index.categories)
            if counts[row]
        ]
        return schema.ReviewSession(
            file=self.places.source.name,
            out=self.places.out.name,
            model=self.segmenter.name,
            categories=categories,
            total=len(self.index.queue),
            version=__version__,
        )

    def entry(self, rank: int) -> schema.QueueEntry:
        """A mask in the list."""
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
        """A mask with all that is shown beside it; `decision` is what holds, where that
        is known already.
        """
        decision = decision or self.decisions.current(position)
        annotation = self._annotation(position)
        size, row = self.size_of(position), int(self.index.images[position])
        mask, fault = self._mask(annotation, decision, size)
        entry = self.entry(self.queue.rank(position))
        return schema.ItemView(
            **_state(decision),
            position=position,
            rank=entry.rank,
            id=entry.id,
            score=entry.score,
            mask_score=entry.score
            if decision.mask is None
            else decision.mask.get("score", entry.score),
            category=schema.Category(
                id=self.index.categories[entry.label - 1]["id"],
                name=entry.category,
                label=entry.label,
            ),
            image=self._image_view(row),
            box=_xywh(self.index.boxes[position].tolist()),
            mask=None if mask is None else schema.Rle(**compressed(mask, size)),
            fault=fault,
            others=[
                _xywh(self.index.boxes[p].tolist())
                for p in self.index.of_image(row)[:MOST_OTHERS]
                if p != position and self.index.boxes[p][2] > self.index.boxes[p][0]
            ],
        )

    def decide(self, position: int, asked: schema.DecisionRequest) -> Decision:
        """Notes a decision.

        Raises:
            InputError: what was sent cannot be meant.
            ConflictError, OSError: as `Decisions.decide`.
        """
        if (asked.state == "redrawn") != (asked.mask is not None):
            raise InputError("a mask comes with the state redrawn, and with no other")
        if asked.draft is not None and asked.state != "accepted":
            raise InputError("a draft is a mask of the model's: it comes with the state accepted")
        mask: Mask | None = None
        if asked.mask is not None:
            mask = self._drawn_by_hand(asked.mask, self.size_of(position))
        elif asked.draft is not None:
            mask = self._drawn_by_model(asked.draft, position)
        elif asked.state == "accepted":
            now = self.decisions.current(position)
            fault = self._mask(self._annotation(position), now, self.size_of(position))[1]
            if fault:
                raise InputError(f"there is no mask to accept: {fault}")
        return self.decisions.decide(position, asked.version, asked.state, asked.by, mask)

    def segment(self, position: int, box: schema.Box) -> schema.Segmented:
        """The model's mask for another box, kept until it is accepted.

        Raises:
            InputError: the photograph cannot be used, or the box is not on it.
            BusyError: too many ask.
        """
        row = int(self.index.images[position])
        name = self.index.categories[int(self.index.classes[position])]
        predictor = self.segmenter.predictor()
        label = predictor.labels_of([{"id": 0, "name": name.get("name")}])[0]
        x, y, width, height = box
        pixels = self._pixels(row, shrink_for(width, height))
        drawn = self.segmenter.segment(
            pixels, (x, y, x + width, y + height), label, self.size_of(position)
        )
        draft = secrets.token_hex(12)
        with self._drafting:
            self._drafts[draft] = (position, drawn)
            while len(self._drafts) > MOST_DRAFTS:
                self._drafts.popitem(last=False)
        return segmented(drawn, draft)

    def photograph(self, row: int) -> Shown:
        """A photograph for the browser.

        Raises:
            InputError: it is absent, outside the folder, cut short, or not of the size
                that the file says.
        """
        image = self._image(row)
        data = bytes_inside(self.places.images, image)
        self._check_size(row, data)
        return shown(data, file_name_of(image))

    def export(self) -> schema.Exported:
        """Writes the reviewed file."""
        with self._exporting:
            counts = export(self._source, self.index, self.decisions, self.places.out)
        return schema.Exported(out=self.places.out.name, counts=counts)

    def size_of(self, position: int) -> tuple[int, int]:
        """(H, W) of the annotation's photograph, as the file says."""
        height, width = self.index.sizes[self.index.images[position]].tolist()
        return height, width

    def _own(self, position: int) -> Decision:
        """What the file itself says: of an earlier review, also by whom and when."""
        note = self._annotation(position).get("halfmask")
        note = note if isinstance(note, dict) else {}
        by, when = (
            note.get(key) if isinstance(note.get(key), str) else None for key in ("by", "when")
        )
        return Decision(0, STATES[self.index.states[position]], by, when)

    def _annotation(self, position: int) -> dict[str, Any]:
        return dict(self._source.read(*self.index.spans[position].tolist()))

    def _image(self, row: int) -> dict[str, Any]:
        return dict(self._source.read(*self.index.image_spans[row].tolist()))

    def _image_view(self, row: int) -> schema.ImageView:
        image = self._image(row)
        height, width = self.index.sizes[row].tolist()
        return schema.ImageView(
            row=row,
            id=image["id"],
            file_name=_text(file_name_of(image)),
            width=width,
            height=height,
        )

    def _mask(
        self, annotation: dict[str, Any], decision: Decision, size: tuple[int, int]
    ) -> tuple[Any, str | None]:
        """The mask that holds, or why there is none."""
        if decision.mask is not None:
            return decision.mask["segmentation"], None
        verdict = judge(annotation, size)
        if verdict.state in (MaskState.BROKEN, MaskState.MISSING):
            return None, verdict.reason or "the annotation has no mask"
        return annotation["segmentation"], None

    def _drawn_by_hand(self, runs: schema.Runs, size: tuple[int, int]) -> Mask:
        rle = {"size": list(runs.size), "counts": runs.counts}
        if fault := fault_of_rle(rle, size):
            raise InputError(f"the drawn mask cannot be used: {fault}")
        return {"segmentation": compressed(rle, size), "area": area_of(rle, size)}

    def _drawn_by_model(self, draft: str, position: int) -> Mask:
        with self._drafting:
            owner, drawn = self._drafts.get(draft, (-1, None))
        if drawn is None or owner != position:
            raise InputError("the model's answer is not known any more; segment again")
        model = self.segmenter.predictor().identity
        box = [round(v, 2) for v in _xywh(drawn.box)]
        return {
            "segmentation": drawn.segmentation,
            "area": drawn.area,
            "model": model,
            "score": drawn.score,
            "box": box,
        }

    def _pixels(self, row: int, shrink: int) -> Pixels:
        image = self._image(row)
        data = bytes_inside(self.places.images, image)
        self._check_size(row, data)
        return decoded(data, file_name_of(image), shrink)

    def _check_size(self, row: int, data: bytes) -> None:
        name = file_name_of(self._image(row))
        (height, width), (h, w) = self.index.sizes[row].tolist(), read_size(data, name)
        if (h, w) != (height, width):
            raise InputError(
                f"{name}: the photograph is {w} × {h} pixels, the file says {width} × {height}"
            )


def segmented(drawn: Drawn, draft: str | None = None) -> schema.Segmented:
    """A model's mask for a page."""
    return schema.Segmented(
        mask=schema.Rle(**drawn.segmentation),
        area=drawn.area,
        score=drawn.score,
        box=_xywh(drawn.box),
        draft=draft,
        label=drawn.label,
        confidence=round(drawn.confidence, 4),
    )


def _state(decision: Decision) -> dict[str, Any]:
    return {
        "version": decision.version,
        "state": decision.state,
        "by": decision.by,
        "when": decision.when,
    }


def _xywh(box: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return x0, y0, x1 - x0, y1 - y0


def _text(value: object) -> str:
    """A text from a file as JSON can carry it: half of a surrogate pair becomes a question mark."""
    return str(value).encode("utf-8", "replace").decode()
