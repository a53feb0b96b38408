"""The words that every room shares, as types: MaskCrops, Target, Detection.

Shape letters: N images, n objects of one image, m objects of it that have a mask, M
side of a predicted mask, H×W image size. Boxes are xyxy in absolute pixels, float32; x
right, y down; a pixel covers [x, x+1) × [y, y+1).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops, encode_rle
from halfmask.masks.paste import grown, paste


@dataclass(frozen=True)
class Target:
    """What is known of one image: every object has a box and a class, some have a mask.

    Attributes:
        boxes: float32 [n, 4] xyxy, pixels of the image, each with positive width and
            height.
        labels: int64 [n], 1…K−1 (0 is background).
        has_mask: bool [n].
        masks: the masks of the m objects whose has_mask is true, in their order.
        image_id: the file's id of the image.
        annotation_ids: int64 [n], the file's ids of the objects (0 where there is
            none).
        mask_weight: float32 [n], how much each mask counts in a loss: 1 for a person's,
            less for one that a model drew. None: all 1.
        loose_box: bool [n], boxes that a change of the image has made loose: they say
            nothing of where their object ends. None: no box.
        draws: seed of the random draws that a training step makes for this image; None:
            whatever the process draws next.
    """

    boxes: Tensor
    labels: Tensor
    has_mask: Tensor
    masks: MaskCrops
    image_id: int = 0
    annotation_ids: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    mask_weight: Tensor | None = None
    loose_box: Tensor | None = None
    draws: int | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes)
        assert self.boxes.shape == (n, 4), self.boxes.shape
        assert self.labels.shape == (n,), (self.labels.shape, n)
        assert self.has_mask.shape == (n,), (self.has_mask.shape, n)
        assert len(self.masks) == int(self.has_mask.sum()), (len(self.masks), self.has_mask)

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def mask_row(self) -> Tensor:
        """int64 [n]: the row of each object in `masks`, −1 where it has none."""
        return torch.where(self.has_mask, self.has_mask.cumsum(0) - 1, -1)

    def to(self, device: torch.device | str) -> Target:
        return replace(
            self,
            boxes=self.boxes.to(device),
            labels=self.labels.to(device),
            has_mask=self.has_mask.to(device),
            masks=self.masks.to(device),
            mask_weight=None if self.mask_weight is None else self.mask_weight.to(device),
            loose_box=None if self.loose_box is None else self.loose_box.to(device),
        )


@dataclass(frozen=True)
class Detection:
    """What a model says of one image: n boxes and one low-resolution mask beside each,
    until someone asks for pixels.

    Attributes:
        boxes: float32 [n, 4] xyxy in pixels of the image.
        labels: int64 [n]; 0 where the model was asked without classes.
        scores: float32 [n], confidence of the detector; 1 where the boxes were given.
        mask_probs: float32 [n, M, M], probability that a cell of the region is the
            object's.
        regions: float32 [n, 4] xyxy, the rectangle of the image over which mask_probs
            is spread: the box itself, or the box with context.
        quality: float32 [n] in [0, 1], the model's estimate of each mask's IoU.
        image_size: (H, W).
        reach: how far beyond its box a mask may go, share of the box's side.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    mask_probs: Tensor
    regions: Tensor
    quality: Tensor
    image_size: tuple[int, int]
    reach: float = 0.0

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: Tensor) -> Detection:
        """The detections at `index` (int64 or bool)."""
        return replace(
            self,
            boxes=self.boxes[index],
            labels=self.labels[index],
            scores=self.scores[index],
            mask_probs=self.mask_probs[index],
            regions=self.regions[index],
            quality=self.quality[index],
        )

    @property
    def limits(self) -> Tensor:
        """float32 [n, 4] xyxy: where the masks may be, the boxes and what `reach` adds to them."""
        return grown(self.boxes, self.reach) if self.reach else self.boxes

    def crops(self, threshold: float = 0.5) -> MaskCrops:
        """The masks in image pixels, clipped to `limits`, as crops."""
        return paste(self.mask_probs, self.regions, self.limits, self.image_size, threshold)

    def masks(self, threshold: float = 0.5) -> Tensor:
        """Dense masks, bool [n, H, W]."""
        return self.crops(threshold).dense()

    def rle(self, threshold: float = 0.5) -> list[dict[str, object]]:
        """The masks as COCO's compressed RLE, made without a canvas."""
        return encode_rle(self.crops(threshold))
