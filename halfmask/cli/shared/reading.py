"""Prints what a verb could not read of a data set, or could not write of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from halfmask.terminal import say

if TYPE_CHECKING:
    from halfmask.formats.report import ConversionReport


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
