"""The finished batches of a long job, kept beside its output so that a killed job continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask.files.atomic import writing
from halfmask.files.json_lines import JsonLines

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
    job continues. Use it as a context manager; the file stays until `remove`.

    Attributes:
        header: of this run, or of the run that began the job.
        batches: number of a finished batch → its result, from earlier runs.
        resumed: whether an earlier run began the same job.
        replaced: whether the journal of another job (other input, model or settings)
            was here and was dropped.
    """

    def __init__(
        self, path: Path, job: dict[str, Any], notes: dict[str, Any] | None = None
    ) -> None:
        """Opens the journal or begins it.

        Args:
            path: the file.
            job: what must be equal for the finished batches to be of use.
            notes: what the header of the run that begins the job also says (the date);
                not compared.
        Raises:
            InputError: another process holds it.
        """
        self.path = path
        self.batches: dict[int, Any] = {}
        self._lines = JsonLines(path, BUSY)
        try:
            header, good = self._read(job)
            self.resumed = header is not None
            self.replaced = not self.resumed and path.stat().st_size > 0
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

    def append(self, batch: int, result: Any) -> None:
        """Notes that a batch is finished.

        Raises:
            InputError: it cannot be written (the disk is full); earlier notes stay.
        """
        self._append({"batch": batch, "result": result})
        self._count += 1

    def remove(self) -> None:
        """Removes the file, once the output is written."""
        self.path.unlink(missing_ok=True)

    def _append(self, record: dict[str, Any]) -> None:
        with writing(self.path):
            self._lines.append(record)

    def _read(self, job: dict[str, Any]) -> tuple[dict[str, Any] | None, int]:
        """The header of an earlier run of this job, and where its last whole line ends."""
        header, good = None, 0
        for _, end, record in self._lines.lines():
            if header is None:
                if record is None or record.get("job") != job:
                    break
                header = record
            elif record is not None and isinstance(record.get("batch"), int) and "result" in record:
                self.batches[record["batch"]] = record["result"]
            else:
                break
            good = end
        return header, good
