"""The options of a conversion, and its report of everything it could not carry over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from halfmask.coco.problems import Problem
from halfmask.progress import Progress


def _ignore(step: int, total: int) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a conversion. Each format uses some of them.

    Attributes:
        images: folder of the photographs.
        masks: folder of the mask PNGs.
        split: the part of the source to read.
        zero_based: VOC boxes count pixels from 0 and exclude the last one.
        image_url: prefix of file names in Label Studio; None: local storage.
        predictions: Label Studio's predictions of tasks without an annotation are read.
        whole: read all parts, and keep what writing the same files again needs.
        tolerance: pixels that polygons of a model's masks may be from their border.
        copy: photographs are copied into the folder that is written, not linked.
        advance: called with the steps just made and the steps in all.
    """

    images: Path | None = None
    masks: Path | None = None
    split: str | None = None
    zero_based: bool = False
    image_url: str | None = None
    predictions: bool = False
    whole: bool = False
    tolerance: float | None = None
    copy: bool = False
    advance: Callable[[int, int], None] = _ignore

    def advance_bytes(self, path: Path, reads: int = 1) -> Callable[[int], None]:
        """Returns a function that reports bytes read from a file, which is read several times."""
        total = reads * path.stat().st_size if path.is_file() else 0
        return lambda read: self.advance(read, total)

    def given(self) -> list[str]:
        """Returns the command line's names of the options that are set."""
        values = {
            key: value for key, value in vars(self).items() if key not in ("advance", "whole")
        }
        return [
            f"--{key.replace('_', '-')}"
            for key, value in values.items()
            if value is not None and value is not False
        ]


def steps_to(progress: Progress | None, title: str) -> Callable[[int, int], None]:
    """Returns an `advance` that reports the steps made so far."""
    done = 0

    def advance(step: int, total: int) -> None:
        nonlocal done
        done += step
        if progress is not None:
            progress(title, done, total)

    return advance


@dataclass
class ConversionReport:
    """Counts everything that a conversion could not carry over.

    Attributes:
        faults: sentence → count, for parts of the source that cannot be read.
        notes: sentence → count, for content that the target format cannot express.
        first: sentence → the first occurrence, as file and line or as id.
    """

    faults: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def fault(self, what: str, where: object = "", times: int = 1) -> None:
        """Counts an error in the source.

        Args:
            what: a plural noun and the consequence: "masks that are broken: left out".
            where: file and line, or id.
            times: number of occurrences.
        """
        self._count(self.faults, what, where, times=times)

    def note(self, what: str, where: object = "", times: int = 1) -> None:
        """Counts content that the target cannot express; arguments as for `fault`."""
        self._count(self.notes, what, where, times=times)

    def lines(self, counts: dict[str, int]) -> list[str]:
        """Returns a line for each sentence of `faults` or `notes`, most frequent first."""
        ranked = sorted(counts.items(), key=lambda item: -item[1])
        return [
            f"{count} {what}" + (f" (first: {self.first[what]})" if self.first[what] else "")
            for what, count in ranked
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns both counts, each sentence with its first occurrence."""
        counts = {"faults": self.faults, "notes": self.notes}
        return {
            key: [{"what": w, "count": n, "first": self.first[w]} for w, n in rows.items()]
            for key, rows in counts.items()
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ConversionReport:
        """Reads what `to_json` returns."""
        report = cls()
        for counts, rows in ((report.faults, "faults"), (report.notes, "notes")):
            for row in document[rows]:
                report._count(counts, row["what"], row["first"], times=row["count"])
        return report

    def add(self, other: ConversionReport) -> None:
        """Adds what another report counts."""
        for own, counts in ((self.faults, other.faults), (self.notes, other.notes)):
            for what, count in counts.items():
                self._count(own, what, other.first[what], times=count)

    def _count(self, counts: dict[str, int], what: str, where: object, *, times: int) -> None:
        if times:
            counts[what] = counts.get(what, 0) + times
            self.first.setdefault(what, str(where))


class Suspects(Protocol):
    """A COCO file that says how it is read otherwise than as COCO; see `CocoFile`."""

    @property
    def readings(self) -> Sequence[Problem]: ...
    @property
    def suspected(self) -> Sequence[Problem]: ...


def note_findings(report: ConversionReport, file: Suspects) -> None:
    """Counts what is read although COCO writes it otherwise, and suspected conventions.

    A suspicion and an unreadable part of a mask are faults, the rest are notes.
    """
    for problem in [*file.readings, *file.suspected]:
        is_fault = problem.facts.severity == "problem"
        (report.fault if is_fault else report.note)(problem.facts.heading, problem.message)
