"""A model under evaluation with the source of its boxes, and the reader of its images.

The boxes are the evaluated file's own, a detector's, or a results file's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from halfmask.coco.annotations import Annotations
from halfmask.coco.categories import labels_by_name
from halfmask.coco.doctor.groups import MaskGroups
from halfmask.coco.results import FoundBoxes, Results
from halfmask.coco.tightness import ENOUGH, boxes_are_loose
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.evaluation.measures.given_boxes import GivenMasks
from halfmask.inference.complete.photographs import ahead
from halfmask.inference.predictor import Predictor
from halfmask.masks.crops import tightness
from halfmask.progress import Progress
from halfmask.structures import Detection, Target
from halfmask.text import listed

Segment = Callable[[list[Tensor], list[Target]], list[Detection]]
"""Draws a mask into each of the targets' boxes."""
SHOWN = 10
BATCH = 4
"""Images that go through a model together."""


class Subject:
    """A model under evaluation; all labels in and out are the evaluated file's.

    Attributes:
        name: The model's identity, and whose boxes it fills.
        loosen: The share of their side by which the file's boxes move, see `loosened`.
        finds_boxes: Whether `detect` works.
        left_out: Class of the detector that the file lacks → boxes of it, which do not
            count.
        not_found: Classes of the file that the detector does not know.
    """

    def __init__(
        self,
        predictor: Predictor,
        file: Annotations,
        *,
        loosen: float = 0.0,
        loose: bool = False,
        results: Results | None = None,
    ) -> None:
        """Prepares a model.

        Args:
            predictor: The model, maybe with a detector.
            file: The truth.
            loosen: See the attribute.
            loose: Whether to call the file's boxes loose when the model fills them.
            results: Boxes to fill, in place of detected ones.
        Raises:
            InputError: the detector knows no class of the file.
        """
        self._predictor, self._file = predictor, file
        self._loose, self._results = loose, results
        self._to_model, self._to_file = _label_maps(predictor, file)
        self.name, self.loosen = predictor.identity, loosen
        if results is not None:
            self.name += f" on boxes of {Path(results.name).name}"
        elif predictor.detector is not None:
            self.name += f" on boxes of {predictor.detector.identity}"
        self.finds_boxes = results is not None or predictor.can_detect
        self.left_out: Counter[str] = Counter()
        detects = results is None and predictor.can_detect
        names = [c["name"] for c in file.categories]
        known = (self._to_model[1:] > 0).tolist()
        self.not_found = [n for n, k in zip(names, known, strict=True) if detects and not k]
        if predictor.detector is not None and detects and not any(known):
            theirs = listed([c["name"] for c in predictor.categories], SHOWN)
            raise InputError(
                f"{predictor.detector.identity} finds no class of {file.name}: it knows {theirs}; "
                f"the file has {listed(names, SHOWN)}; classes are matched by name"
            )

    def segment(self, images: list[Tensor], targets: list[Target]) -> list[Detection]:
        """Draws masks into the file's own boxes."""
        boxes = [loosened(t.boxes, self.loosen, t.image_id) for t in targets]
        labels = [self._to_model[t.labels] for t in targets]
        return self._predictor.segment_batch(images, boxes, labels, loose=self._loose)

    def detect(self, image_ids: list[int], images: list[Tensor]) -> list[Detection]:
        """Finds objects with their masks, or draws masks into the results file's boxes."""
        if self._results is None:
            detected = self._predictor.detect_batch(images)
            names = ["", *(c["name"] for c in self._predictor.categories)]
            for d in detected:
                unknown = d.labels[self._to_file[d.labels] == 0]
                self.left_out.update(names[label] for label in unknown.tolist())
            return [replace(d, labels=self._to_file[d.labels]) for d in detected]
        found = [_tensors(self._results.of_image(i), self._file) for i in image_ids]
        drawn = self._predictor.segment_batch(
            images, [f[0] for f in found], [self._to_model[f[1]] for f in found]
        )
        return [replace(d, labels=f[1], scores=f[2]) for d, f in zip(drawn, found, strict=True)]


@dataclass(kw_only=True)
class BatchReader:
    """Reads the data set in batches, decoding ahead, and remembers unreadable photographs."""

    dataset: CocoInstances
    workers: int
    progress: Progress | None = None
    passes: int = 1
    skipped: dict[int, str] = field(default_factory=dict)
    _done: int = 0

    def batches(self) -> Iterator[tuple[list[int], list[Tensor], list[Target]]]:
        """Yields image ids, images and targets, in one pass over the data set."""
        count = len(self.dataset)
        for start, rows in ahead(range(0, count, BATCH), self._read, self.workers):
            if rows:
                yield [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
            self._done += min(BATCH, count - start)
            if self.progress is not None:
                self.progress("evaluating", self._done, self.passes * count)

    def _read(self, start: int) -> list[tuple[int, Tensor, Target]]:
        rows = []
        for k in range(start, min(start + BATCH, len(self.dataset))):
            image_id = self.dataset.image_ids[k]
            try:
                image, target = self.dataset[k]
                rows.append((image_id, image, target))
            except InputError as error:
                self.skipped[image_id] = str(error)
        return rows

    def detected(self, subject: Subject) -> Iterator[tuple[int, Detection]]:
        """Yields image ids and the objects that a model found."""
        for ids, images, _ in self.batches():
            yield from zip(ids, subject.detect(ids, images), strict=True)

    def given(self, subject: Subject) -> Iterator[GivenMasks]:
        """Yields image ids, annotation ids, and the masks in these annotations' boxes."""
        for ids, images, targets in self.batches():
            drawn = subject.segment(images, targets)
            yield from zip(ids, [t.annotation_ids for t in targets], drawn, strict=True)


def are_loose(dataset: CocoInstances, classes: set[int], loosen: float) -> bool:
    """Whether loosened boxes of these classes agree badly with their masks' boxes.

    It looks at masks of these classes only, so that users with masks of some classes
    can decide alike.
    """
    labels = torch.tensor([dataset.file.label_of[c] for c in classes], dtype=torch.int64)
    found: list[float] = []
    for k in range(len(dataset)):
        target = dataset.target(k)
        rows = torch.where(target.has_mask & torch.isin(target.labels, labels))[0]
        given = loosened(target.boxes, loosen, target.image_id)[rows]
        found += tightness(given, target.masks.select(target.mask_row[rows])).tolist()
        if len(found) >= ENOUGH:
            break
    return boxes_are_loose(sum(found) / len(found) if found else None)


def loosened(boxes: Tensor, share: float, image_id: int) -> Tensor:
    """Moves each corner coordinate by up to `share` of the box's side, uniformly.

    Args:
        boxes: float32 [n, 4] xyxy, pixels.
        share: In [0, 0.5), where no box turns inside out. 0 changes nothing.
        image_id: Seeds the moves: the same for an image each time.
    """
    assert 0 <= share < 0.5, share
    if share == 0:
        return boxes
    generator = torch.Generator().manual_seed(image_id % 2**63)
    moves = torch.rand(boxes.shape, generator=generator).to(boxes) * 2 - 1
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + moves * share * sides


def _tensors(found: FoundBoxes, file: Annotations) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes float32 [n, 4], the file's labels int64 [n], scores float32 [n]."""
    labels = torch.tensor([file.label_of[c] for c in found.category_ids], dtype=torch.int64)
    boxes = torch.tensor(found.boxes, dtype=torch.float32).reshape(-1, 4)
    return boxes, labels, torch.tensor(found.scores, dtype=torch.float32)


def _label_maps(predictor: Predictor, file: Annotations) -> tuple[Tensor, Tensor]:
    """The file's labels to the model's and back, by class names; 0 without a match.

    Returns:
        Two int64 tensors, indexed by label.
    """
    ids = predictor.labels_of(file.categories)
    to_model = torch.tensor([0, *(ids[c["id"]] for c in file.categories)])
    by_name = {c["name"]: file.label_of[c["id"]] for c in file.categories}
    to_file = torch.tensor([0, *labels_by_name([c["name"] for c in predictor.categories], by_name)])
    return to_model, to_file


def groups_by(predictor: Predictor, categories: list[dict[str, Any]]) -> MaskGroups | None:
    """Returns the classes by the masks that the model was given; None: not recorded."""
    given = predictor.masks_given
    return None if given is None else given.groups_of(categories)
