"""Where `complete` writes: a COCO file, or a data set in another format with that file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from halfmask.coco.file import CocoFile
from halfmask.files.guard import Given, Output
from halfmask.files.kinds import COCO, CVAT, FILLING, NEW_FOLDER, OWN_NAME
from halfmask.formats.deliver import chosen_format, coco_beside, deliver, is_folder_format
from halfmask.formats.report import ConversionReport
from halfmask.formats.source import DataSource
from halfmask.inference.complete.additions import Additions
from halfmask.inference.complete.draw import MaskDrawer
from halfmask.inference.complete.fill import FillingJob
from halfmask.inference.complete.finding import found_journal_of
from halfmask.inference.complete.journal import journal_of
from halfmask.inference.complete.plan import FillingPlan, Redo
from halfmask.inference.complete.report import Completion

OutFormat = Literal["same", "coco", "yolo", "voc", "cvat", "label-studio"]


@dataclass(kw_only=True)
class OutputPlace:
    """The output of `complete`.

    Attributes:
        out: what the user named.
        format: of `out`.
        opened: the data set that is filled.
        tolerance: of the polygons that a format draws around masks; see `outlines`.
        report: what the format could not hold; empty until `finish`.
    """

    out: Path
    format: str
    opened: DataSource
    tolerance: float
    report: ConversionReport = field(default_factory=ConversionReport)

    @classmethod
    def of(cls, out: Path, asked: str, opened: DataSource, *, tolerance: float) -> OutputPlace:
        """Chooses the format.

        Raises:
            InputError: no such format.
        """
        format = chosen_format(asked, opened.format)
        return cls(out=out, format=format, opened=opened, tolerance=tolerance)

    def guard(self, side: Iterable[Output], *inputs: Given) -> None:
        """Refuses outputs and journals that are inputs, or of another kind.

        Args:
            side: further outputs of the call.
            inputs: what it reads beside the data set.
        Raises:
            InputError: see `halfmask.files.guard`.
        """
        if is_folder_format(self.format):
            kind = NEW_FOLDER
        else:
            kind = COCO if self.format == "coco" else CVAT
        outputs = [
            Output(self.out, "--out", kind),
            Output(journal_of(self.out), "the journal of --out", FILLING),
            Output(found_journal_of(self.out), "the journal of --add-objects", FILLING),
        ]
        if self.format == "cvat":
            outputs.append(Output(self.coco, "the COCO file of --out", COCO))
        if self.format != "coco":
            outputs.append(Output(self.file, "the COCO file that becomes --out", OWN_NAME))
        self.opened.guard([*outputs, *side], *inputs)

    @property
    def file(self) -> Path:
        """The COCO file that is written first."""
        if self.format == "coco":
            return self.out
        return self.out.with_name(f".{self.out.name}.coco.json")

    @property
    def coco(self) -> Path:
        """The COCO file of the finished output."""
        return self.out if self.format == "coco" else coco_beside(self.out, self.format)

    def finish(self, file: Path) -> None:
        """Writes `out` from the completed COCO file, unless that is `out`.

        Raises:
            InputError: it cannot be written.
        """
        if self.format != "coco":
            self.report = deliver(
                file,
                self.out,
                self.format,
                photographs=self.opened.photographs(),
                tolerance=self.tolerance,
            )

    def begun(self, work: FillingPlan, dry_run: bool, additions: Additions | None) -> Completion:
        """Returns the report of a job before its first mask."""
        return Completion(
            out=self.out,
            plan=work,
            dry_run=dry_run,
            additions=additions,
            coco=self.coco,
            reading=self.opened.report,
        )

    def job(
        self,
        opened: DataSource,
        file: CocoFile,
        work: FillingPlan,
        *,
        drawer: MaskDrawer,
        redo: Redo,
        accept_changes: bool,
    ) -> FillingJob:
        """Returns the job that fills the file; its arguments are those of `FillingJob`."""
        return FillingJob(
            source=opened.annotations,
            file=file,
            target=self.file,
            work=work,
            drawer=drawer,
            redo=redo,
            journal=journal_of(self.out),
            accept_changes=accept_changes,
            finish=self.finish,
        )
