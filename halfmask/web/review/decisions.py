"""What reviewers decided: an append-only journal beside the reviewed file, and the
current state of every annotation.
"""

from __future__ import annotations

import datetime
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
from halfmask.web.review.index import STATES, ReviewIndex

BUSY = "another review of the same file is running; use its page, or stop it first"
DECIDED = ("accepted", "redrawn", "rejected")

Mask = dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """The current state of an annotation.

    Attributes:
        version: counts the decisions about it; 0 before the first.
        state: filled, accepted, rejected or redrawn.
        by, when: who decided and when (UTC, ISO 8601); None where nobody did, or the
            file does not say.
        mask: of a mask that is not the file's: segmentation, area and, of a model's,
            model, score and box.
    """

    version: int
    state: str
    by: str | None = None
    when: str | None = None
    mask: Mask | None = None


class ConflictError(Exception):
    """Somebody else decided in the meantime; `current` is what holds now."""

    def __init__(self, current: Decision) -> None:
        super().__init__(f"version {current.version} by {current.by}")
        self.current = current


class Decisions:
    """The journal of a review. Every decision is on the disk before `decide` returns;
    the states are held in arrays.

    A line names the annotation's position and id, its new version, state, by, when and
    new mask if there is one, and in `before` the bytes of the line that held until
    then, null for the file's own state: what an undo goes back to. One without `before`
    went back to the file itself. A last line that was cut off was never confirmed to
    anyone and is dropped.

    Args:
        path: the journal.
        index: of the reviewed file.
        own: what the file itself says of a position.
    Attributes:
        states: uint8 [n], the current code of STATES of every position.
    Raises:
        InputError: another review holds it, it belongs to another file, or a line in
            its middle is damaged.
    """

    def __init__(self, path: Path, index: ReviewIndex, own: Callable[[int], Decision]) -> None:
        count = len(index.ids)
        self._index, self._own = index, own
        self.states: NDArray[np.uint8] = index.states.copy()
        self._versions: NDArray[np.int32] = np.zeros(count, dtype=np.int32)
        self._places: NDArray[np.int64] = np.zeros((count, 2), dtype=np.int64)  # 0, 0: no line
        self._people: list[str] = [""]
        self._by: NDArray[np.int32] = np.zeros(count, dtype=np.int32)
        self._lock = threading.Lock()
        self._journal = JsonLines(path, BUSY)
        try:
            self._read()
        except BaseException:
            self._journal.close()
            raise

    def close(self) -> None:
        self._journal.close()

    def current(self, position: int) -> Decision:
        """What holds for an annotation that is reviewed."""
        with self._lock:
            return self._current(position)

    def decide(
        self, position: int, version: int, state: str, by: str, mask: Mask | None = None
    ) -> Decision:
        """Notes a decision.

        Args:
            position: the annotation's.
            version: the one that the reviewer saw.
            state: accepted, rejected or redrawn.
            by: the reviewer.
            mask: as in `Decision`; None keeps the mask that holds.
        Raises:
            ConflictError: the annotation has another version by now.
            OSError: the disk refused; nothing has changed.
        """
        with self._lock:
            before = self._current(position)
            if before.version != version:
                raise ConflictError(before)
            after = Decision(version + 1, state, by, _now(), before.mask if mask is None else mask)
            return self._note(position, after, {"before": self._place(position)})

    def undo(self, position: int, version: int, by: str) -> Decision:
        """Goes back to what held before the annotation's last decision; itself a line
        of the journal.

        Raises:
            ConflictError: the annotation has another version by now, or nothing was
                decided.
            OSError: the disk refused; nothing has changed.
        """
        with self._lock:
            now, place = self._current(position), self._place(position)
            line = {} if place is None else self._journal.read(*place)
            if now.version != version or "before" not in line:
                raise ConflictError(now)
            more: dict[str, Any] = {"undone": {"by": by, "when": _now()}}
            if line["before"] is None:
                old = self._own(position)
            else:
                earlier = self._journal.read(*line["before"])
                old = _decision(earlier)
                more |= {"before": earlier["before"]} if "before" in earlier else {}
            return self._note(position, replace(old, version=version + 1), more)

    def decided(self) -> Iterator[tuple[int, Decision]]:
        """Positions and decisions that are not the file's own, in the file's order, as
        they are at this moment.
        """
        with self._lock:
            positions = np.flatnonzero(self._versions).tolist()
            places = self._places[positions].tolist()
        for position, place in zip(positions, places, strict=True):
            line = self._journal.read(*place)
            if "before" in line:
                yield position, _decision(line)

    def reviewers(self) -> dict[str, dict[str, int]]:
        """Who decided what: name → state → annotations."""
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
        place = self._place(position)
        return self._own(position) if place is None else _decision(self._journal.read(*place))

    def _place(self, position: int) -> tuple[int, int] | None:
        start, end = self._places[position].tolist()
        return (start, end) if end else None

    def _note(self, position: int, now: Decision, more: dict[str, Any]) -> Decision:
        line = {
            "at": position,
            "id": int(self._index.ids[position]),
            "version": now.version,
            "state": now.state,
        }
        line |= {
            "by": now.by or "",
            "when": now.when,
            **({"mask": now.mask} if now.mask else {}),
            **more,
        }
        self._set(position, line, self._journal.append(line))
        return now

    def _set(self, position: int, line: dict[str, Any], place: tuple[int, int]) -> None:
        self._places[position] = place
        self._versions[position] = line["version"]
        self.states[position] = STATES.index(line["state"])
        by = (
            line["by"] if "before" in line else ""
        )  # what the file itself says is nobody's work in this review
        if by not in self._people:
            self._people.append(by)
        self._by[position] = self._people.index(by)

    def _read(self) -> None:
        """Takes in the journal of an earlier review, or begins one."""
        torn = None
        good = 0
        for number, (start, end, line) in enumerate(self._journal.lines(), 1):
            if torn is not None:
                raise InputError(
                    f"{self._journal.path}: line {torn} is damaged; mend it, or put the file aside"
                )
            if line is None:
                torn = number
                continue
            if number == 1:
                self._check_header(line)
            elif not self._fits(line):
                raise InputError(
                    f"{self._journal.path}: line {number} is no decision about this file; put "
                    "it aside"
                )
            else:
                self._set(line["at"], line, (start, end))
            good = end
        self._journal.cut(good)
        if not good:
            self._journal.append({"review": 1, "input": self._index.digest, "version": __version__})

    def _check_header(self, line: dict[str, Any]) -> None:
        path = self._journal.path
        if line.get("review") != 1:
            raise InputError(
                f"{path}: is no journal of a review; put it aside, or name another with --journal"
            )
        if line.get("input") != self._index.digest:
            raise InputError(
                f"{path}: holds the review of another version of this file, whose decisions "
                "would be lost; put the old file "
                "back, or the journal aside, or name another with --journal"
            )

    def _fits(self, line: dict[str, Any]) -> bool:
        at, version, by = line.get("at"), line.get("version"), line.get("by")
        return (
            type(at) is int
            and 0 <= at < len(self.states)
            and line.get("id") == self._index.ids[at]
            and version == self._versions[at] + 1
            and line.get("state") in STATES[1:]
            and isinstance(by, str)
            and "when" in line
        )


def _decision(line: dict[str, Any]) -> Decision:
    return Decision(
        line["version"], line["state"], line["by"] or None, line["when"], line.get("mask")
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
