"""The interface of detectors that are not halfmask's own: boxes, classes and scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halfmask.coco.categories import COCO_NAMES, folded_name
from halfmask.models.checkpoint import Category

LEAST_SCORE = 0.01
"""Boxes below this score are dropped: they cost a mask each and change AP little."""
MOST_BOXES = 100
"""Boxes kept in an image, by score over all classes: as many as AP counts."""
NO_CLASS = frozenset({"", "n/a", "__background__", "no person"})
"""Names of rows that stand for no class."""


@dataclass(frozen=True)
class ScoredBoxes:
    """The objects that a detector found in one image.

    Attributes:
        boxes: float32 [n, 4] xyxy, pixels of the image.
        labels: int64 [n]; see the function that returns them.
        scores: float32 [n] in [0, 1].
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: Tensor) -> ScoredBoxes:
        """Returns the rows at `index` (int64 or bool)."""
        return ScoredBoxes(self.boxes[index], self.labels[index], self.scores[index])


class BoxDetector(ABC):
    """Finds boxes for a segmenter to fill.

    A detector of your own is a subclass with `find`; `halfmask.load` takes an instance
    as `detector`.

    Attributes:
        name: of the detector, without folders of this machine.
        digest: tells its weights apart from others; part of `identity`.
        categories: label i + 1 is categories[i].
        device: where it runs.
    """

    device = torch.device("cpu")

    def __init__(self, name: str, digest: str, rows: Sequence[str]) -> None:
        """Stores the names.

        Args:
            name: see the attribute.
            digest: see the attribute.
            rows: class name of each row of the network's output; "N/A" and
                "__background__" stand for no class.
        """
        self.name, self.digest = name, digest
        kept = [row for row, text in enumerate(rows) if text.strip().lower() not in NO_CLASS]
        self.categories = _categories([rows[row] for row in kept])
        self._label_of_row = torch.zeros(len(rows), dtype=torch.int64)
        self._label_of_row[torch.tensor(kept, dtype=torch.int64)] = torch.arange(1, len(kept) + 1)

    @property
    def identity(self) -> str:
        """Name and digest, as results carry them."""
        return f"{self.name}@{self.digest}" if self.digest else self.name

    @abstractmethod
    def find(self, image: Tensor) -> ScoredBoxes:
        """Returns the raw boxes of an image; labels are rows of the output.

        Args:
            image: float32 [3, H, W], RGB in [0, 1], on `device`.
        """

    def detect(self, image: Tensor) -> ScoredBoxes:
        """Returns the boxes of an image, best first, clipped to it, on the CPU.

        Boxes without pixels, without a class or with a score below LEAST_SCORE are left
        out, and so are those beyond the best MOST_BOXES.

        Args:
            image: float32 [3, H, W], RGB in [0, 1].
        Returns:
            Labels are those of `categories`, 1…K−1.
        """
        with torch.inference_mode():
            raw = self.find(image.to(self.device))
        boxes, scores = raw.boxes.float().cpu(), raw.scores.float().cpu()
        height, width = image.shape[-2:]
        limits = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = boxes.clamp_min(0).minimum(limits)
        labels = self._label_of_row[raw.labels.cpu()]
        fine = (boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1)
        fine &= (labels > 0) & (scores >= LEAST_SCORE)
        found = ScoredBoxes(boxes, labels, scores).select(fine)
        order = torch.argsort(found.scores, descending=True, stable=True)[:MOST_BOXES]
        return found.select(order)

    def detect_batch(self, images: Sequence[Tensor]) -> list[ScoredBoxes]:
        """`detect` for several images, one after the other."""
        return [self.detect(image) for image in images]


def _categories(names: Sequence[str]) -> list[Category]:
    """Category records; COCO's own ids if these are COCO's 80 classes."""
    ids = {folded_name(name): number for number, name in COCO_NAMES.items()}
    found = [ids.get(folded_name(name)) for name in names]
    if set(found) == set(COCO_NAMES) and len(found) == len(COCO_NAMES):
        return [Category(id=k, name=n) for k, n in zip(found, names, strict=True) if k is not None]
    return [Category(id=k, name=name) for k, name in enumerate(names, 1)]
