"""Counts what a conversion could not carry over, so that nothing is lost silently."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """Two counts: `faults` of the source (something in it cannot be read) and `notes`
    (the target has no place for it).

    Attributes:
        faults, notes: sentence → how often.
        first: sentence → where it was met first: a file and line, or an id.
    """

    faults: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def fault(self, what: str, where: object = "", times: int = 1) -> None:
        """Counts something that is wrong in the source. `what` is a noun in the plural
        and what became of it.
        """
        self._count(self.faults, what, where, times)

    def note(self, what: str, where: object = "", times: int = 1) -> None:
        """Counts something that the target cannot express."""
        self._count(self.notes, what, where, times)

    def lines(self, counts: dict[str, int]) -> list[str]:
        """One line for each sentence, the most frequent first."""
        ranked = sorted(counts.items(), key=lambda item: -item[1])
        return [
            f"{count} {what}" + (f" (first: {self.first[what]})" if self.first[what] else "")
            for what, count in ranked
        ]

    def as_json(self) -> dict[str, Any]:
        """Both counts, with the place of the first."""
        counts = {"faults": self.faults, "notes": self.notes}
        return {
            key: [
                {"what": what, "count": count, "first": self.first[what]}
                for what, count in rows.items()
            ]
            for key, rows in counts.items()
        }

    def _count(self, counts: dict[str, int], what: str, where: object, times: int) -> None:
        if times:
            counts[what] = counts.get(what, 0) + times
            self.first.setdefault(what, str(where))
