"""What each reviewer can undo and redo, rebuilt from the journal."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from halfmask.web.review.log.decision import content_of
from halfmask.web.review.log.journal import Entry, Record, Span

UNDO, REDO, SKIP = "undo", "redo", "skip"


class _Stack:
    """Bytes of actions, the last one on top; 16 bytes each."""

    def __init__(self) -> None:
        self._bytes = array("q")

    def __len__(self) -> int:
        return len(self._bytes) // 2

    def push(self, span: Span) -> None:
        self._bytes.extend(span)

    def top(self) -> Span | None:
        return (self._bytes[-2], self._bytes[-1]) if self._bytes else None

    def drop(self, start: int) -> None:
        """Removes the action that starts at a byte, if it is there."""
        for at in range(len(self._bytes) - 2, -1, -2):
            if self._bytes[at] == start:
                del self._bytes[at : at + 2]
                return

    def clear(self) -> None:
        del self._bytes[:]


class Steps:
    """The actions of every reviewer that can be undone and redone.

    An undo is an action that restores what each of an action's lines replaced; a redo
    is the same for the lines of an undo.
    """

    def __init__(self) -> None:
        self._done: dict[str, _Stack] = {}
        self._undone: dict[str, _Stack] = {}

    def next(self, by: str, what: str) -> Span | None:
        """Returns the bytes of the action that a reviewer's undo or redo restores."""
        stack = (self._undone if what == REDO else self._done).get(by)
        return None if stack is None else stack.top()

    def note(self, entries: list[Entry], replaced: Callable[[Entry], Span | None]) -> None:
        """Notes an action.

        Args:
            entries: its lines; all are by one reviewer.
            replaced: bytes of the line that first made the state that a line replaced.
        """
        first = entries[0].record
        span = entries[0].span[0], entries[-1].span[1]
        by, what = actor_of(first), first.get("what")
        done = self._done.setdefault(by, _Stack())
        undone = self._undone.setdefault(by, _Stack())
        if what == SKIP:
            (undone if first.get("of_redo") else done).drop(first["step"])
        elif what == UNDO:
            done.drop(first["step"])
            undone.push(span)
        elif what == REDO:
            undone.drop(first["step"])
            done.push(span)
        elif "undone" in first and "same" not in first:
            # The first format: anybody's undo of one decision, without a redo.
            gone = replaced(entries[0])
            for stack in self._done.values():
                stack.drop(-1 if gone is None else gone[0])
        else:
            done.push(span)
            undone.clear()


def actor_of(line: Record) -> str:
    """Returns who wrote a line: the one who undid something, not whose state is back."""
    undone = line.get("undone")
    return str(undone.get("by") if isinstance(undone, dict) else line.get("by") or "")


def time_of(line: Record) -> str | None:
    """Returns when a line was written."""
    undone = line.get("undone")
    when = undone.get("when") if isinstance(undone, dict) else line.get("when")
    return when if isinstance(when, str) else None


def is_same_state(line: Record, span: Span, other: tuple[Record, Span] | None) -> bool:
    """Whether two lines, or a line and the file (None), say the same state."""
    return content_of(line, span) == (None if other is None else content_of(*other))
