"""The journal of a review: an append-only file of lines that survives a kill."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.files.json_lines import JsonLines, Line
from halfmask.text import listed

logger = logging.getLogger("halfmask")

BUSY = "another review of the same file is running; use its page, or stop it first"
MOVED = "save the review now, which has every decision so far, then start again"
FORMATS = (1, 2)
"""Formats that are read. The first has one decision a line; the second is written."""

WINDOW = 1 << 20
"""Bytes that are read at once."""

Record = dict[str, Any]
Span = tuple[int, int]


@dataclass(frozen=True)
class Entry:
    """A line of the journal and its bytes."""

    span: Span
    record: Record
    number: int = 0


@dataclass
class _Group:
    """The lines of one action, while they are read."""

    start: int = 0
    entries: list[Entry] = field(default_factory=list)
    damaged: int = 0

    def whole(self) -> bool:
        """Whether no line is missing at the end: damaged lines count as read."""
        if not self.entries:
            return True
        last, total = part_number(self.entries[-1].record)
        return last + self.damaged >= total


class ReviewJournal:
    """The lines of a review. An action is one line, or several written at once.

    A line has `of`, the beginning of the file's digest, and in an action of several
    lines `part`: its number, from 1, and their count. If a kill leaves some of an
    action's lines, none counts: they were never confirmed. A damaged line stays in the
    journal and costs what it said alone.

    Args:
        path: the journal.
        digest: SHA-256 of the reviewed file.
    Attributes:
        damaged: numbers of the damaged lines, from 1.
    Raises:
        InputError: another review uses the journal.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self._digest, self.of = path, digest, digest[:16]
        self.damaged: list[int] = []
        self._lines = JsonLines(path, BUSY, MOVED)

    def close(self) -> None:
        self._lines.close()

    @property
    def end(self) -> int:
        """The byte at which the next action starts: it grows with every action."""
        return self._lines.end

    def read(self, span: Span) -> Record:
        """Returns a line.

        Raises:
            InputError: it is damaged.
        """
        return self._lines.read(*span)

    def between(self, start: int, end: int) -> Iterator[Entry]:
        """Yields the lines of the actions between two bytes that are not damaged."""
        for line in self._lines.read_all(start, end):
            if line.record is not None and "of" in line.record:
                yield Entry((line.start, line.end), line.record)

    def after(self, start: int, end: int) -> Iterator[Entry]:
        """Yields the lines between two bytes, a part of the file at a time."""
        while start < end:
            behind = self._lines.line_end(min(start + WINDOW, end), end)
            yield from self.between(start, behind)
            start = behind

    def is_start(self, at: int) -> bool:
        """Whether a line starts at a byte, or the journal ends there."""
        return self._lines.is_start(at)

    def write(self, records: list[Record]) -> list[Span]:
        """Writes the lines of an action to the disk.

        Raises:
            OSError: they cannot be written; nothing has changed.
        """
        total = len(records)
        if total > 1:
            records = [r | {"part": [k, total]} for k, r in enumerate(records, 1)]
        return self._lines.append_all(records)

    def actions(self) -> Iterator[list[Entry]]:
        """Yields the lines of every action of an earlier review, or begins a journal.

        Raises:
            InputError: it is no journal, or belongs to another file.
        """
        good, whole, group = 0, 0, _Group()
        for number, line in enumerate(self._lines.lines(), 1):
            if line.cut_off:
                break
            whole += line.record is not None
            good = line.end
            if line.damaged:
                self.damaged.append(number)
                group.damaged += 1
            if line.record is None:
                continue
            if number == 1:
                self._check_header(line.record)
            elif _goes_on(group, line.record):
                group.entries.append(_entry(line, number))
            else:
                yield from [group.entries] * bool(group.entries)
                group = _Group(line.start, [_entry(line, number)])
        if group.whole():
            yield from [group.entries] * bool(group.entries)
        else:
            good = group.start
        self._begin(good, whole)

    def _begin(self, good: int, whole: int) -> None:
        """Removes what was never confirmed; the next line starts there."""
        if good and not whole:
            raise InputError(
                f"{self.path}: not the journal of a review, or damaged in every line; "
                "move it away, or name another with --journal"
            )
        self._lines.cut(good)
        if self.damaged:
            logger.warning(
                "%s: damaged: line %s; what these decisions said is lost, all others are here",
                self.path,
                listed(self.damaged, 5),
            )
        if not good:
            header = {"review": FORMATS[-1], "input": self._digest, "version": __version__}
            self._lines.append(header)

    def _check_header(self, line: Record) -> None:
        if line.get("review") not in FORMATS:
            raise InputError(
                f"{self.path}: not the journal of a review; move it away, or name another "
                "with --journal"
            )
        if line.get("input") != self._digest:
            raise InputError(
                f"{self.path}: has decisions about another version of this file; restore that "
                "version, or move the journal away, or name another with --journal"
            )


def part_number(record: Record) -> tuple[int, int]:
    """Returns a line's number in its action, from 1, and the number of its lines."""
    part = record.get("part")
    if isinstance(part, list) and len(part) == 2 and all(type(v) is int for v in part):
        return part[0], part[1]
    return 1, 1


def now() -> str:
    """Returns the time, UTC, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _entry(line: Line, number: int) -> Entry:
    return Entry((line.start, line.end), line.record or {}, number)


def _goes_on(group: _Group, record: Record) -> bool:
    """Whether a line belongs to the action of the lines before it."""
    number, total = part_number(record)
    if not group.entries:
        return False
    last, known = part_number(group.entries[-1].record)
    # Damaged lines in between leave a gap.
    return known == total > 1 and last < number <= last + group.damaged + 1
