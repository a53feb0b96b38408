"""The history of an annotation, and the comments that are written about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from halfmask.errors import InputError
from halfmask.web.review.log.comments import Remark, line_of_comment, remark_of
from halfmask.web.review.log.decision import Decision, before_of, decision_of
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.log.journal import Span, now, part_number
from halfmask.web.review.log.steps import actor_of, time_of

MOST_EVENTS = 500
"""Changes of an annotation that its history goes back."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A change of an annotation, or a comment about it.

    Attributes:
        what: the action.
        by, when: who made it, and when.
        decision: the state after it; None for a comment.
        mask_changed: whether the mask became another.
        together: number of annotations that the action changed.
        text, open: of a comment.
    """

    what: str
    by: str
    when: str | None
    decision: Decision | None = None
    mask_changed: bool = False
    together: int = 1
    text: str | None = None
    open: bool | None = None


def history(log: Decisions, position: int) -> Iterator[Event]:
    """Yields the changes of an annotation and the comments about it, newest first.

    A damaged line ends the changes: those before it are lost, and it says so.
    """
    events = [*_changes(log, position), *_remarks(log, position)]
    yield from sorted(events, key=lambda event: event.when or "", reverse=True)


def _changes(log: Decisions, position: int) -> Iterator[Event]:
    with log.lock:
        span: Span | None = log.span(position)
    for _ in range(MOST_EVENTS):
        if span is None:
            return
        try:
            line = log.journal.read(span)
            before = before_of(line)
            earlier = None if before is None else log.journal.read(before).get("mask")
        except InputError:
            yield Event(what="damaged", by="", when=None)
            return
        found = decision_of(line, span)
        yield Event(
            what=found.what,
            by=actor_of(line),
            when=time_of(line),
            decision=found,
            mask_changed=found.mask != earlier,
            together=part_number(line)[1],
        )
        span = before


def _remarks(log: Decisions, position: int) -> Iterator[Event]:
    for found in log.comments.of(position):
        yield Event(what="comment", by=found.by, when=found.when, text=found.text, open=found.open)


def write_comment(log: Decisions, position: int, by: str, *, text: str) -> None:
    """Writes a comment about an annotation.

    Raises:
        OSError: the journal cannot be written; nothing has changed.
    """
    with log.lock:
        number = log.comments.count(position) + 1
        remark = Remark(position=position, number=number, by=by, when=now(), text=text)
        _write(log, remark, by)


def mark_comment(log: Decisions, position: int, number: int, *, by: str, is_open: bool) -> None:
    """Closes a comment, or opens it again.

    Raises:
        InputError: there is no such comment.
        OSError: the journal cannot be written; nothing has changed.
    """
    with log.lock:
        span = log.comments.span(position, number)
        old = None if span is None else remark_of(log.journal.read(span))
        if old is None or old.gone:
            raise InputError(f"there is no comment {number} about this annotation")
        _write(log, replace(old, open=is_open), by)


def _write(log: Decisions, remark: Remark, by: str) -> None:
    before = log.comments.span(remark.position, remark.number)
    line = line_of_comment(remark, log.table, by=by, when=now(), of=log.journal.of, before=before)
    log.write([line])
