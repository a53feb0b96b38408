"""Finds the objects that `complete --add-objects` adds, resumably."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from halfmask._version import __version__
from halfmask.coco.file import CocoFile
from halfmask.coco.photographs.reader import PhotographReader, reader_of
from halfmask.coco.results import Results, read_results
from halfmask.errors import InputError
from halfmask.formats.source import DataSource
from halfmask.inference.arguments import checked_device
from halfmask.inference.complete.additions import Additions, Found, add_new, new_ids, with_additions
from halfmask.inference.complete.journal import Journal, journal_of
from halfmask.inference.complete.photographs import ahead
from halfmask.inference.complete.plan import BATCH_IMAGES, Record
from halfmask.inference.images import as_tensor
from halfmask.inference.predictor import Predictor, load_detector
from halfmask.inference.runtime.use import limit_size
from halfmask.models.detectors.base import MOST_BOXES, BoxDetector
from halfmask.models.detectors.build import is_box_detector
from halfmask.progress import Progress

logger = logging.getLogger(__name__)

ADD_SCORE = 0.5
"""Least score of an object to add, unless said otherwise."""


@dataclass(frozen=True, kw_only=True)
class AddOptions:
    """What users say about objects to add; `complete` documents it."""

    wanted: bool
    detector: str | Path | BoxDetector | None
    classes: str | Sequence[str] | None
    detections: str | Path | None
    least_score: float
    workers: int
    device: str | torch.device | None
    accept_changes: bool = False
    max_size: int | None = None

    def __post_init__(self) -> None:
        """Raises InputError for options that do not fit together."""
        if self.detector is not None and self.detections is not None:
            raise InputError("--detector and --detections both name the objects: give only one")
        named = self.detector is not None or self.detections is not None
        if named and not self.wanted:
            raise InputError(
                "complete fills the boxes of the file; a --detector or --detections adds boxes "
                "that the file lacks, and only with --add-objects: add it, or leave the other out"
            )
        if self.wanted and not named:
            raise InputError("--add-objects needs what finds them: add --detector or --detections")
        if self.classes is not None and self.detector is None:
            raise InputError("--classes names the classes of a --detector: add one")
        if not 0 <= self.least_score <= 1:
            raise InputError(f"add_score: expected a score in [0, 1], found {self.least_score}")

    @property
    def resizes(self) -> bool:
        """Whether a Mask R-CNN finds the objects, which max_size is for."""
        named = isinstance(self.detector, str | Path)
        return self.wanted and named and not is_box_detector(str(self.detector))

    def applied(
        self, opened: DataSource, target: Path | None, *, progress: Progress | None
    ) -> tuple[CocoFile, Additions | None]:
        """Returns the file with the objects, and these; without, if none are wanted.

        Args:
            opened: the data set.
            target: of `complete`; finished batches are noted beside it. None: nowhere.
            progress: called after each batch.
        Raises:
            InputError: the detector cannot be loaded, or no photograph can be read.
        """
        file = opened.read()
        if not self.wanted:
            return file, None
        finder = ObjectFinder(
            detector=self._loaded(file),
            least_score=self.least_score,
            reader=reader_of(file, opened.photographs()),
            workers=self.workers,
            accept_changes=self.accept_changes,
        )
        found = finder.find(
            file, opened.annotations, target, progress=progress or (lambda *_: None)
        )
        return with_additions(file, found), found

    def _loaded(self, file: CocoFile) -> Predictor | BoxDetector | Results:
        if self.detections is None:
            assert self.detector is not None
            finder = load_detector(self.detector, checked_device(self.device), self.classes)
            if isinstance(finder, Predictor):
                finder.max_size = limit_size([finder], self.max_size)
            return finder
        results = read_results(self.detections, file, MOST_BOXES)
        if results.outside:
            logger.warning(
                "%s: boxes left out, outside their image: %d", self.detections, results.outside
            )
        return results


@dataclass(frozen=True, kw_only=True)
class ObjectFinder:
    """Finds objects that a file lacks.

    Attributes:
        detector: finds them, or the detections of a results file.
        least_score: of an object to add.
        reader: of the photographs.
        workers: threads that decode photographs.
        accept_changes: see `FillingJob`.
    """

    detector: Predictor | BoxDetector | Results
    least_score: float
    reader: PhotographReader
    workers: int
    accept_changes: bool = False

    @property
    def name(self) -> str:
        if isinstance(self.detector, Results):
            return Path(self.detector.name).name
        return self.detector.identity

    def find(
        self, file: CocoFile, source: Path, target: Path | None, *, progress: Progress
    ) -> Additions:
        """Returns the objects of all images that the file lacks; see `AddOptions.applied`."""
        with source.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        out, numbers = Additions(detector=self.name), new_ids(file)
        try:
            for image, found in self._detections(file, target, digest, progress=progress):
                if isinstance(found, str):
                    out.skipped.append(found)
                else:
                    add_new(out, file, image, found=found, numbers=numbers)
        except KeyboardInterrupt:
            if target is not None and found_journal_of(target).exists():
                logger.warning("finished batches are saved; the same command continues from there")
            raise
        if out.skipped and len(out.skipped) == len(file.images):
            raise InputError(
                f"none of the {len(file.images)} photographs can be used; first: {out.skipped[0]}"
            )
        return out

    def _detections(
        self, file: CocoFile, target: Path | None, digest: str, *, progress: Progress
    ) -> Iterator[tuple[Record, list[Found] | str]]:
        """Each image with its detections, or with why it cannot be read."""
        if isinstance(self.detector, Results):
            for image in file.images:
                yield image, self._of_results(file, self.detector, image["id"])
            return
        find = self._finder()
        with ExitStack() as stack:
            journal = None
            if target is not None:
                path = found_journal_of(target)
                accept = self.accept_changes
                journal = stack.enter_context(
                    Journal(path, self._identity(digest), accept_changes=accept)
                )
                journal.check_photographs(accept)
            done = {} if journal is None else journal.batches
            starts = range(0, len(file.images), BATCH_IMAGES)
            rest = [start for start in starts if start not in done]
            drawn = ahead(rest, lambda start: self._read(file, start), self.workers)
            for start in starts:
                images = file.images[start : start + BATCH_IMAGES]
                if start in done:
                    rows: list[Any] = [[(n, b, s) for n, b, s in one] for one in done[start]]
                else:
                    _, photographs = next(drawn)
                    rows = [p if isinstance(p, str) else find(p) for p in photographs]
                    # A photograph that is missing may be there when the job continues.
                    if journal is not None and not any(isinstance(row, str) for row in rows):
                        journal.append(start, rows, map(self.reader.path_of, images))
                progress("finding objects", start + len(images), len(file.images))
                yield from zip(images, rows, strict=True)

    def _read(self, file: CocoFile, start: int) -> list[Any]:
        out: list[Any] = []
        for image in file.images[start : start + BATCH_IMAGES]:
            try:
                out.append(self.reader.read(image, file.size_of(image["id"])))
            except InputError as error:
                out.append(str(error))
        return out

    def _finder(self) -> Callable[[Any], list[Found]]:
        """From pixels to detections with at least the least score, best first."""
        detector = self.detector
        assert not isinstance(detector, Results)
        names = ["", *(str(c["name"]) for c in detector.categories)]
        look = detector.find_batch if isinstance(detector, Predictor) else detector.detect_batch

        def find(pixels: Any) -> list[Found]:
            found = look([as_tensor(pixels).to(detector.device)])[0]
            order = torch.argsort(found.scores, descending=True, stable=True).tolist()
            rows = [(found.labels[k], found.boxes[k], float(found.scores[k])) for k in order]
            return [
                (names[int(label)], [round(v, 2) for v in box.tolist()], round(score, 4))
                for label, box, score in rows
                if score >= self.least_score
            ]

        return find

    def _of_results(self, file: CocoFile, results: Results, image_id: int) -> list[Found]:
        found = results.of_image(image_id)
        rows = zip(found.category_ids, found.boxes, found.scores, strict=True)
        return [
            (file.name_of(category), [float(v) for v in box], score)
            for category, box, score in rows
            if score >= self.least_score
        ]

    def _identity(self, digest: str) -> dict[str, Any]:
        """Everything that the detections depend on."""
        detector = self.detector
        assert not isinstance(detector, Results)
        return {
            "input": digest,
            "images": str(self.reader.folder.resolve()),
            "frame": self.reader.ruling.identity,
            "detector": self.name,
            "classes": [str(c["name"]) for c in detector.categories],
            "least_score": self.least_score,
            "max_size": detector.max_size if isinstance(detector, Predictor) else None,
            "batch": BATCH_IMAGES,
            "versions": [__version__, torch.__version__],
            "device": str(detector.device),
            "threads": torch.get_num_threads(),
        }


def found_journal_of(target: Path) -> Path:
    """Returns the path of the detections' journal, which exists until the output is complete."""
    return journal_of(target.with_name(f"{target.name}.objects"))
