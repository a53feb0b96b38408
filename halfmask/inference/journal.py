"""What a long job has finished, kept beside its output, so that a job that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO, Any

from halfmask.errors import InputError


class Journal:
    """An append-only file of JSON lines: a header that says which job this is, then one line a finished batch.

    A line is on the disk before `append` returns. A last line that was cut off in the middle is dropped when the job goes on. Use it as a
    context manager; it stays where it is until `remove`.

    Attributes:
        header: the job's, of this run or of the one that began it.
        batches: number of a finished batch → what it gave, of earlier runs.
        resumed: whether an earlier run had begun the same job.
        replaced: whether a journal of another job (other input, model or settings) lay there and gave way.
    """

    def __init__(self, path: Path, job: dict[str, Any], notes: dict[str, Any] | None = None) -> None:
        """Opens the journal or begins it.

        Args:
            path: the file.
            job: what must be the same for the finished batches to be of use.
            notes: kept in the header of the run that begins the job, not compared (the date).
        Raises:
            InputError: another process holds it.
        """
        self.path = path
        self.batches: dict[int, Any] = {}
        self._file: IO[bytes] = _open_locked(path)
        try:
            header, good = self._read(job)
            self.resumed = header is not None
            self.replaced = not self.resumed and self._file.seek(0, os.SEEK_END) > 0
            self._file.truncate(good)
            self._file.seek(good)
            self._lines = len(self.batches)
            self.header = header or {"job": job, **(notes or {})}
            if not self.resumed:
                self._write(self.header)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._lines == 0:
            self.remove()  # a header alone is worth nothing to the next run

    def append(self, batch: int, result: Any) -> None:
        """Writes down that a batch is finished."""
        self._write({"batch": batch, "result": result})
        self._lines += 1

    def remove(self) -> None:
        """The job is done and its output written."""
        self.path.unlink(missing_ok=True)

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, job: dict[str, Any]) -> tuple[dict[str, Any] | None, int]:
        """The header of an earlier run of this job, and up to which byte its lines are whole."""
        self._file.seek(0)
        header = _parse(self._file.readline())
        if header is None or header.get("job") != job:
            return None, 0
        good = self._file.tell()
        while (record := _parse(self._file.readline())) is not None:
            if not isinstance(record.get("batch"), int) or "result" not in record:
                break
            self.batches[record["batch"]] = record["result"]
            good = self._file.tell()
        return header, good


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _open_locked(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("r+b" if path.exists() else "w+b")
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: two runs at once into one file are the user's to avoid
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise InputError(
            f"{path}: another run is writing the same output; wait for it, or choose another --out"
        ) from error
    return file
