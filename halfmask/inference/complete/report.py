"""What `complete` did, or would do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halfmask.files.kinds import report
from halfmask.formats.report import ConversionReport
from halfmask.inference.complete.additions import Additions
from halfmask.inference.complete.plan import FillingPlan

DOUBTFUL = 0.7
"""Masks with a lower score are counted, for a person to look at first."""
REPORT = report("complete", "out", "coco", "filled", "counts")


@dataclass(frozen=True)
class ClassToFill:
    """A class of the file with masks to fill.

    Attributes:
        name: of the class.
        masks: number of its masks to fill.
        known: whether the model knows the class; a rule knows every class.
    """

    name: str
    masks: int
    known: bool


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What `complete` did, or would do.

    Attributes:
        out: the file or folder it wrote.
        plan: what there was to do.
        classes: the classes with masks to fill.
        dry_run: whether nothing was drawn or written.
        filled: masks filled, including those of an interrupted run.
        resumed: how many of them an interrupted run had finished.
        unread: one line for each image with boxes to fill that cannot be read.
        mean_score: of the filled masks; None without any.
        doubtful: how many filled masks have a score below 0.7.
        mean_agreement: mean IoU of the filled masks with the model's own, if a provider
            drew them; else None.
        tightness: mean IoU of the file's boxes with their masks' own boxes; None
            without masks.
        loose: whether the boxes counted as loose, for a model that knows loose boxes.
        looks: how often the model looked at each box; None for one without looks.
        runtime: what computed the network; see `Predictor.runtime`.
        max_size: most pixels of a photograph's longer side, if it was lowered.
        sheet: the picture of new masks, if it was wanted.
        additions: the objects that a detector added, if that was wanted.
        coco: the COCO file with every mask's score and state: `out`, or kept with it.
        reading: what could not be read of a data set that is no COCO file.
        writing: what the format of `out` cannot hold.
        learned: `complete auto`: what adapting gave, see `Adaptation.to_json`.
        summary: `complete auto`: what to expect and what to do next, in a paragraph.
    """

    out: Path
    plan: FillingPlan
    classes: tuple[ClassToFill, ...] = ()
    dry_run: bool = False
    filled: int = 0
    resumed: int = 0
    unread: tuple[str, ...] = ()
    mean_score: float | None = None
    doubtful: int = 0
    mean_agreement: float | None = None
    tightness: float | None = None
    loose: bool = False
    looks: int | None = None
    runtime: str = "torch"
    max_size: int | None = None
    sheet: Path | None = None
    additions: Additions | None = None
    coco: Path | None = None
    reading: ConversionReport = field(default_factory=ConversionReport)
    writing: ConversionReport = field(default_factory=ConversionReport)
    learned: dict[str, Any] | None = None
    summary: str = ""

    @property
    def counts(self) -> Counter[str]:
        """Annotations by what happens to them; see `FillingPlan.counts`."""
        return self.plan.counts

    @property
    def skipped(self) -> tuple[str, ...]:
        """One line for each image that cannot be read; its annotations stay as they are."""
        searched = () if self.additions is None else self.additions.skipped
        return tuple(dict.fromkeys([*searched, *self.unread]))

    @property
    def suspects(self) -> list[int]:
        """Ids of annotations whose polygon repeats their box; they stay as they are."""
        return self.plan.suspects

    @property
    def broken(self) -> list[int]:
        """Ids of annotations whose mask cannot be read; they stay as they are."""
        return self.plan.broken

    @property
    def unusable(self) -> list[str]:
        """Names of annotations without a usable box, image or class; they stay as they are."""
        return self.plan.unusable

    @property
    def unfilled(self) -> int:
        """Masks that are still missing, since their image was skipped."""
        return self.plan.total - self.filled

    @property
    def unknown_classes(self) -> list[str]:
        """Names of classes that are filled although the model does not know them."""
        return [one.name for one in self.classes if not one.known]

    def to_json(self) -> dict[str, Any]:
        """Returns what `halfmask complete --json` writes."""
        added = {} if self.additions is None else {"additions": self.additions.to_json()}
        return {
            "out": str(self.out),
            "coco": str(self.coco or self.out),
            "filled": self.filled,
            "resumed": self.resumed,
            "unfilled": self.unfilled,
            "mean_score": self.mean_score,
            "doubtful": self.doubtful,
            "looks": self.looks,
            "runtime": self.runtime,
            **({} if self.max_size is None else {"max_size": self.max_size}),
            "learned": self.learned,
            "mean_agreement": self.mean_agreement,
            "counts": dict(self.counts),
            "suspects": self.suspects,
            "broken": self.broken,
            "skipped": list(self.skipped),
            "unusable": self.unusable,
            "unknown_classes": self.unknown_classes,
            "tightness": self.tightness,
            "loose": self.loose,
            **added,
            **({"reading": self.reading.to_json()} if self.reading.first else {}),
            **({"writing": self.writing.to_json()} if self.writing.first else {}),
        }
