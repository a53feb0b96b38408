"""Losses of a mask from its box alone: projection and colour (BoxInst, CVPR 2021).

Shape letters: R maps of M × M cells, each over a region that holds a box (a crop of a
box with context, or a pooled region).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from halfmask import distributed

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Half of a cell's eight neighbours (rows, columns); the other half are the same pairs.
"""


def projection_loss(logits: Tensor, inside: Tensor) -> Tensor:
    """Measures how far the mask is from touching the four sides of its box.

    It is dice between the extents of mask and box in rows and columns.

    Args:
        logits: float [R, M, M].
        inside: float [R, M, M] in [0, 1], share of a cell in the box.
    Returns:
        float [R] from 0 (each row and column of the box holds a cell of the mask) to 2.
    """
    probs = logits.float().sigmoid() * (inside > 0)
    box = inside.float()
    return sum(
        (_dice(probs.amax(side), box.amax(side)) for side in (1, 2)),
        start=logits.new_zeros(len(logits), dtype=torch.float32),
    )


def colour_loss(
    logits: Tensor, similarity: Tensor, inside: Tensor, *, threshold: float = 0.3
) -> Tensor:
    """Measures how often the mask's border runs between neighbours of like colour.

    It is −log of the probability that such a pair is both in or both out.

    Args:
        logits: float [R, M, M].
        similarity: float [R, 4, M, M] of `colour_similarity`.
        inside: float [R, M, M]; pairs with neither cell in the box do not count.
        threshold: pairs at least this similar count (BoxInst's τ).
    Returns:
        float [R], the mean over the pairs that count; 0 without any.
    """
    logits = logits.float()
    masked, free = F.logsigmoid(logits), F.logsigmoid(-logits)
    in_box = (inside > 0).float()
    total = pairs = logits.new_zeros(len(logits))
    for k, (one, other) in enumerate(_pairs(masked, free, in_box)):
        apart = -torch.logaddexp(one[0] + other[0], one[1] + other[1])
        rows, columns = one[0].shape[-2:]
        alike = similarity[:, k, :rows, :columns] >= threshold
        counts = alike.float() * torch.maximum(one[2], other[2])
        total = total + (apart * counts).sum((1, 2))
        pairs = pairs + counts.sum((1, 2))
    return total / pairs.clamp_min(1)


def colour_similarity(lab: Tensor) -> Tensor:
    """Returns exp(−‖Δ‖ / 2) between cells [R, 3, M, M] (CIE LAB) and NEIGHBOURS.

    float [R, 4, M, M], 0 without a neighbour. A pair's entry stands at the upper left
    cell of the two cells' common rectangle.
    """
    out = lab.new_zeros((len(lab), len(NEIGHBOURS), *lab.shape[-2:]))
    for k, ((one,), (other,)) in enumerate(_pairs(lab)):
        rows, columns = one.shape[-2:]
        out[:, k, :rows, :columns] = torch.exp(-(one - other).norm(dim=1) / 2)
    return out


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Converts sRGB in [0, 1], float [R, 3, M, M], to CIE LAB under D65."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp_min(0) ** 2.4, rgb / 12.92)
    to_xyz = rgb.new_tensor(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    white = rgb.new_tensor([0.95047, 1.0, 1.08883])
    xyz = torch.einsum("ij,rjhw->rihw", to_xyz, linear) / white[:, None, None]
    f = torch.where(xyz > 0.008856, xyz.clamp_min(0) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _pairs(*maps: Tensor) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Yields for each of NEIGHBOURS the maps of cells that have it, and of these."""
    for down, right in NEIGHBOURS:
        rows, columns = maps[0].shape[-2] - down, maps[0].shape[-1] - abs(right)
        first, second = max(0, -right), max(0, right)
        yield (
            tuple(m[..., :rows, first : first + columns] for m in maps),
            tuple(m[..., down : down + rows, second : second + columns] for m in maps),
        )


def _dice(found: Tensor, wanted: Tensor) -> Tensor:
    common = (found * wanted).sum(1)
    return 1 - 2 * common / (found.square().sum(1) + wanted.square().sum(1)).clamp_min(1e-6)


LOOSE = 0.5
"""At this tightness of a batch's boxes the projection's weight is 0."""


class BoxSupervision(nn.Module):
    """Projection and colour losses of box-only objects.

    Args:
        projection, colour: weights; the projection's falls where boxes are loose.
        warmup: training steps in which both grow linearly, as at first the mask is
            noise.
    """

    steps: Tensor

    def __init__(self, projection: float, colour: float, warmup: int = 0) -> None:
        super().__init__()
        self.projection = projection
        self.colour = colour
        self.warmup = warmup
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(
        self, logits: Tensor, rgb: Tensor, inside: Tensor, tightness: float | None
    ) -> dict[str, Tensor]:
        """Returns loss_projection and loss_colour.

        Args:
            logits: float [R, M, M]; R may be 0.
            rgb: float [R, 3, S, S] in [0, 1], S a multiple of M.
            inside: float [R, M, M], share of a cell in the file's own box.
            tightness: of the batch's boxes (`sampler.batch_tightness`); None: taken for
                1.
        """
        grown = 1.0 if self.warmup == 0 else min(1.0, float(self.steps) / self.warmup)
        if self.training:
            self.steps += 1
        rows = max(len(logits), 1)
        scale = distributed.mean_scale(len(logits))
        trust = 1.0 if tightness is None else max(0.0, (tightness - LOOSE) / (1 - LOOSE))
        small = F.avg_pool2d(rgb.float(), rgb.shape[-1] // logits.shape[-1])
        similarity = colour_similarity(rgb_to_lab(small))
        projection = projection_loss(logits, inside).sum() / rows
        colour = colour_loss(logits, similarity, inside).sum() / rows
        return {
            "loss_projection": self.projection * grown * trust * projection * scale,
            "loss_colour": self.colour * grown * colour * scale,
        }
