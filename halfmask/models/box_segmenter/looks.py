"""How often a box segmenter looks at each box, and the quality score for each number.

A look is one pass of the network over a crop: of one context, plain or mirrored. Masks
are the means of all looks. The score's features depend on them: a single look cannot
disagree with others. So each effort has a fit of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

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
