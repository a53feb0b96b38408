"""Writes the reviewed file: what reviewers changed changes, all other bytes stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from halfmask.coco.supervision import is_missing
from halfmask.errors import InputError
from halfmask.files.atomic import lock, written_beside
from halfmask.files.held import open_in_place
from halfmask.masks.crops import decode
from halfmask.masks.outline import outlines
from halfmask.web.review.index import STATES
from halfmask.web.review.log.decision import DECIDED, Decision, before_of, content_of
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.source import ReviewedFile

BLOCK = 1 << 20
MOST_CHANGES = 50
"""Actions of an annotation that the reviewed file names."""


class OutputLock:
    """Keeps other reviews from saving to the same file.

    Args:
        out: the reviewed file.
    Raises:
        InputError: another review saves there, or the folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._path = out.with_name(f".{out.name}.lock")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_in_place(self._path)
        except OSError as error:
            raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error
        with suppress(OSError):  # a file system without locks
            if not lock(self._file):
                self._file.close()
                raise InputError(
                    f"{out}: another review saves to this file; stop it, or name another --out"
                )

    def close(self) -> None:
        """Lets others save there."""
        with suppress(OSError):
            self._path.unlink()
        self._file.close()


@dataclass(kw_only=True)
class Written:
    """What the reviewed file has that the source has not.

    Attributes:
        counts: state → annotations that were decided to be in it.
        classes_changed, boxes_changed, masks_changed: annotations of the source whose
            class, box or mask became another.
        deleted: annotations of the source that are left out.
        added: annotations that the source does not have.
    """

    counts: dict[str, int] = field(default_factory=dict)
    classes_changed: int = 0
    boxes_changed: int = 0
    masks_changed: int = 0
    deleted: int = 0
    added: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def note(self, decision: Decision) -> None:
        """Counts an annotation."""
        if decision.state == "deleted":
            self.deleted += 1
            return
        if decision.state in DECIDED:
            self.counts[decision.state] = self.counts.get(decision.state, 0) + 1
        if decision.image is not None:
            self.added += 1
            return
        self.classes_changed += decision.category is not None
        self.boxes_changed += decision.box is not None
        self.masks_changed += decision.mask is not None


def export_review(file: ReviewedFile, decisions: Decisions, *, out: Path) -> Written:
    """Writes the reviewed file, an annotation at a time.

    A changed annotation gets `halfmask.state`, `by` and `when`, and its new class, box
    and mask. Deleted ones are left out, added ones follow the last. All other bytes are
    those of the source.

    Args:
        file: the reviewed file.
        decisions: about it.
        out: the file to write.
    Raises:
        InputError: `out` cannot be written, or the source was changed.
    """
    written, writer = Written(), _Writer(file, decisions)
    with written_beside(out) as target, file.source.reopened() as source:
        for start, end, text in writer.changes(written):
            _copy(source, target, start - source.tell())
            source.seek(end)
            target.write(text)
        shutil.copyfileobj(source, target, BLOCK)
    return written


class _Writer:
    """The places of the source that change, in order."""

    def __init__(self, file: ReviewedFile, decisions: Decisions) -> None:
        self._file, self._log, self._spans = file, decisions, file.index.spans
        self._listed: bool | None = None

    def changes(self, written: Written) -> Iterator[tuple[int, int, bytes]]:
        """Yields first byte, last byte + 1 and the bytes that replace them."""
        added: list[bytes] = []
        gone = self._gone()
        behind = len(self._spans)
        while behind and behind - 1 in gone:
            behind -= 1  # the comma before the last ones that are left out goes, too
        for position, decision in self._log.decided():
            if position >= len(self._spans):
                if decision.state != "deleted":
                    written.note(decision)
                    added.append(self._added(position, decision))
                continue
            written.note(decision)
            start, end = self._spans[position].tolist()
            if decision.state != "deleted":
                yield start, end, self._changed(position, decision)
            elif position < behind:
                yield start, int(self._spans[position + 1][0]), b""
        yield from self._end(behind, added)

    def _gone(self) -> set[int]:
        states = self._file.table.states[: len(self._spans)]
        return set(np.flatnonzero(states == STATES.index("deleted")).tolist())

    def _end(self, behind: int, added: list[bytes]) -> Iterator[tuple[int, int, bytes]]:
        """Yields the change at the list's end: what is left out there, what is added."""
        last = int(self._spans[-1][1])
        start = int(self._spans[behind - 1][1]) if behind else int(self._spans[0][0])
        text = self._comma().join([*([b""] if behind else []), *added])
        if start != last or text:
            yield start, last, text

    def _comma(self) -> bytes:
        """Returns what stands between the list's last two items."""
        if len(self._spans) < 2:
            return b", "
        (_, start), (end, _) = self._spans[-2].tolist(), self._spans[-1].tolist()
        gap = self._file.source.read_bytes(start, end)
        return gap if gap.strip() == b"," else b", "

    def _changed(self, position: int, decision: Decision) -> bytes:
        size, log = self._file.size_of(position), self._log
        old = self._file.annotation(position)
        earlier = effective(log, position) if _is_edited(decision) else []
        return json.dumps(decided_annotation(old, decision, size, changes=earlier)).encode()

    def _added(self, position: int, decision: Decision) -> bytes:
        row, box = int(self._file.table.images[position]), decision.box
        assert box is not None  # `Editor` adds none without
        assert decision.image is not None
        record: dict[str, Any] = {
            "id": self._file.table.id_of(position),
            "image_id": self._file.image(row)["id"],
            "category_id": decision.category,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        if decision.mask is not None and self._has_polygons():
            record["segmentation"] = []
        size, changes = self._file.size_of_image(row), effective(self._log, position)
        new = decided_annotation(record, decision, size, changes=changes)
        new["halfmask"].pop("was", None)
        return json.dumps(new).encode()

    def _has_polygons(self) -> bool:
        """Whether the first mask of the file is a list of polygons."""
        if self._listed is None:
            states = self._file.index.states
            known = np.flatnonzero((states > 0) & (states != STATES.index("missing")))[:1].tolist()
            shapes = [self._file.annotation(p).get("segmentation") for p in known]
            self._listed = any(isinstance(shape, list) for shape in shapes)
        return self._listed


def _is_edited(decision: Decision) -> bool:
    """Whether more than the mask became another."""
    return decision.category is not None or decision.box is not None


def effective(log: Decisions, position: int) -> list[dict[str, Any]]:
    """Returns the actions that led to an annotation's state, oldest first.

    What was undone is left out.
    """
    span = log.current(position).content
    found: list[dict[str, Any]] = []
    while span is not None and len(found) < MOST_CHANGES:
        line = log.journal.read(span)
        found.append({"what": line.get("what"), "by": line["by"], "when": line.get("when")})
        before = before_of(line)
        span = None if before is None else content_of(log.journal.read(before), before)
    return found[::-1]


def decided_annotation(
    annotation: dict[str, Any],
    decision: Decision,
    image_size: tuple[int, int],
    *,
    changes: list[dict[str, Any]],
) -> dict[str, Any]:
    """Returns an annotation with a decision.

    A new mask has the format of the old one, polygons or RLE. Class and box of the
    source stay in the note.

    Args:
        annotation: of the source, or the beginning of an added one.
        decision: about it.
        image_size: (H, W).
        changes: what led to the decision.
    """
    note = annotation.get("halfmask")
    note = {**(note if isinstance(note, dict) else {})}
    # A person's box without a mask is an annotator's, as a mask of the source is.
    note["state"] = "annotated" if decision.state == "missing" else decision.state
    note |= {"by": decision.by, "when": decision.when} if decision.by else {}
    changed: dict[str, Any] = {}
    was: dict[str, Any] = {}
    if decision.category is not None:
        changed["category_id"], was["category_id"] = decision.category, annotation["category_id"]
    if decision.box is not None:
        changed["bbox"], was["bbox"] = list(decision.box), annotation.get("bbox")
        if is_missing(annotation.get("segmentation")) and decision.mask is None:
            changed["area"] = decision.box[2] * decision.box[3]
    if decision.mask is not None:
        own = dict(decision.mask)
        changed |= {"segmentation": own.pop("segmentation"), "area": own.pop("area")}
        if isinstance(annotation.get("segmentation"), list):
            changed["segmentation"] = _polygons(changed["segmentation"], image_size)
        note |= own
    if changes:
        earlier = note.get("changes")
        note["changes"] = [*(earlier if isinstance(earlier, list) else []), *changes]
        note["was"] = was | (note["was"] if isinstance(note.get("was"), dict) else {})
    if decision.alone:
        note["mask_follows_box"] = False
    elif decision.mask is not None:
        note.pop("mask_follows_box", None)
    return annotation | changed | {"halfmask": note}


def _polygons(rle: dict[str, Any], image_size: tuple[int, int]) -> list[list[float]]:
    bitmap, offset = decode(rle, image_size)
    return outlines(bitmap.numpy(), offset)


def _copy(source: IO[bytes], target: IO[bytes], count: int) -> None:
    while count > 0:
        block = source.read(min(count, BLOCK))
        if not block:
            raise InputError("the input was cut short during the export; export again")
        target.write(block)
        count -= len(block)
