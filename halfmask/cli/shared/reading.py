"""Prints what a verb could not read or write of a data set, and what it added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from halfmask.terminal import say
from halfmask.text import listed, with_counts

if TYPE_CHECKING:
    from halfmask.formats.report import ConversionReport
    from halfmask.inference.complete.additions import Additions


def show_report(report: ConversionReport) -> bool:
    """Prints notes to stdout and problems to stderr; returns whether there is no problem."""
    for note in report.lines(report.notes):
        say(f"note: {note}")
    for problem in report.lines(report.faults):
        say(f"problem: {problem}", err=True)
    return not report.faults


def fail_if_unread(report: ConversionReport) -> None:
    """Prints a report and ends with exit code 1 if there is a problem in it."""
    if not show_report(report):
        raise typer.Exit(1)


def show_additions(found: Additions | None, verb: str) -> None:
    """Prints what a detector added, and what of its detections it did not add."""
    if found is None:
        return
    classes = ", ".join(with_counts(found.added))
    say(
        f"objects of {found.detector} {verb}: {sum(found.added.values())}"
        + (f", {classes}" if classes else "")
    )
    say(
        f"of its other detections {found.known_already} overlap a box, "
        f"{found.in_crowd} lie in a crowd"
    )
    if found.unknown:
        names = listed(with_counts(found.unknown), 10)
        say(f"not added, classes that the file lacks: {names}")
