"""The finished batches of a long job, kept beside its output so that a killed job continues."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.files.atomic import writing
from halfmask.files.json_lines import JsonLines
from halfmask.files.prints import FilePrint, changed_of, prints_of
from halfmask.text import listed, plural

logger = logging.getLogger(__name__)

BUSY = "another run is writing the same output; wait for it, or choose another --out"


def journal_of(out: Path) -> Path:
    """Returns the path of an output's journal, which exists until the output is complete."""
    return out.with_name(f"{out.name}.journal")


def run_of(out: Path) -> Path:
    """Returns the folder of the run that `complete auto` makes for an output."""
    place = out if out.name not in ("", "..") else out.resolve()
    return place.with_name(f"{place.name}.run")


class Journal:
    """An append-only file of JSON lines that makes a job resumable.

    A header identifies the job; one line follows for each finished batch. A line is on
    the disk before `append` returns. A last line that was cut off is dropped when the
    job continues; a damaged line costs its batch alone. Use it as a context manager;
    the file stays until `remove`.

    Attributes:
        header: of this run, or of the run that began the job.
        batches: number of a finished batch → its result, from earlier runs.
        resumed: whether an earlier run began the same job.
    """

    def __init__(
        self,
        path: Path,
        job: dict[str, Any],
        notes: dict[str, Any] | None = None,
        *,
        accept_changes: bool = False,
    ) -> None:
        """Opens the journal or begins it.

        Args:
            path: the file.
            job: what must be equal for the finished batches to be of use.
            notes: what the header of the run that begins the job also says (the date);
                not compared.
            accept_changes: whether the journal of another job is replaced.
        Raises:
            InputError: another process holds it, it is of another job, or no journal.
        """
        self.path = path
        self.batches: dict[int, Any] = {}
        self._of: dict[int, dict[str, FilePrint]] = {}
        self._digest = _digest(job)
        self._lines = JsonLines(path, BUSY)
        try:
            header, good = self._read(job, accept_changes)
            self.resumed = good > 0
            self._lines.cut(good)
            self._count = len(self.batches)
            self.header = header or {"job": job, **(notes or {})}
            if not self.resumed:
                self._append(self.header)
        except BaseException:
            self._lines.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        if self._count == 0:
            self.remove()  # the next run has no use for a header alone

    def append(self, batch: int, result: Any, photographs: Iterable[Path] = ()) -> None:
        """Notes that a batch is finished.

        Args:
            batch: its number.
            result: what it gave.
            photographs: files that it was made from.
        Raises:
            InputError: it cannot be written (the disk is full); earlier notes stay.
        """
        files = prints_of(photographs)
        more = {"photographs": files} if files else {}
        self._append({"of": self._digest, "batch": batch, "result": result, **more})
        self._count += 1

    def check_photographs(self, accept_changes: bool) -> None:
        """Looks whether the photographs of the finished batches are what they were.

        Args:
            accept_changes: whether the batches of changed ones are forgotten, to be
                done again.
        Raises:
            InputError: some changed, and that is not accepted.
        """
        changed = {batch: changed_of(prints) for batch, prints in self._of.items()}
        names = sorted({path for paths in changed.values() for path in paths})
        if names and not accept_changes:
            raise InputError(
                f"{self.path}: {plural(len(names), 'photograph')} changed since the run began, "
                f"such as {names[0]}: restore it, or go on with --accept-changes, which does "
                "them again"
            )
        for batch in [batch for batch, paths in changed.items() if paths]:
            del self.batches[batch]

    def remove(self) -> None:
        """Removes the file, once the output is written."""
        self.path.unlink(missing_ok=True)

    def _append(self, record: dict[str, Any]) -> None:
        with writing(self.path):
            self._lines.append(record)

    def _read(self, job: dict[str, Any], accept_changes: bool) -> tuple[dict[str, Any] | None, int]:
        """The header of an earlier run of this job, and where the last line to keep ends."""
        header, other, good, damaged, seen = None, None, 0, [], 0
        for seen, line in enumerate(self._lines.lines(), 1):
            if line.cut_off:
                break
            good, record = line.end, line.record
            damaged += [seen] if line.damaged else []
            if record is None:
                continue
            if isinstance(record.get("job"), dict):
                header, other = (record, None) if record["job"] == job else (None, record["job"])
            elif type(record.get("batch")) is int and record.get("of") == self._digest:
                self.batches[record["batch"]] = record.get("result")
                self._of[record["batch"]] = record.get("photographs", {})
        if not good or (header is None and not self.batches):
            if good and not accept_changes:
                raise InputError(f"{self.path}: {_refusal(other, job)}")
            if good:
                logger.warning("%s: %s", self.path, "begun anew, as changes are accepted")
            return None, 0
        if damaged:
            lines = "line" if len(damaged) == 1 else "lines"
            logger.warning(
                "%s: %s %s damaged: what is lost is done again",
                self.path,
                f"{lines} {listed(list(map(str, damaged)), 5)}",
                "is" if len(damaged) == 1 else "are",
            )
        return header, good


def _digest(job: dict[str, Any]) -> str:
    text = json.dumps(job, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _refusal(other: dict[str, Any] | None, job: dict[str, Any]) -> str:
    if other is None:
        return (
            "not a journal of halfmask, or damaged in every line: move it away, or begin anew "
            "with --accept-changes"
        )
    changed = [NAMES.get(key, key) for key in job if other.get(key) != job[key]]
    what = " and ".join(changed[:3]) or "settings"
    return (
        f"a run with {'other' if changed else 'more'} {what} began here: give the same again, or "
        "begin anew with --accept-changes"
    )


NAMES = {
    "input": "annotations",
    "images": "photographs' folder",
    "frame": "orientation of the photographs",
    "beside": "model to compare with",
    "redo": "options",
    "added": "added objects",
    "batch": "sizes of batches",
    "looks": "looks at each box (--effort)",
    "max_size": "size of photographs (--max-size)",
}
"""Key of a job → what a person calls it."""
