"""The losses that boxes without masks add to a box segmenter's training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from halfmask import team
from halfmask.models.losses.box_losses import colour_loss, colour_similarity, projection_loss, rgb_to_lab

# A mask cannot be asked to touch the sides of boxes that agree with their masks' own boxes no better than this.
LOOSE = 0.5


class BoxSupervision(nn.Module):
    """Projection and colour losses of box-only objects, with weights that begin small and fall where boxes are loose.

    Args:
        projection, colour: weights.
        warmup: training steps in which both weights grow linearly to their value: at first the mask is noise.
    """

    steps: Tensor

    def __init__(self, projection: float, colour: float, warmup: int = 0) -> None:
        super().__init__()
        self.projection = projection
        self.colour = colour
        self.warmup = warmup
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, logits: Tensor, rgb: Tensor, inside: Tensor, tightness: float | None) -> dict[str, Tensor]:
        """loss_projection and loss_colour.

        Args:
            logits: float [R, M, M]; R may be 0.
            rgb: float [R, 3, S, S] in [0, 1], S a multiple of M.
            inside: float [R, M, M], share of a cell that lies in the file's own box.
            tightness: mean IoU of boxes with their masks' own boxes, of objects that have both; None: not known, taken for tight.
        """
        grown = 1.0 if self.warmup == 0 else min(1.0, float(self.steps) / self.warmup)
        if self.training:
            self.steps += 1
        rows = max(len(logits), 1)
        share = team.share(len(logits))
        trust = 1.0 if tightness is None else max(0.0, (tightness - LOOSE) / (1 - LOOSE))
        small = F.avg_pool2d(rgb.float(), rgb.shape[-1] // logits.shape[-1])
        similarity = colour_similarity(rgb_to_lab(small))
        projection = projection_loss(logits, inside).sum() / rows
        colour = colour_loss(logits, similarity, inside).sum() / rows
        return {
            "loss_projection": self.projection * grown * trust * projection * share,
            "loss_colour": self.colour * grown * colour * share,
        }
