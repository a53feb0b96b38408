"""What a long job has finished, kept beside its output, so that a job that was killed
goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmask.files.atomic import writing
from halfmask.files.json_lines import JsonLines

BUSY = "another run is writing the same output; wait for it, or choose another --out"


class Journal:
    """An append-only file of JSON lines: a header that says which job this is, then one
    line a finished batch.

    A line is on the disk before `append` returns. A last line that was cut off in the
    middle is dropped when the job goes on. Use it as a context manager; it stays where
    it is until `remove`.

    Attributes:
        header: the job's, of this run or of the one that began it.
        batches: number of a finished batch → what it gave, of earlier runs.
        resumed: whether an earlier run had begun the same job.
        replaced: whether a journal of another job (other input, model or settings) lay
            there and gave way.
    """

    def __init__(
        self, path: Path, job: dict[str, Any], notes: dict[str, Any] | None = None
    ) -> None:
        """Opens the journal or begins it.

        Args:
            path: the file.
            job: what must be the same for the finished batches to be of use.
            notes: kept in the header of the run that begins the job, not compared (the
                date).
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
            self.remove()  # a header alone is worth nothing to the next run

    def append(self, batch: int, result: Any) -> None:
        """Writes down that a batch is finished.

        Raises:
            InputError: it cannot be written (the disk is full); what was noted before
                stays.
        """
        self._append({"batch": batch, "result": result})
        self._count += 1

    def remove(self) -> None:
        """The job is done and its output written."""
        self.path.unlink(missing_ok=True)

    def _append(self, record: dict[str, Any]) -> None:
        with writing(self.path):
            self._lines.append(record)

    def _read(self, job: dict[str, Any]) -> tuple[dict[str, Any] | None, int]:
        """The header of an earlier run of this job, and up to which byte its lines are whole."""
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
