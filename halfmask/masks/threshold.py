"""Expected IoU of a mask, and the threshold that maximises it."""

from __future__ import annotations

import torch
from torch import Tensor


def expected_iou(probs: Tensor, threshold: float = 0.5) -> Tensor:
    """A mask's own estimate of its IoU: expected intersection over expected union of
    the thresholded mask with a truth whose cells are drawn from the probabilities.

    Args:
        probs: float32 [n, M, M].
    Returns:
        float32 [n] in [0, 1]; 0 for an empty mask.
    """
    flat = probs.flatten(1)
    inside = flat >= threshold
    hit = (flat * inside).sum(1)
    union = inside.sum(1) + (flat * ~inside).sum(1)
    return torch.where(union > 0, hit / union.clamp_min(1e-6), torch.zeros_like(hit))


def best_threshold(probs: Tensor) -> Tensor:
    """The threshold whose mask has the greatest expected IoU with a truth whose cells
    are drawn from the probabilities.

    Where a model is unsure of a whole limb, that lies below one half: leaving out a
    part costs more than adding its surroundings. Found among all thresholds at once,
    from the sorted cells (in the spirit of Nowozin, "Optimal decisions from
    probabilistic models", CVPR 2014, with the expectation of the ratio taken as the
    ratio of expectations, as in `expected_iou`).

    Args:
        probs: float32 [n, M, M], 0 where the mask cannot be.
    Returns:
        float32 [n]: a cell is in the mask where its probability is at least this. 0.5
            for a map of zeros.
    """
    cells = probs.flatten(1).sort(1, descending=True).values
    if cells.shape[1] == 0:
        return probs.new_full((len(probs),), 0.5)
    hit = cells.cumsum(1)
    count = torch.arange(1, cells.shape[1] + 1, device=probs.device, dtype=probs.dtype)
    expected = hit / (count + hit[:, -1:] - hit)
    best = cells.gather(1, expected.argmax(1, keepdim=True))[:, 0]
    return torch.where(hit[:, -1] > 0, best, probs.new_tensor(0.5))


def recentred(probs: Tensor, thresholds: Tensor) -> Tensor:
    """Probabilities moved so that what stood at a mask's threshold stands at 0.5, where
    everything else cuts.

    Args:
        probs: float32 [n, M, M].
        thresholds: float32 [n], within (0, 1).
    """
    return (probs.logit(eps=1e-6) - thresholds.logit()[:, None, None]).sigmoid()
