"""The decisions of a review: an append-only journal, and every annotation's state."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.files.json_lines import JsonLines
from halfmask.text import listed
from halfmask.web.review.index import STATES, ReviewIndex

logger = logging.getLogger("halfmask")

BUSY = "another review of the same file is running; use its page, or stop it first"
MOVED = "save the review now, which has every decision so far, then start again"
DECIDED = ("accepted", "redrawn", "rejected")

Mask = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The current state of an annotation.

    Attributes:
        version: number of decisions so far; 0 before the first.
        state: filled, accepted, rejected or redrawn.
        by, when: reviewer and time (UTC, ISO 8601); None if nobody decided, or the file
            does not say.
        mask: replaces the file's mask: segmentation, area and, if a model drew it,
            model, score and box.
    """

    version: int
    state: str
    by: str | None = None
    when: str | None = None
    mask: Mask | None = None


class ConflictError(Exception):
    """Another reviewer decided in the meantime; `current` is that decision."""

    def __init__(self, position: int, current: Decision) -> None:
        super().__init__(f"version {current.version} by {current.by}")
        self.position, self.current = position, current


class Decisions:
    """The journal of a review. Every decision is on the disk before `decide` returns.

    A line has the annotation's position and id, its new version, state, by, when and
    new mask, if any. `before` holds the first and last byte + 1 of the line that an
    undo restores, or null for the state in the file. A line without `before` restored
    the state in the file. `of` is the beginning of the file's digest. A last line that
    is cut off was never confirmed and is dropped. A damaged line stays in the journal
    and costs its decision alone.

    Args:
        path: the journal.
        index: of the reviewed file.
        own: returns the state in the file of a position.
    Attributes:
        states: uint8 [n], the current code of STATES of every position.
        damaged: numbers of the damaged lines, from 1.
    Raises:
        InputError: another review uses the journal, or it belongs to another file.
    """

    def __init__(self, path: Path, index: ReviewIndex, own: Callable[[int], Decision]) -> None:
        count = len(index.ids)
        self._index, self._own = index, own
        self.states: NDArray[np.uint8] = index.states.copy()
        self._versions: NDArray[np.int32] = np.zeros(count, dtype=np.int32)
        self._spans: NDArray[np.int64] = np.zeros((count, 2), dtype=np.int64)  # 0, 0: no line
        self._people: list[str] = [""]
        self._by: NDArray[np.int32] = np.zeros(count, dtype=np.int32)
        self._lock = threading.Lock()
        self.damaged: list[int] = []
        self._journal = JsonLines(path, BUSY, MOVED)
        try:
            self._read()
        except BaseException:
            self._journal.close()
            raise

    def close(self) -> None:
        self._journal.close()

    def current(self, position: int) -> Decision:
        """Returns the current state of an annotation in the review."""
        with self._lock:
            return self._current(position)

    def decide(
        self, position: int, version: int, state: str, *, by: str, mask: Mask | None = None
    ) -> Decision:
        """Writes a decision to the journal.

        Args:
            position: of the annotation.
            version: the version that the reviewer saw.
            state: accepted, rejected or redrawn.
            by: the reviewer.
            mask: as in `Decision`; None keeps the current mask.
        Raises:
            ConflictError: the annotation has another version by now.
            OSError: the journal cannot be written; nothing has changed.
        """
        with self._lock:
            before = self._current(position)
            if before.version != version:
                raise ConflictError(position, before)
            after = Decision(
                version=version + 1,
                state=state,
                by=by,
                when=_now(),
                mask=before.mask if mask is None else mask,
            )
            return self._note(position, after, {"before": self._span(position)})

    def undo(self, position: int, version: int, by: str) -> Decision:
        """Restores the state before the annotation's last decision, by another line.

        Raises:
            ConflictError: the annotation has another version by now, or there is no
                decision.
            OSError: the journal cannot be written; nothing has changed.
        """
        with self._lock:
            now, span = self._current(position), self._span(position)
            line = {} if span is None else self._journal.read(*span)
            if now.version != version or "before" not in line:
                raise ConflictError(position, now)
            more: dict[str, Any] = {"undone": {"by": by, "when": _now()}}
            if line["before"] is None:
                old = self._own(position)
            else:
                earlier = self._journal.read(*line["before"])
                old = _decision(earlier)
                more |= {"before": earlier["before"]} if "before" in earlier else {}
            return self._note(position, replace(old, version=version + 1), more)

    def decided(self) -> Iterator[tuple[int, Decision]]:
        """Yields the positions and decisions that differ from the file, in its order.

        Decisions after the first item do not appear.
        """
        with self._lock:
            positions = np.flatnonzero(self._versions).tolist()
            spans = self._spans[positions].tolist()
        for position, span in zip(positions, spans, strict=True):
            line = self._journal.read(*span)
            if "before" in line:
                yield position, _decision(line)

    def reviewers(self) -> dict[str, dict[str, int]]:
        """Returns name → state → number of annotations."""
        with self._lock:
            counts = np.bincount(
                self._by * len(STATES) + self.states, minlength=len(self._people) * len(STATES)
            )
            table = counts.reshape(-1, len(STATES)).tolist()
        return {
            name: {state: row[STATES.index(state)] for state in DECIDED}
            for name, row in zip(self._people[1:], table[1:], strict=True)
            if sum(row)
        }

    def _current(self, position: int) -> Decision:
        span = self._span(position)
        return self._own(position) if span is None else _decision(self._journal.read(*span))

    def _span(self, position: int) -> tuple[int, int] | None:
        start, end = self._spans[position].tolist()
        return (start, end) if end else None

    def _note(self, position: int, now: Decision, more: dict[str, Any]) -> Decision:
        line = {
            "at": position,
            "id": int(self._index.ids[position]),
            "of": self._of,
            "version": now.version,
            "state": now.state,
            "by": now.by or "",
            "when": now.when,
            **({"mask": now.mask} if now.mask else {}),
            **more,
        }
        self._set(position, line, self._journal.append(line))
        return now

    def _set(self, position: int, line: dict[str, Any], span: tuple[int, int]) -> None:
        self._spans[position] = span
        self._versions[position] = line["version"]
        self.states[position] = STATES.index(line["state"])
        by = line["by"] if "before" in line else ""  # the file's state: nobody in this review
        if by not in self._people:
            self._people.append(by)
        self._by[position] = self._people.index(by)

    def _read(self) -> None:
        """Reads the journal of an earlier review, or begins one."""
        good = whole = 0
        for number, line in enumerate(self._journal.lines(), 1):
            if line.cut_off:
                break
            whole += line.record is not None
            good, record = line.end, line.record
            self.damaged += [number] if line.damaged else []
            if record is None:
                continue
            if number == 1:
                self._check_header(record)
            elif not self._fits(record):
                raise InputError(
                    f"{self._journal.path}: line {number} is not a decision about this file; "
                    "move the journal away"
                )
            else:
                self._set(record["at"], record, (line.start, line.end))
        if good and not whole:
            raise InputError(
                f"{self._journal.path}: not the journal of a review, or damaged in every line; "
                "move it away, or name another with --journal"
            )
        self._journal.cut(good)
        if self.damaged:
            logger.warning(
                "%s: damaged: line %s; what these decisions said is lost, all others are here",
                self._journal.path,
                listed(self.damaged, 5),
            )
        if not good:
            self._journal.append({"review": 1, "input": self._index.digest, "version": __version__})

    @property
    def _of(self) -> str:
        return self._index.digest[:16]

    def _check_header(self, line: dict[str, Any]) -> None:
        path = self._journal.path
        if line.get("review") != 1:
            raise InputError(
                f"{path}: not the journal of a review; move it away, or name another with --journal"
            )
        if line.get("input") != self._index.digest:
            raise InputError(
                f"{path}: has decisions about another version of this file; restore that "
                "version, or move the journal away, or name another with --journal"
            )

    def _fits(self, line: dict[str, Any]) -> bool:
        at, version, by = line.get("at"), line.get("version"), line.get("by")
        return (
            type(at) is int
            and 0 <= at < len(self.states)
            and line.get("id") == self._index.ids[at]
            and line.get("of") == self._of
            and type(version) is int
            # After a damaged line a version may be missing.
            and (
                version == self._versions[at] + 1
                or (len(self.damaged) > 0 and version > self._versions[at])
            )
            and line.get("state") in STATES[1:]
            and isinstance(by, str)
            and "when" in line
        )


def _decision(line: dict[str, Any]) -> Decision:
    fields: dict[str, Any] = {key: line.get(key) for key in ("version", "state", "when", "mask")}
    return Decision(by=line["by"] or None, **fields)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
