"""Runs a plan: draws its batches, notes each in a journal, and writes the completed file."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from halfmask._version import __version__
from halfmask.coco.file import CocoFile
from halfmask.inference.complete import plan as planning
from halfmask.inference.complete.draw import MaskDrawer
from halfmask.inference.complete.filling import FilledMask
from halfmask.inference.complete.journal import Journal
from halfmask.inference.complete.output import copy_file, sweep, write_completed
from halfmask.inference.complete.plan import FillingPlan, Redo
from halfmask.inference.complete.ray import drawn_on_ray
from halfmask.inference.runtime.use import unusual
from halfmask.progress import Progress
from halfmask.text import plural

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FillingJob:
    """A file to fill.

    Attributes:
        source: the path of `file`.
        file: the file.
        target: where the completed file goes.
        work: what is to be filled.
        drawer: draws it.
        redo: which masks are drawn again: the output depends on it.
        journal: the file with the finished batches.
        accept_changes: whether to go on where the journal is of another job, or
            photographs have changed.
        finish: called with the completed file before the journal goes.
    """

    source: Path
    file: CocoFile
    target: Path
    work: FillingPlan
    drawer: MaskDrawer
    redo: Redo
    journal: Path
    accept_changes: bool
    finish: Callable[[Path], None]

    def run(
        self, progress: Progress, ray: str | None
    ) -> tuple[list[FilledMask], int, tuple[str, ...]]:
        """Fills the file, or finishes what an interrupted run began.

        Args:
            progress: called after each batch.
            ray: the address of a Ray cluster to draw on; None: this process draws.
        Returns:
            The masks in file order, how many of them an earlier run had finished, and a
            line for each photograph that cannot be read.
        """
        notes = {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
        path = self.journal
        try:
            accept = self.accept_changes
            with Journal(path, self._identity(), notes, accept_changes=accept) as journal:
                journal.check_photographs(accept)
                masks: dict[int, FilledMask] = {}
                for earlier in journal.batches.values():
                    masks.update((position, filling) for position, filling in earlier)
                resumed = len(masks)
                skipped = self._fill(masks, journal, progress, ray=ray)
                self._write(dict(sorted(masks.items())), journal.header["date"])
                self.finish(self.target)
                journal.remove()
        except KeyboardInterrupt:
            if path.exists():
                logger.warning("finished batches are saved; the same command continues from there")
            raise
        return [masks[position] for position in sorted(masks)], resumed, skipped

    def _identity(self) -> dict[str, Any]:
        """Everything the output bytes depend on."""
        drawer = self.drawer
        with self.source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {
            "input": digest,
            "images": str(drawer.reader.folder.resolve()),
            "frame": drawer.reader.ruling.identity,
            "model": drawer.predictor.identity,
            "beside": None if drawer.beside is None else drawer.beside.identity,
            "tolerance": drawer.tolerance,
            "loose": drawer.loose,
            "redo": asdict(self.redo),
            "added": self.work.added,
            "batch": [planning.BATCH_IMAGES, planning.BATCH_BOXES, planning.BATCH_PIXELS],
            "versions": [__version__, torch.__version__],
            "device": str(drawer.predictor.device),
            "looks": drawer.looks,
            "runtime": drawer.predictor.runtime,
            "max_size": drawer.predictor.max_size,
            "threads": torch.get_num_threads(),
        }

    def _fill(
        self, masks: dict[int, FilledMask], journal: Journal, progress: Progress, *, ray: str | None
    ) -> tuple[str, ...]:
        """Adds the masks of unfinished batches; returns why photographs were skipped."""
        batches, done = self.work.batches, len(masks)
        progress("filling masks", done, self.work.total)
        if self.work.large:
            logger.info(
                "%s of more than %d million pixels: drawn in parts of at most %d boxes, in "
                "squares of %d pixels; memory holds one such photograph",
                plural(len(self.work.large), "photograph"),
                planning.BATCH_PIXELS // 1_000_000,
                planning.BATCH_BOXES,
                planning.TILE,
            )
        rest = [k for k in range(len(batches)) if k not in journal.batches]
        drawn = (
            self.drawer.draw_batches(batches, rest)
            if ray is None
            else drawn_on_ray(self.drawer, batches, rest, address=ray)
        )
        skipped: dict[int, list[str]] = {}
        with contextlib.closing(drawn):
            for number, (rows, faults) in drawn:
                if faults:  # not noted: the photograph may be there when the job continues
                    skipped[number] = faults
                else:
                    images = [piece.image for piece in batches[number]]
                    journal.append(number, rows, map(self.drawer.reader.path_of, images))
                masks.update(rows)
                done += sum(len(piece.positions) for piece in batches[number])
                progress("filling masks", done, self.work.total)
        lines = [line for number in sorted(skipped) for line in skipped[number]]
        return tuple(dict.fromkeys(lines))

    def _write(self, masks: dict[int, FilledMask], date: str) -> None:
        if masks:
            note: dict[str, Any] = {
                "model": self.drawer.predictor.identity,
                "date": date,
                "images": str(self.drawer.reader.folder.resolve()),
            }
            predictor = self.drawer.predictor
            if self.drawer.looks is not None:
                note |= {"looks": self.drawer.looks, "runtime": predictor.runtime}
            note |= unusual(predictor)
            write_completed(self.target, self.file.document, self.work, masks=masks, note=note)
        else:
            copy_file(self.source, self.target)
        sweep(self.target)
