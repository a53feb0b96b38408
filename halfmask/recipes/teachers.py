"""The schema of what objects without a mask teach: their boxes, another model's masks.

The text below a field documents it. Unknown keys are errors.
"""

from __future__ import annotations

from pydantic import Field

from halfmask.recipes.detector import Regions, Section

AVERAGE = "average"
"""The teacher that follows the model: the moving average of its weights."""


class FromBoxes(Section):
    """Losses of objects that have only a box (BoxInst's, on crops)."""

    projection: float = Field(default=0.0, ge=0.0)
    """Weight: the mask touches the four sides of its box. It falls by itself if the
    boxes of masked objects are loose.
    """
    colour: float = Field(default=0.0, ge=0.0)
    """Weight: neighbours of like colour are both in the mask, or both out."""
    warmup: int = Field(default=0, ge=0)
    """Steps in which the weights grow to their value."""
    regions_per_image: Regions = 4
    """Box-only objects drawn from each photograph."""


class SelfTraining(Section):
    """The teacher's masks that the next round learns from (`rounds`)."""

    min_score: float = Field(default=0.6, ge=0.0, le=1.0)
    """Least score of a mask."""
    min_tightness: float = Field(default=0.7, ge=0.0, le=1.0)
    """Least IoU of a mask's own box with its annotation's box."""


class Distil(Section):
    """One look learns the mean of a teacher's looks.

    A look is one reading of a box: in one context, plain or mirrored. The teacher reads
    each box in all of its contexts (`zooms`), and mirrored too if it has `mirror`.
    """

    teacher: str | None = None
    """A shipped model, a run's folder or a checkpoint file. average: the moving average
    of the weights (`ema` of the stage). null: the previous round's model with `rounds`,
    else the model of `init`.
    """
    weight: float = Field(default=1.0, ge=0.0)
    """Weight of the cross-entropy with the teacher's probabilities."""
    regions_per_image: int = Field(default=4, ge=0, le=65_536)
    """Box-only objects drawn from each photograph. Photographs without any mask serve
    too (`skip_unmasked: false`).
    """

    @property
    def follows(self) -> bool:
        """Whether the teacher is the moving average of the weights."""
        return self.teacher == AVERAGE
