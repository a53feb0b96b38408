"""What `halfmask evaluate` measures: a model that fills a file's boxes, a detector's or
a results file's, in the file's own labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from halfmask.coco.annotations import Annotations
    from halfmask.coco.results import FoundBoxes, Results
    from halfmask.data.dataset import CocoInstances
    from halfmask.inference.predictor import Predictor
    from halfmask.structures import Detection, Target

    Segment = Callable[[list[Tensor], list[Target]], list[Detection]]
    Detect = Callable[[list[int], list[Tensor]], list[Detection]]


@dataclass(frozen=True)
class Evaluated:
    """What is evaluated; labels in and out are the file's. `detect` is None for what
    finds no boxes.
    """

    name: str
    segment: Segment
    detect: Detect | None = None


@dataclass(frozen=True)
class GivenBoxes:
    """loosen: by which share of their side the file's boxes are moved. loose: what the
    model is told of them.
    """

    loosen: float
    loose: bool


def are_loose(dataset: CocoInstances, classes: set[int], loosen: float) -> bool:
    """Whether the boxes of objects of these classes, as they will be given, agree badly
    with their masks' own: what a user can measure who has masks of these classes alone.
    """
    import torch

    from halfmask.coco.tightness import ENOUGH, boxes_are_loose
    from halfmask.masks.crops import tightness

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


def evaluated(
    predictor: Predictor, file: Annotations, given: GivenBoxes, results: Results | None
) -> Evaluated:

    to_model, to_file = _label_maps(predictor, file)

    def segment(images: list[Tensor], targets: list[Target]) -> list[Detection]:
        boxes = [
            t.boxes if given.loosen == 0 else loosened(t.boxes, given.loosen, t.image_id)
            for t in targets
        ]
        return predictor.segment_batch(
            images, boxes, [to_model[t.labels] for t in targets], given.loose
        )

    def detect(_: list[int], images: list[Tensor]) -> list[Detection]:
        return [replace(d, labels=to_file[d.labels]) for d in predictor.detect_batch(images)]

    def fill(image_ids: list[int], images: list[Tensor]) -> list[Detection]:
        assert results is not None
        found = [_tensors(results.of_image(i), file) for i in image_ids]
        drawn = predictor.segment_batch(
            images, [f[0] for f in found], [to_model[f[1]] for f in found]
        )
        return [replace(d, labels=f[1], scores=f[2]) for d, f in zip(drawn, found, strict=True)]

    if results is not None:
        return Evaluated(
            f"{predictor.identity} on boxes of {Path(results.name).name}", segment, fill
        )
    name = predictor.identity
    if predictor.detector is not None:
        name += f" on boxes of {predictor.detector.identity}"
    return Evaluated(name, segment, detect if predictor.can_detect else None)


def _tensors(found: FoundBoxes, file: Annotations) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes float32 [n, 4], the file's labels int64 [n], scores float32 [n]."""
    import torch

    labels = torch.tensor([file.label_of[c] for c in found.category_ids], dtype=torch.int64)
    boxes = torch.tensor(found.boxes, dtype=torch.float32).reshape(-1, 4)
    return boxes, labels, torch.tensor(found.scores, dtype=torch.float32)


def _label_maps(predictor: Predictor, file: Annotations) -> tuple[torch.Tensor, torch.Tensor]:
    """int64: the file's labels to the model's and back, by the classes' names; 0 where
    the other side has no such class.
    """
    import torch

    ids = predictor.labels_of(file.categories)
    to_model = torch.tensor([0, *(ids[c["id"]] for c in file.categories)])
    by_name = {c["name"]: file.label_of[c["id"]] for c in file.categories}
    to_file = torch.tensor([0, *(by_name.get(c["name"], 0) for c in predictor.categories)])
    return to_model, to_file


def loosened(boxes: Tensor, share: float, image_id: int) -> Tensor:
    """The boxes with each corner coordinate moved by up to `share` of the box's side,
    uniformly; the same for the same image each time.

    Args:
        boxes: float32 [n, 4] xyxy, pixels.
        share: in [0, 0.5): below a half no box turns inside out.
        image_id: decides the moves.
    """
    assert 0 <= share < 0.5, share
    generator = torch.Generator().manual_seed(image_id % 2**63)
    moves = torch.rand(boxes.shape, generator=generator).to(boxes) * 2 - 1
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + moves * share * sides
