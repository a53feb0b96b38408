"""What the classes look like: a vector for each class from its boxes alone, box-only
classes included.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.models.backbones.encoder import Encoder
from halfmask.models.box_segmenter.crops import CropReader, inside_box
from halfmask.structures import Target

PER_CLASS = 64
"""Boxes of a class that are looked at, the first ones that come: a mean of more hardly moves."""
CHUNK = 32
"""Boxes that go through the encoder together: bounds memory."""


@torch.no_grad()
def class_prototypes(
    reader: CropReader,
    encoder: Encoder,
    examples: Iterable[tuple[Tensor, Target]],
    num_classes: int,
    per_class: int = PER_CLASS,
) -> Tensor:
    """Mean look of each class's boxes to an encoder, less what all classes have in
    common, as vectors of length 1.

    No mask is read: a class that has boxes alone gets its vector in the same way (cf.
    the prototypes of Snell et al., NeurIPS 2017).

    Args:
        encoder: as it was loaded, before it learns masks; its coarsest map is averaged
            over the cells of the box.
        examples: images float32 [3, H, W] and what is known of them.
        num_classes: K, background included.
    Returns:
        float32 [K−1, E], E the channels of the coarsest map; zeros for a class without
            a box.
    """
    width = encoder.channels[max(encoder.channels)]
    sums, counts = torch.zeros(num_classes - 1, width), torch.zeros(num_classes - 1)
    device = next(encoder.parameters()).device
    for image, target in examples:
        rows = _wanted(target.labels.cpu() - 1, counts, per_class)
        for part in torch.split(rows, CHUNK) if len(rows) else ():
            looks = _looks(reader, encoder, image.to(device), target.boxes[part].to(device)).cpu()
            sums.index_add_(0, target.labels[part].cpu() - 1, looks)
    seen = counts > 0
    means = sums / counts.clamp_min(1)[:, None]
    if int(seen.sum()) > 1:  # one class alone has nothing in common with others
        means = means - means[seen].mean(0)
    return torch.where(seen[:, None], F.normalize(means, dim=1), 0.0)


def _wanted(classes: Tensor, counts: Tensor, per_class: int) -> Tensor:
    """int64: the rows whose class has not enough boxes yet. Counts them."""
    rows = []
    for row, k in enumerate(classes.tolist()):
        if counts[k] < per_class:
            counts[k] += 1
            rows.append(row)
    return torch.tensor(rows, dtype=torch.int64)


def _looks(reader: CropReader, encoder: Encoder, image: Tensor, boxes: Tensor) -> Tensor:
    """float32 [r, E]: the coarsest map of each box's crop, averaged over the box; each
    vector of length 1, so that no box outweighs another.
    """
    regions = reader.regions(boxes)
    maps = encoder(reader.read(reader.pyramid(image), boxes, regions))[
        max(encoder.channels)
    ].float()
    share = inside_box(boxes, regions, maps.shape[-1])[:, None]
    mean = (maps * share).sum((2, 3)) / share.sum((2, 3)).clamp_min(1e-6)
    return F.normalize(mean, dim=1)
