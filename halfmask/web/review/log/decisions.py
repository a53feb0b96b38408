"""The decisions of a review: every action is on the disk before it is confirmed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from halfmask.errors import InputError
from halfmask.web.review.index import NO_SCORE, STATES
from halfmask.web.review.log.comments import Comments, is_comment
from halfmask.web.review.log.decision import (
    DECIDED,
    ActionResult,
    ConflictError,
    Decision,
    Mask,
    Refusal,
    Wish,
    before_of,
    content_of,
    decision_of,
    is_decision,
    line_of_decision,
)
from halfmask.web.review.log.journal import Entry, Record, ReviewJournal, Span, now
from halfmask.web.review.log.steps import REDO, SKIP, UNDO, Steps
from halfmask.web.review.table import AnnotationTable

ACTION_OF = {"accepted": "accept", "confirmed": "accept", "rejected": "reject", "redrawn": "redraw"}
NOT_YET = "deleted"  # an added annotation whose addition is undone


class Decisions:
    """The journal of a review and the table of what it says.

    A line has the annotation's position and id, its new version and state, by, when,
    what was done, and what differs from the file: mask, class, box. `before` holds the
    first byte and last byte + 1 of the line that it replaces, null for the state in the
    file. A line that restores an earlier state repeats it, and says in `same` where it
    was made first (null: in the file) and in `undone` by whom and when it was restored.

    Args:
        path: the journal.
        table: of the reviewed file; it is kept up to date.
        own: returns the state in the file of a position.
    Attributes:
        people: code in the table of each reviewer's name; 0: nobody.
    Raises:
        InputError: another review uses the journal, or it belongs to another file.
    """

    def __init__(self, path: Path, table: AnnotationTable, own: Callable[[int], Decision]) -> None:
        self.table, self._own = table, own
        self.people: dict[str, int] = {"": 0}
        self.lock = threading.RLock()
        self.journal = ReviewJournal(path, table.index.digest)
        self.comments = Comments(self.journal)
        self.steps = Steps()
        try:
            for entries in self.journal.actions():
                self._replay(entries)
        except BaseException:
            self.journal.close()
            raise

    def close(self) -> None:
        self.journal.close()

    @property
    def damaged(self) -> list[int]:
        """Numbers of the journal's damaged lines, from 1."""
        return self.journal.damaged

    def current(self, position: int) -> Decision:
        """Returns the current state of an annotation."""
        with self.lock:
            span = self.span(position)
            if span is None:
                return self._own(position)
            return decision_of(self.journal.read(span), span)

    def span(self, position: int) -> Span | None:
        """Returns the bytes of an annotation's last line."""
        start, end = self.table.spans[position].tolist()
        return (start, end) if end else None

    def decide(
        self, position: int, version: int, state: str, *, by: str, mask: Mask | None = None
    ) -> Decision:
        """Sets the state of an annotation, and its mask.

        Args:
            position, version: of the annotation, as the reviewer saw it.
            state: one of STATES.
            by: the reviewer.
            mask: as in `Decision`; None keeps the current mask.
        Raises:
            ConflictError: the annotation has another version by now.
            OSError: the journal cannot be written; nothing has changed.
        """
        wish = Wish(
            position=position,
            version=version,
            make=lambda was: was.after(state, mask=was.mask if mask is None else mask),
        )
        return self.act(ACTION_OF.get(state, state), by, [wish]).done[0][1]

    def act(
        self, what: str, by: str, wishes: Sequence[Wish], *, strict: bool = True
    ) -> ActionResult:
        """Does one action with one or several annotations: all of it, or nothing.

        Args:
            what: the action's name.
            by: the reviewer.
            wishes: what it does to each annotation.
            strict: raise for the first annotation that another reviewer changed, or
                that cannot be changed; else leave it out, and say so.
        Raises:
            ConflictError: an annotation has another version by now.
            InputError: from a wish.
            OSError: the journal cannot be written; nothing has changed.
        """
        with self.lock:
            made: list[tuple[int, Decision]] = []
            refused: list[Refusal] = []
            when, free, unchanged = now(), len(self.table), 0
            for wish in wishes:
                position = free if wish.position < 0 else wish.position
                was = self._known(wish)
                try:
                    if wish.version not in (None, was.version):
                        raise ConflictError(position, self.current(position))
                    new = wish.make(was)
                except (ConflictError, InputError) as error:
                    if strict:
                        raise
                    why = "was changed since" if isinstance(error, ConflictError) else str(error)
                    refused.append(Refusal(position=position, current=was, why=why))
                    continue
                if new is None:
                    unchanged += 1
                    continue
                free += wish.position < 0
                new = replace(new, version=was.version + 1, by=by, when=when, what=what)
                made.append((position, new))
            lines = [self._line(position, new) for position, new in made]
            self.write(lines)
            return ActionResult(
                what=what, done=made, refused=refused, unchanged=unchanged, count=len(made)
            )

    def undo(self, position: int, version: int, by: str) -> Decision:
        """Restores the state before an annotation's last change, whoever made it.

        Raises:
            ConflictError: the annotation has another version by now, or there is no
                change.
            InputError: the change was one of several that belong together, or what came
                before is damaged.
            OSError: the journal cannot be written; nothing has changed.
        """
        with self.lock:
            was = self.current(position)
            if was.version != version or was.content is None:
                raise ConflictError(position, was)
            line = self.journal.read(was.content)
            if line.get("what") in ("split", "merge", "add"):
                raise InputError(
                    f"the last change was to {line['what']}; its reviewer can undo it as a whole"
                )
            undone = {"by": by, "when": now()}
            record = self.restored(position, before_of(line), undone, what="revert")
            self.write([record])
            return decision_of(record, self.span(position) or (0, 0))

    def restored(self, position: int, target: Span | None, undone: Record, *, what: str) -> Record:
        """Returns a line that restores the state that an earlier line said.

        Args:
            position: of the annotation.
            target: bytes of the earlier line; None: the state in the file.
            undone, what: by whom and when, and the action's name.
        """
        if target is None:
            is_new = position >= self.table.file_count
            old = Decision(version=0, state=NOT_YET) if is_new else self._own(position)
            if is_new:
                old = replace(old, image=int(self.table.images[position]))
            same = None
        else:
            line = self.journal.read(target)
            old, same = decision_of(line, target), content_of(line, target)
        old = replace(old, version=int(self.table.versions[position]) + 1, what=what)
        more = {"same": None if same is None else list(same), "undone": undone}
        return self._line(position, old) | more

    def write(self, lines: list[Record]) -> None:
        """Writes the lines of an action; the caller holds `lock`."""
        if not lines:
            return
        spans = self.journal.write(lines)
        entries = [Entry(span, line) for span, line in zip(spans, lines, strict=True)]
        self.steps.note(entries, self._replaced)
        for entry in entries:
            self._set(entry)

    def decided(self) -> Iterator[tuple[int, Decision]]:
        """Yields the positions and decisions that differ from the file, in its order.

        Later decisions do not appear.
        """
        with self.lock:
            positions = np.flatnonzero(self.table.versions).tolist()
            spans = self.table.spans[positions].tolist()
        for position, (start, end) in zip(positions, spans, strict=True):
            found = decision_of(self.journal.read((start, end)), (start, end))
            if found.content is not None:
                yield position, found

    def reviewers(self) -> dict[str, dict[str, int]]:
        """Returns name → state → number of annotations."""
        with self.lock:
            people, states, size = self.table.people, self.table.states, len(STATES)
            counts = np.bincount(people * size + states, minlength=len(self.people) * size)
            table = counts.reshape(-1, size).tolist()
        return {
            name: {state: row[STATES.index(state)] for state in DECIDED}
            for name, row in zip(self.people, table, strict=True)
            if name and sum(row)
        }

    def person(self, position: int) -> str | None:
        """Returns who made an annotation's current state; None: nobody in this review."""
        return list(self.people)[int(self.table.people[position])] or None

    def _known(self, wish: Wish) -> Decision:
        """Returns the current state, without who and when if the file says it."""
        if wish.position < 0:
            return Decision(version=0, state="", image=wish.image)
        span = self.span(wish.position)
        if span is not None:
            return decision_of(self.journal.read(span), span)
        return Decision(version=0, state=STATES[self.table.states[wish.position]])

    def _line(self, position: int, decision: Decision) -> Record:
        before = self.span(position) if position < len(self.table) else None
        return line_of_decision(position, decision, self.table, of=self.journal.of, before=before)

    def _replaced(self, entry: Entry) -> Span | None:
        span = self.span(entry.record["at"])
        return None if span is None else content_of(self.journal.read(span), span)

    def _replay(self, entries: list[Entry]) -> None:
        """Notes an action that the journal has."""
        for k, entry in enumerate(entries):
            if not self._fits(entry.record):
                raise InputError(
                    f"{self.journal.path}: line {entry.number} is not a decision about this "
                    "file; move the journal away"
                )
            if k == 0:
                self.steps.note(entries, self._replaced)
            self._set(entry)

    def _fits(self, line: Record) -> bool:
        of, what = self.journal.of, line.get("what")
        if what in (UNDO, REDO, SKIP) and type(line.get("step")) is not int:
            return False
        if what == SKIP:
            return line.get("of") == of
        if "comment" in line:
            return is_comment(line, self.table, of)
        return is_decision(line, self.table, of, damaged=bool(self.journal.damaged))

    def _set(self, entry: Entry) -> None:
        line, span, table = entry.record, entry.span, self.table
        if line.get("what") == SKIP:
            return
        if "comment" in line:
            self.comments.note(line, span)
            return
        position, new = line["at"], decision_of(line, span)
        while len(table) <= position:
            # −1: the lines of annotations before it are damaged.
            table.extend(-1 if new.image is None or len(table) < position else new.image)
        table.spans[position] = span
        table.versions[position] = new.version
        table.states[position] = STATES.index(new.state)
        by = (new.by or "") if new.content else ""  # the file's state: nobody in this review
        table.people[position] = self.people.setdefault(by, len(self.people))
        if new.content or position < table.file_count:
            table.set_class(position, new.category)
            table.set_box(position, new.box)
        if position >= table.file_count:
            table.scores[position] = (new.mask or {}).get("score", NO_SCORE)
