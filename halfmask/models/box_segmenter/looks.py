"""How often a box segmenter looks at each box, its scores, and its distillation.

A look is one pass of the network over a crop: of one context, plain or mirrored. Masks
are the means of all looks. The score's features depend on them: a single look cannot
disagree with others. So each effort has a fit of its own. By distillation one look
learns the mean of a teacher's looks: the teacher answers for every box, masked or not,
so boxes without masks are data too.

Shape letters: r crops, R boxes of one image, M side of a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halfmask import distributed
from halfmask.models.box_segmenter.clicks import in_inference
from halfmask.models.box_segmenter.crops import Boxes, CropReader, crop_regions, resample
from halfmask.models.box_segmenter.inference import zoomed_masks
from halfmask.models.box_segmenter.quality import QualityScore

Effort = Literal["fast", "balanced", "best"]
EFFORTS: tuple[Effort, ...] = ("fast", "balanced", "best")
LIGHTER: tuple[Effort, ...] = ("fast", "balanced")
"""The efforts with fewer looks than the recipe's."""


@dataclass(frozen=True)
class Looks:
    """The looks at a box.

    Attributes:
        contexts: shares of the box's side around it, the closest first.
        mirror: whether each context is also read mirrored.
    """

    contexts: tuple[float, ...]
    mirror: bool

    @property
    def count(self) -> int:
        """The number of looks."""
        return len(self.contexts) * (2 if self.mirror else 1)


def looks_of(effort: Effort, best: Looks, usual: float) -> Looks:
    """Returns the looks of an effort.

    Args:
        effort: `fast` is one look, `balanced` adds its mirror image if the recipe
            mirrors, `best` is the recipe's.
        best: the recipe's looks.
        usual: the context that most training crops have.
    """
    if effort == "best":
        return best
    return Looks((usual,), best.mirror and effort == "balanced")


class EffortScores(QualityScore):
    """The quality score of the recipe's looks, with one for each lighter effort.

    Files from before the lighter scores load with these unfitted: they then are the
    expected IoU, as in a model that was fitted to no masks.

    Attributes:
        effort: the score in use.
    """

    def __init__(self) -> None:
        super().__init__()
        self.effort: Effort = "best"
        self.fast = QualityScore()
        self.balanced = QualityScore()

    def of(self, effort: Effort) -> QualityScore:
        """Returns the score of an effort."""
        return {"fast": self.fast, "balanced": self.balanced, "best": self}[effort]

    @property
    def fitted(self) -> bool:
        """Whether the score in use is fitted."""
        return bool((self.of(self.effort).spread > 0).any())

    def forward(self, features: Tensor) -> Tensor:
        """Returns the score of the effort in use; see `QualityScore.forward`."""
        return super().forward(features) if self.effort == "best" else self._lighter(features)

    def curve(self, features: Tensor) -> Tensor:
        """Returns the fitted score of the effort in use, without a check."""
        if self.effort == "best":
            return super().curve(features)
        return self.of(self.effort).curve(features)

    def _lighter(self, features: Tensor) -> Tensor:
        out: Tensor = self.of(self.effort)(features)
        return out


def expect_effort(model: Any, effort: Effort) -> None:
    """From now on, a box segmenter takes the looks and the score of an effort."""
    looks = looks_of(effort, model.best_looks, model.reader.context)
    model.reader.contexts, model.reader.mirror = looks.contexts, looks.mirror
    model.quality_score.effort = "best" if looks == model.best_looks else effort


@dataclass(eq=False)
class Distillation:
    """What a box segmenter learns from a teacher.

    It is no module: the teacher's weights are not the model's, and no state dict has
    them.

    Attributes:
        weight: of the loss.
        regions_per_image: box-only objects drawn from each image.
        follows: whether the teacher is the moving average of the weights.
        teacher: reads the boxes with all of its contexts, mirrored too if it does so;
            None until the training has set it.
    """

    weight: float
    regions_per_image: int
    follows: bool = False
    teacher: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Distillation:
        """Shares the teacher: the average of the weights needs no copy of it."""
        return self

    @torch.no_grad()
    def looks(self, image: Tensor, boxes: Tensor, labels: Tensor, *, regions: Tensor) -> Tensor:
        """Returns the mean of the teacher's looks at boxes of one image.

        Args:
            image: float32 [3, H, W].
            boxes: float32 [R, 4] xyxy; the file's, even where the student's are moved.
            labels: int64 [R], 0 for an unknown class.
            regions: float32 [R, 4], that the answer covers.
        Returns:
            float32 [R, M, M], probabilities.
        """
        assert isinstance(self.teacher, nn.Module), "the training sets the teacher"
        teacher = self.teacher.to(image.device)
        reader: CropReader = teacher.reader  # type: ignore[assignment]
        own = Boxes(boxes, torch.arange(len(boxes), device=boxes.device))
        with in_inference(teacher):
            mean, _ = zoomed_masks(
                reader,
                teacher.readings,  # type: ignore[arg-type]
                [reader.pyramid(image)],
                boxes=[own],
                labels=labels,
            )
        return resample(mean, crop_regions(boxes, reader.contexts[0]), regions)

    def loss(self, logits: Tensor, looks: Tensor, counts: Tensor) -> Tensor:
        """Returns cross-entropy with the teacher's probabilities, the mean over crops.

        Args:
            logits, looks: float [r, M, M]; r may be 0.
            counts: bool [r, M, M], the cells that count.
        """
        if len(logits) == 0:
            return logits.sum() * 0
        entropy = F.binary_cross_entropy_with_logits(logits.float(), looks, reduction="none")
        cells = counts.sum((1, 2)).clamp_min(1)
        mean = ((entropy * counts).sum((1, 2)) / cells).mean()
        return self.weight * mean * distributed.mean_scale(len(logits))
