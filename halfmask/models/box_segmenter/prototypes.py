"""Prototypes: a vector for each class from the look of its boxes, without masks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.models.backbones.encoder import Encoder
from halfmask.models.box_segmenter.crops import CropReader, inside_box
from halfmask.structures import Target

PER_CLASS = 64
"""Boxes that are read of a class, the first ones: more hardly move the mean."""
CHUNK = 32
"""Boxes in one call of the encoder: bounds the memory."""


@torch.no_grad()
def class_prototypes(
    reader: CropReader,
    encoder: Encoder,
    examples: Iterable[tuple[Tensor, Target]],
    *,
    num_classes: int,
    per_class: int = PER_CLASS,
) -> Tensor:
    """Returns the mean look of each class's boxes, less the mean of all, with length 1.

    No mask is read (cf. the prototypes of Snell et al., NeurIPS 2017).

    Args:
        encoder: as loaded. Its coarsest map is averaged over the cells of the box.
        examples: images float32 [3, H, W] and their targets.
        num_classes: K, background included.
        per_class: boxes read of a class.
    Returns:
        float32 [K−1, E], E the coarsest map's channels; zeros for a class without a
            box.
    """
    width = encoder.channels[max(encoder.channels)]
    sums, counts = torch.zeros(num_classes - 1, width), torch.zeros(num_classes - 1)
    device = next(encoder.parameters()).device
    for image, target in examples:
        rows = _wanted(target.labels.cpu() - 1, counts, per_class)
        for part in torch.split(rows, CHUNK) if len(rows) else ():
            looks = _looks(
                reader, encoder, image.to(device), boxes=target.boxes[part].to(device)
            ).cpu()
            sums.index_add_(0, target.labels[part].cpu() - 1, looks)
    seen = counts > 0
    means = sums / counts.clamp_min(1)[:, None]
    if int(seen.sum()) > 1:  # one class alone would lose everything
        means = means - means[seen].mean(0)
    return torch.where(seen[:, None], F.normalize(means, dim=1), 0.0)


def _wanted(classes: Tensor, counts: Tensor, per_class: int) -> Tensor:
    """Returns the rows whose class has too few boxes so far, and counts them."""
    rows = []
    for row, k in enumerate(classes.tolist()):
        if counts[k] < per_class:
            counts[k] += 1
            rows.append(row)
    return torch.tensor(rows, dtype=torch.int64)


def _looks(reader: CropReader, encoder: Encoder, image: Tensor, *, boxes: Tensor) -> Tensor:
    """Returns the coarsest map averaged over each box, [r, E], with length 1."""
    regions = reader.regions(boxes)
    maps = encoder(reader.read(reader.pyramid(image), boxes, regions))[
        max(encoder.channels)
    ].float()
    share = inside_box(boxes, regions, maps.shape[-1])[:, None]
    mean = (maps * share).sum((2, 3)) / share.sum((2, 3)).clamp_min(1e-6)
    return F.normalize(mean, dim=1)
