"""The quality score: an estimate of a mask's IoU from the readings of its box.

It is fitted on masks that were hidden from the training. Shape letters: n masks, M side
of a mask's map, V readings of each box (contexts × mirror), F features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from halfmask.masks.paste import expected_iou
from halfmask.models.box_segmenter.crops import inside_box

FEATURES = (
    "expected_iou",
    "agreement",
    "least_agreement",
    "wavering",
    "entropy",
    "tightness",
    "fill",
    "spill",
    "log_side",
    "elongation",
)
"""Features of a mask.

expected_iou: of the mean map (`masks.paste.expected_iou`). agreement: mean IoU of
each reading's mask with the mean's. least_agreement: that of the most deviant reading.
wavering: mean standard deviation among the readings. entropy: mean entropy in bits;
both over the box's cells and for each cell of the mask. tightness: IoU of the mask's
own box with the given one. fill: share of the box that is mask. spill: mean probability
in the context around the box. log_side: log2 of the square root of the box's area in
pixels. elongation: |log2| of the box's width over its height.
"""

TRUSTED = ("expected_iou", "agreement", "tightness")
RIDGE, CAUTIOUS = 1.0, 30.0
"""Weight of the squared coefficients of trusted and of other features beside
cross-entropy.

With a few dozen masks the score then depends on the trusted features; with hundreds it
can use the others. Chosen by eye on folds of COCO-mini's train, not measured in a
table.
"""
REACH = 3.0
"""Features count up to this many standard deviations: the fit has no data beyond."""


def agreement_of(readings: list[Tensor], mean: Tensor, inside: Tensor) -> Tensor:
    """Measures how far the readings of a box agree.

    Args:
        readings: V maps float32 [n, M, M], all over the same regions.
        mean: float32 [n, M, M], their mean.
        inside: bool [n, M, M], the box's cells.
    Returns:
        float32 [n, 3]: mean and least IoU with the mean's mask (1 where both are
            empty), and mean standard deviation over the box's cells.
    """
    views = torch.stack(readings)
    masks, whole = (views >= 0.5) & inside, (mean >= 0.5) & inside
    both, either = (masks & whole).sum((2, 3)), (masks | whole).sum((2, 3))
    ious = torch.where(either > 0, both / either.clamp_min(1), 1.0)
    wavering = (views.std(0, unbiased=False) * inside).sum((1, 2)) / inside.sum((1, 2)).clamp_min(1)
    return torch.stack([ious.mean(0), ious.amin(0), wavering], 1)


def mask_features(
    probs: Tensor, visible: Tensor, boxes: Tensor, *, regions: Tensor, agreement: Tensor
) -> Tensor:
    """Returns the features of masks, float32 [n, F], columns as in FEATURES.

    Args:
        probs: float32 [n, M, M], the mean map, spread over `regions`.
        visible: bool [n, M, M], the cells in box and image.
        boxes, regions: float32 [n, 4] xyxy.
        agreement: float32 [n, 3], see `agreement_of`.
    """
    seen = probs * visible
    mask = seen >= 0.5
    cells, area = visible.sum((1, 2)).clamp_min(1), mask.sum((1, 2)).clamp_min(1)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1e-3)
    certain = probs.clamp(1e-4, 1 - 1e-4)
    entropy = -(certain * certain.log2() + (1 - certain) * (1 - certain).log2()) * visible
    outside = inside_box(boxes, regions, probs.shape[-1]) == 0
    columns = (
        expected_iou(seen),
        agreement[:, 0],
        agreement[:, 1],
        agreement[:, 2] * cells / area,
        entropy.sum((1, 2)) / area,
        _tightness(mask, boxes, regions),
        mask.sum((1, 2)) / cells,
        (probs * outside).sum((1, 2)) / outside.sum((1, 2)).clamp_min(1),
        sides.prod(1).sqrt().log2(),
        (sides[:, 0] / sides[:, 1]).log2().abs(),
    )
    return torch.stack([column.to(torch.float32) for column in columns], 1)


def _tightness(mask: Tensor, boxes: Tensor, regions: Tensor) -> Tensor:
    """Returns each mask's own box's IoU with the given box, 0 for an empty mask."""
    size = mask.shape[-1]
    ends = []
    for along in (1, 2):  # columns, then rows
        filled = mask.any(along)
        first, behind = filled.float().argmax(1), size - filled.flip(1).float().argmax(1)
        ends.append((first, torch.where(filled.any(1), behind, first)))
    corners = torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], 1).to(boxes.dtype)
    own = regions[:, :2].repeat(1, 2) + corners / size * (regions[:, 2:] - regions[:, :2]).repeat(
        1, 2
    )
    low, high = torch.maximum(own[:, :2], boxes[:, :2]), torch.minimum(own[:, 2:], boxes[:, 2:])
    both = (high - low).clamp_min(0).prod(1)
    either = (own[:, 2:] - own[:, :2]).prod(1) + (boxes[:, 2:] - boxes[:, :2]).prod(1) - both
    return both / either.clamp_min(1e-6)


class QualityScore(nn.Module):
    """Features of a mask → its IoU, by a logistic curve; unfitted, the expected IoU.

    Its numbers are buffers, so a checkpoint holds them; older files load as unfitted.
    """

    centre: Tensor
    spread: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("centre", "spread", "weights"):
            self.register_buffer(name, torch.zeros(len(FEATURES)))
        self.register_buffer("bias", torch.zeros(1))

    @property
    def fitted(self) -> bool:
        return bool((self.spread > 0).any())

    def forward(self, features: Tensor) -> Tensor:
        """Returns float32 [n] in [0, 1] of features [n, F]; 0 for an empty mask."""
        return self.curve(features) if self.fitted else features[:, 0]

    def curve(self, features: Tensor) -> Tensor:
        """Returns the fitted score, without the check of `forward`."""
        score = (self._standard(features) @ self.weights + self.bias).sigmoid()
        return torch.where(features[:, 0] > 0, score, 0.0)

    def _standard(self, features: Tensor) -> Tensor:
        return ((features - self.centre) / self.spread).clamp(-REACH, REACH)

    @torch.no_grad()
    def fit(self, features: Tensor, ious: Tensor) -> None:
        """Fits by logistic ridge regression to features [n, F] and IoUs [n], n ≥ 2.

        The bias is free, so the mean score of these masks is their mean IoU.
        """
        self.centre.copy_(features.mean(0))
        self.spread.copy_(features.std(0).clamp_min(1e-4))
        x = self._standard(features).double()
        x, y = torch.cat([x, x.new_ones(len(x), 1)], 1), ious.double().to(x.device)
        # The bias has almost no ridge: only so that IoUs that are all 1 have a
        # solution.
        ridge = x.new_tensor([RIDGE if name in TRUSTED else CAUTIOUS for name in FEATURES] + [1e-6])
        solution = torch.zeros_like(ridge)
        for _ in range(50):  # Newton's method on a convex function
            p = (x @ solution).sigmoid()
            slope = x.T @ (p - y) + ridge * solution
            step = torch.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + torch.diag(ridge), slope)
            solution -= step.clamp(-2, 2)
            if float(step.abs().max()) < 1e-9:
                break
        self.weights.copy_(solution[:-1])
        self.bias.copy_(solution[-1:])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Loads a state dict from before this score as an unfitted one."""
        if not any(key.startswith(prefix) for key in state_dict):
            for name, buffer in self.named_buffers():
                state_dict[prefix + name] = torch.zeros_like(buffer)
        super()._load_from_state_dict(state_dict, prefix, *rest)
