"""Training crops of a box segmenter: some objects of a batch, with their masks."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from halfmask import distributed
from halfmask.masks.crops import tightness
from halfmask.masks.sample import sample
from halfmask.models.box_segmenter.box_noise import Jitter
from halfmask.models.box_segmenter.clicks import drawn_clicks
from halfmask.models.box_segmenter.crops import Boxes, CropReader, inside_box
from halfmask.models.box_segmenter.looks import Distillation
from halfmask.models.image_rng import MASKS, image_rng
from halfmask.structures import Target

LABEL_DROPOUT = 0.1
"""Share of the crops whose class is hidden, so that the model works without labels too.
"""

ALONE = 0.25
"""Share of the crops that do not show the other boxes (if any do), so that the model
works in a single box too.
"""


@dataclass(frozen=True, kw_only=True)
class CropBatch:
    """Crops of r objects.

    Attributes:
        crops: float32 [r, C, S, S], see `CropReader.read`.
        masks: float32 [r, M, M] in [0, 1], the truth; 0 for a box-only object.
        counts: bool [r, M, M], the cells whose truth is known.
        true_inside: float32 [r, M, M], share of a cell that lies in the file's own box.
        labels: int64 [r], 0 where the class is hidden.
        weight: float32 [r], how much each mask counts (`Target.mask_weight`).
        has_mask: bool [r].
        clicks, shown: int64 and bool [r], see `clicks.drawn_clicks`.
        looks: float32 [r, M, M], a teacher's probabilities; zeros without one.
    """

    crops: Tensor
    masks: Tensor
    counts: Tensor
    true_inside: Tensor
    labels: Tensor
    weight: Tensor
    has_mask: Tensor
    clicks: Tensor
    shown: Tensor
    looks: Tensor


class CropSampler:
    """Draws objects of training images and cuts them out.

    Args:
        regions_per_image: masked objects drawn from each image at most.
        box_only_per_image: objects without a mask drawn from each image at most.
        ignore_unknown: cells in the box of another object without a mask do not count.
        class_balance: 0 draws each masked object of an image alike, 1 each class alike;
            in between, an object counts its class's number to the power of -balance.

    Attributes:
        distillation: its teacher looks at the objects too; None: no teacher.
    """

    def __init__(
        self,
        reader: CropReader,
        jitter: Jitter | None = None,
        regions_per_image: int = 16,
        *,
        box_only_per_image: int = 0,
        ignore_unknown: bool = False,
        class_balance: float = 0.0,
    ) -> None:
        self.reader = reader
        self.jitter = jitter or Jitter()
        self.regions_per_image = regions_per_image
        self.box_only_per_image = box_only_per_image
        self.ignore_unknown = ignore_unknown
        self.class_balance = class_balance
        self.distillation: Distillation | None = None

    @torch.no_grad()
    def draw(
        self, images: list[Tensor], targets: list[Target], mask_size: int, *, hide_labels: bool
    ) -> CropBatch | None:
        """Returns crops of a batch, masks of side mask_size; None if there are none.

        hide_labels: whether some labels become 0.
        """
        parts = []
        for index, (image, target) in enumerate(zip(images, targets, strict=True)):
            with image_rng(index, MASKS):
                rows = self.rows(target)
                if len(rows):
                    parts.append(
                        self._cut(image, target, rows, mask_size=mask_size, hide_labels=hide_labels)
                    )
        if not parts:
            return None
        names = [f.name for f in fields(CropBatch)]
        return CropBatch(**{k: torch.cat([getattr(part, k) for part in parts]) for k in names})

    def nothing(self, images: list[Tensor], mask_size: int) -> CropBatch:
        """Returns no crops, for a process without any: the norms need all processes."""
        size = self.reader.size
        crops = images[0].new_zeros((0, self.reader.channels, size, size))
        maps = images[0].new_zeros((0, mask_size, mask_size))
        flags = torch.zeros(0, dtype=torch.bool, device=maps.device)
        return CropBatch(
            crops=crops,
            masks=maps,
            counts=maps.bool(),
            true_inside=maps,
            labels=flags.long(),
            weight=flags.float(),
            has_mask=flags,
            clicks=flags.long(),
            shown=flags,
            looks=maps,
        )

    def rows(self, target: Target) -> Tensor:
        """Returns int64: the objects to learn from, masked ones first."""
        # A box that was made loose teaches nothing without a mask.
        bare = ~target.has_mask
        bare = bare if target.loose_box is None else bare & ~target.loose_box
        distilled = 0 if self.distillation is None else self.distillation.regions_per_image
        box_only = max(self.box_only_per_image, distilled)
        groups = ((target.has_mask, self.regions_per_image), (bare, box_only))
        chosen = []
        for belongs, limit in groups:
            rows = torch.where(belongs)[0].cpu()
            # An empty group draws nothing from the generator, so that unused box-only
            # objects change no other draw.
            drawn = len(rows) and limit
            chosen.append(rows[self._order(target.labels[rows])[:limit]] if drawn else rows[:0])
        return torch.cat(chosen).to(target.boxes.device)

    def _order(self, labels: Tensor) -> Tensor:
        """Returns a random order of objects (int64 [n]), balanced over their classes."""
        if self.class_balance == 0:
            return torch.randperm(len(labels))
        counts = torch.bincount(labels.cpu())[labels.cpu()]
        chances = counts.float() ** -self.class_balance
        return torch.multinomial(chances, len(labels))

    def _cut(
        self, image: Tensor, target: Target, rows: Tensor, *, mask_size: int, hide_labels: bool
    ) -> CropBatch:
        boxes, loose = self.jitter.move_boxes(target.boxes[rows])
        regions = self.jitter.move_regions(self.reader.regions(boxes))
        crops = self.reader.read(
            self.reader.pyramid(image), boxes, regions, among=Boxes(target.boxes, rows), loose=loose
        )
        if self.reader.neighbours:
            _hide_neighbours(crops)
        has_mask = target.has_mask[rows]
        masks = boxes.new_zeros((len(rows), mask_size, mask_size))
        # `sample` takes a pixel's value at its corner, as torchvision does for mask
        # targets; crops are read with it at the centre.
        places = regions[has_mask] - 0.5
        masks[has_mask] = sample(
            target.masks, target.mask_row[rows[has_mask]], places, size=mask_size
        )
        labels = target.labels[rows]
        if hide_labels:
            hidden = torch.rand(len(labels)) < LABEL_DROPOUT
            labels = labels.masked_fill(hidden.to(labels.device), 0)
        counts = inside_box(self.reader.limits(boxes, loose), regions, mask_size) > 0
        if self.ignore_unknown:
            counts &= (masks >= 0.5) | ~_in_other_boxes(target, rows, regions, size=mask_size)
        weight = boxes.new_ones(len(boxes))
        weight = weight if target.mask_weight is None else target.mask_weight[rows]
        true_inside = inside_box(target.boxes[rows], regions, mask_size)
        clicks, shown = self._hints(has_mask)
        return CropBatch(
            crops=crops,
            masks=masks,
            counts=counts,
            true_inside=true_inside,
            labels=labels,
            weight=weight,
            has_mask=has_mask,
            clicks=clicks,
            shown=shown,
            looks=self._looks(image, target, rows, regions=regions, like=masks),
        )

    def _looks(
        self, image: Tensor, target: Target, rows: Tensor, *, regions: Tensor, like: Tensor
    ) -> Tensor:
        if self.distillation is None:
            return torch.zeros_like(like)
        boxes, labels = target.boxes[rows], target.labels[rows]
        return self.distillation.looks(image, boxes, labels, regions=regions)

    def _hints(self, has_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Draws `drawn_clicks`; only a crop with a true mask has some."""
        if not self.reader.clicks:  # draws nothing, so that other runs stay the same
            return torch.full_like(has_mask, -1, dtype=torch.int64), torch.zeros_like(has_mask)
        clicks, shown = (rows.to(has_mask.device) for rows in drawn_clicks(len(has_mask)))
        return torch.where(has_mask, clicks, -1), shown & has_mask


def _hide_neighbours(crops: Tensor) -> None:
    """Clears the maps of other boxes in a random share ALONE of the crops."""
    alone = torch.rand(len(crops)) < ALONE
    crops[alone.to(crops.device), 4:6] = 0


def _in_other_boxes(target: Target, rows: Tensor, regions: Tensor, *, size: int) -> Tensor:
    """Returns bool [r, M, M]: cells half in the box of another box-only object."""
    out = torch.zeros((len(rows), size, size), dtype=torch.bool, device=regions.device)
    for neighbour in torch.where(~target.has_mask)[0]:
        box = target.boxes[neighbour].expand(len(rows), 4)
        out |= (inside_box(box, regions, size) >= 0.5) & (rows != neighbour)[:, None, None]
    return out


def batch_tightness(targets: list[Target]) -> float | None:
    """Returns the mean IoU of boxes with their masks' own boxes; None without masks."""
    found = [tightness(target.boxes[target.has_mask], target.masks) for target in targets]
    every = torch.cat(found) if found else torch.zeros(0)
    if not distributed.in_step():
        return float(every.mean()) if len(every) else None
    count = distributed.total(len(every))
    total = distributed.total(float(every.sum()))
    return total / count if count else None
