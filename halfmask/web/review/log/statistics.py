"""Statistics of a review, and the changes since a place in its journal."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from halfmask.web import schema
from halfmask.web.review.index import STATES
from halfmask.web.review.log.decision import decision_of
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.log.journal import Entry, Record
from halfmask.web.review.log.steps import REDO, UNDO, actor_of, time_of
from halfmask.web.review.table import ORIGINS

DECISIVE = {"accepted": "good", "confirmed": "good", "rejected": "bad", "deleted": "bad"}
"""What a decision says of a mask; one that is redrawn was bad, too."""
MOST_CHANGES = 500


@dataclass(frozen=True)
class PeopleMasks:
    """How many of the file's masks of people were looked at, and found wrong.

    Attributes:
        looked_at: masks that somebody decided about or changed.
        wrong: those of them that are rejected, deleted, drawn again, or have another
            class or box.
    """

    looked_at: int = 0
    wrong: int = 0


@dataclass
class _Person:
    """What a reviewer has done."""

    actions: int = 0
    first: str | None = None
    last: str | None = None
    hours: set[str] = field(default_factory=set)


class Statistics:
    """Counts the lines of the journal; each is read once."""

    def __init__(self, decisions: Decisions) -> None:
        self._log, self._read = decisions, 0
        self._lock = threading.Lock()
        self._people: defaultdict[str, _Person] = defaultdict(_Person)
        self._hours: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._judged: dict[int, tuple[str, str]] = {}
        self._pairs: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])

    def view(self) -> schema.StatisticsView:
        """Returns the statistics up to now."""
        with self._lock:
            self._catch_up()
            pairs = [
                schema.PairRow(first=first, second=second, same=same, differs=differs)
                for (first, second), (same, differs) in sorted(self._pairs.items())
            ]
            same, differs = (sum(getattr(p, k) for p in pairs) for k in ("same", "differs"))
            agreement = schema.Agreement(
                second_decisions=same + differs, same=same, differs=differs, pairs=pairs
            )
            hours = [
                schema.HourRow(hour=hour, by=dict(by)) for hour, by in sorted(self._hours.items())
            ]
            reviewers = self._reviewers()
        return schema.StatisticsView(
            classes=self._classes(),
            reviewers=reviewers,
            hours=hours,
            agreement=agreement,
            comments=self.comments(),
            damaged_lines=len(self._log.damaged),
        )

    def comments(self) -> dict[str, int]:
        """Returns the numbers of open and closed comments."""
        comments = self._log.comments
        found = [remark for p in comments.positions() for remark in comments.of(p)]
        count = sum(remark.open for remark in found)
        return {"open": count, "closed": len(found) - count}

    def open_comments(self) -> int:
        """Returns the number of open comments."""
        comments = self._log.comments
        return sum(comments.open_at(p) for p in comments.positions(only_open=True))

    def _catch_up(self) -> None:
        """Reads the lines since the last time."""
        end = self._log.journal.end
        for entry in self._log.journal.after(self._read, end):
            self._note(entry)
        self._read = end

    def _note(self, entry: Entry) -> None:
        line = entry.record
        by, when = actor_of(line), time_of(line)
        if not by or when is None:
            return
        person, hour = self._people[by], f"{when[:13]}:00Z"
        person.actions += 1
        person.first, person.last = person.first or when, when
        person.hours.add(hour)
        self._hours[hour][by] += 1
        if "at" in line and "comment" not in line:
            self._judge(line, by)

    def _judge(self, line: Record, by: str) -> None:
        """Compares a decision with an earlier one by another reviewer."""
        at, what = line["at"], line.get("what")
        if what in (UNDO, REDO, "revert") or "undone" in line:
            self._judged.pop(at, None)
            return
        redrawn = line["state"] == "redrawn" and what in (None, "redraw")
        says = "bad" if redrawn else DECISIVE.get(line["state"])
        if says is None or what in ("class", "box", "split", "merge", "add"):
            return
        earlier = self._judged.get(at)
        if earlier is not None and earlier[0] != by:
            self._pairs[earlier[0], by][says != earlier[1]] += 1
        # Whoever redraws a mask holds the new one for good.
        self._judged[at] = (by, "good" if redrawn else says)

    def _reviewers(self) -> list[schema.ReviewerRow]:
        states = self._log.reviewers()
        return [
            schema.ReviewerRow(
                name=name,
                actions=person.actions,
                states=states.get(name, {}),
                first=person.first,
                last=person.last,
                per_hour=round(person.actions / max(1, len(person.hours)), 1),
            )
            for name, person in sorted(self._people.items())
        ]

    def _classes(self) -> list[schema.ClassRow]:
        table = self._log.table
        categories, size = table.index.categories, len(STATES)
        known = np.flatnonzero(table.states)
        rows, states, scores = table.classes[known], table.states[known], table.scores[known]
        counts = np.bincount(rows * size + states, minlength=len(categories) * size)
        scored = scores >= 0
        sums = np.bincount(rows[scored], weights=scores[scored], minlength=len(categories))
        numbers = np.bincount(rows[scored], minlength=len(categories))
        return [
            schema.ClassRow(
                id=category["id"],
                name=str(category.get("name")).encode("utf-8", "replace").decode(),
                states={
                    state: int(counts[row * size + code])
                    for code, state in enumerate(STATES)
                    if state and counts[row * size + code]
                },
                mean_score=round(float(sums[row] / numbers[row]), 4) if numbers[row] else None,
            )
            for row, category in enumerate(categories)
            if counts[row * size : (row + 1) * size].any()
        ]


def people_masks(log: Decisions) -> PeopleMasks:
    """Counts what became of the masks of people that the file had."""
    looked_at = wrong = 0
    table, index = log.table, log.table.index
    for position, now in log.decided():
        if table.origins[position] == ORIGINS.index("person"):
            looked_at += 1
            wrong += (
                now.state in ("rejected", "deleted")
                or now.mask is not None
                or bool(table.classes[position] != index.classes[position])
                or bool((table.boxes[position] != index.boxes[position]).any())
            )
    return PeopleMasks(looked_at, wrong)


def changes_since(log: Decisions, since: int, by: str) -> schema.ChangesView:
    """Returns what others changed since a place in the journal.

    Args:
        log: the decisions.
        since: `seq` of an earlier answer.
        by: whose changes are left out.
    """
    end = log.journal.end
    if not log.journal.is_start(since):
        return schema.ChangesView(seq=end, changes=[], more=False, reset=True)
    found: list[schema.ChangeView] = []
    for entry in log.journal.after(since, end):
        since = entry.span[1]
        found += _change(entry, by)
        if len(found) >= MOST_CHANGES:
            break
    else:
        since = end
    return schema.ChangesView(seq=since, changes=found, more=since < end, reset=False)


def _change(entry: Entry, by: str) -> Iterator[schema.ChangeView]:
    line, actor = entry.record, actor_of(entry.record)
    if actor == by or "at" not in line:
        return
    now = None if "comment" in line else decision_of(line, entry.span)
    yield schema.ChangeView(
        position=line["at"],
        by=actor,
        when=time_of(line),
        what=str(line.get("what") or (now.what if now else "")),
        version=now.version if now else 0,
        state=now.state if now else "",
        category=now.category if now else None,
    )
