"""The classes of a predictor: its labels, the segmenter's own, and those of data files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from halfmask.coco.categories import labels_by_name
from halfmask.models.checkpoint import Category, Checkpoint


class KnownClasses:
    """The classes of a model, matched by name with those of a detector or of a file.

    Args:
        checkpoint: of the model that draws the masks; None for a rule or SAM.
        detector: the classes of what finds the boxes; None without a detector.

    Attributes:
        categories: label i + 1 is categories[i]; empty if the model knows no classes.
        label_of: class name → label.
        masked: ids (the segmenter's own) of the classes that had masks in training.
        masked_names: their names, which match them with the classes of other files.
        masks_given: masks in training by class; None without a checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint | None, detector: Any) -> None:
        trained = [] if checkpoint is None else checkpoint.categories
        self.masks_given = None if checkpoint is None else checkpoint.masks_given
        self.categories: list[Category] = list(trained if detector is None else detector.categories)
        if checkpoint is not None:
            self.masked = list(checkpoint.masked)
            self.masked_names = {c["name"] for c in trained if c["id"] in set(checkpoint.masked)}
        else:
            masks = detector if isinstance(detector, KnownClasses) else None
            self.masked = [] if masks is None else list(masks.masked)
            self.masked_names = set() if masks is None else set(masks.masked_names)
        own, mine = ([c["name"] for c in some] for some in (trained, self.categories))
        of_own, self.label_of = ({n: i for i, n in enumerate(names, 1)} for names in (own, mine))
        # Between this predictor's labels and the segmenter's; 0 for an unknown class.
        self._to_own = torch.tensor([0, *labels_by_name(mine, of_own)])
        self._from_own = torch.tensor([0, *labels_by_name(own, self.label_of)])

    def to_own(self, labels: Tensor) -> Tensor:
        """Returns the segmenter's labels of this predictor's, int64 [n], on the CPU."""
        return self._to_own[labels.cpu()]

    def of_predictor(self, drawn: Sequence[Tensor], given: Sequence[Tensor] | None) -> list[Tensor]:
        """Returns this predictor's labels of each image's masks, int64 [n], on the CPU.

        Args:
            drawn: the segmenter's labels.
            given: labels that a caller knew, 0 for unknown; None: none were known.
        """
        own = [self._from_own[labels] for labels in drawn]
        if given is None:
            return own
        known = [labels.to("cpu", torch.int64) for labels in given]
        return [torch.where(row > 0, row, o) for row, o in zip(known, own, strict=True)]

    def labels_of(self, categories: Iterable[Mapping[str, Any]]) -> dict[int, int]:
        """Maps the category ids of a data file to this model's labels, matched by name.

        A class that the model does not know has label 0; see `labels_by_name`.
        """
        ids = {int(c["id"]): c["name"] for c in categories}
        return dict(zip(ids, labels_by_name(ids.values(), self.label_of), strict=True))

    def masked_of(self, categories: Iterable[Mapping[str, Any]]) -> set[int]:
        """Returns the category ids of a data file that are in the model's set A, by name."""
        names = {name: k for k, name in enumerate(self.masked_names, 1)}
        return {int(c["id"]) for c in categories if labels_by_name([c["name"]], names)[0]}
