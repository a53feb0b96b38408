"""Undo and redo of a reviewer's actions."""

from __future__ import annotations

from dataclasses import replace

from halfmask.errors import InputError
from halfmask.web.review.log.comments import line_of_comment, remark_of
from halfmask.web.review.log.decision import (
    OLD_ACTIONS,
    ActionResult,
    Refusal,
    before_of,
    content_of,
)
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.log.journal import Entry, Record, now, part_number
from halfmask.web.review.log.steps import REDO, SKIP, UNDO

MOST_EVENTS = 500


class ChangedSinceError(Exception):
    """Another reviewer changed what an undo or a redo would restore."""

    def __init__(self, refused: list[Refusal]) -> None:
        super().__init__(f"{len(refused)} annotations were changed since")
        self.refused = refused


def take_back(log: Decisions, by: str, *, what: str = UNDO, skip: bool = False) -> ActionResult:
    """Undoes a reviewer's last action, or does the last undone one again.

    Args:
        log: the decisions.
        by: the reviewer.
        what: UNDO or REDO.
        skip: leave out what others changed since, and take back the rest.
    Raises:
        InputError: there is nothing to undo, or its lines are damaged.
        ChangedSinceError: others changed some of it since, and `skip` is not set.
        OSError: the journal cannot be written; nothing has changed.
    """
    with log.lock:
        step = log.steps.next(by, what)
        if step is None:
            raise InputError(f"there is nothing to {what}")
        entries = list(log.journal.between(*step))
        total = part_number(entries[0].record)[1] if entries else 1
        undone = {"by": by, "when": now()}
        lines, refused = _lines(log, entries, undone, what=what)
        missing = total - len(entries)
        if not skip and missing:
            raise InputError(
                f"{missing} of the {total} lines of this action are damaged in the journal, so "
                f"that it cannot be restored as a whole; skip them to {what} the rest"
            )
        if refused and not skip:
            raise ChangedSinceError(refused)
        did = action_of(entries[0].record) if entries else "damaged"
        changed = [line["at"] for line in lines]
        if not lines:
            dropped = {"of": log.journal.of, "what": SKIP, "of_redo": what == REDO}
            lines = [dropped | undone]
        log.write([line | {"step": step[0], "did": did} for line in lines])
        done = [(at, log.current(at)) for at in changed[:MOST_EVENTS]]
        return ActionResult(
            what=did, done=done, refused=refused, unchanged=missing, count=len(changed)
        )


def next_action(log: Decisions, by: str, what: str) -> str | None:
    """Returns what a reviewer's next undo or redo would take back; None: nothing."""
    with log.lock:
        step = log.steps.next(by, what)
        entries = [] if step is None else list(log.journal.between(*step))
    if step is None:
        return None
    return action_of(entries[0].record) if entries else "damaged"


def action_of(line: Record) -> str:
    """Returns the action of a line; of an undo or a redo, the action that it restored."""
    return str(line.get("did") or line.get("what") or OLD_ACTIONS.get(str(line.get("state")), ""))


def _lines(
    log: Decisions, entries: list[Entry], undone: Record, *, what: str
) -> tuple[list[Record], list[Refusal]]:
    """Returns the lines that restore what an action's lines replaced."""
    lines: list[Record] = []
    refused: list[Refusal] = []
    for entry in entries:
        line, at = entry.record, entry.record["at"]
        if "comment" in line:
            lines += _comment(log, entry, undone, what=what)
            continue
        span = log.span(at)
        last = None if span is None else content_of(log.journal.read(span), span)
        if last != content_of(line, entry.span):
            refused.append(Refusal(position=at, current=log.current(at), why="was changed since"))
        else:
            lines.append(log.restored(at, before_of(line), undone, what=what))
    return lines, refused


def _comment(log: Decisions, entry: Entry, undone: Record, *, what: str) -> list[Record]:
    """Returns the line that restores a comment."""
    now_, before = remark_of(entry.record), before_of(entry.record)
    span = log.comments.span(now_.position, now_.number)
    # Before its first line there was no comment.
    old = replace(now_, gone=True) if before is None else remark_of(log.journal.read(before))
    line = line_of_comment(
        old, log.table, by=undone["by"], when=undone["when"], of=log.journal.of, before=span
    )
    return [line | {"what": what, "undone": undone}]
