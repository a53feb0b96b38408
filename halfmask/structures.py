"""What is known of an image, and what a model says of it: Target, Detection.

Shape letters: N images, n objects of one image, m objects of it that have a mask, M
side of a predicted mask, H×W image size. Boxes are xyxy in absolute pixels, float32; x
right, y down; a pixel covers [x, x+1) × [y, y+1).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops, encode_rle
from halfmask.masks.paste import grown, paste
from halfmask.masks.polygons import Outline


@dataclass(frozen=True, kw_only=True)
class Target:
    """The objects of one image: each has a box and a class, some have a mask.

    Attributes:
        boxes: float32 [n, 4] xyxy, pixels of the image, each with positive width and
            height.
        labels: int64 [n], 1…K−1 (0 is background).
        has_mask: bool [n].
        masks: the masks of the m objects with has_mask true, in their order.
        image_id: the image's id in the file.
        annotation_ids: int64 [n], the objects' ids in the file (0 without one).
        mask_weight: float32 [n], how much each mask counts in a loss: 1 if a person
            drew it, less if a model did. None: all 1.
        loose_box: bool [n], boxes that an augmentation has made loose, so that they do
            not show where their object ends. None: no box.
        crowds: float32 [c, 4] xyxy, boxes of crowds; None: not read.
        crowd_labels: int64 [c], 1…K−1.
        outlines: of each of the m masks, the polygons that draw it
            (`masks.polygons.Outline`), None for another mask. None: not read.
        draws: seed of the random draws of a training step for this image; None: the
            process's own generator.
    """

    boxes: Tensor
    labels: Tensor
    has_mask: Tensor
    masks: MaskCrops
    image_id: int = 0
    annotation_ids: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    mask_weight: Tensor | None = None
    loose_box: Tensor | None = None
    crowds: Tensor | None = None
    crowd_labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    outlines: tuple[Outline | None, ...] | None = None
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
        """The row of each object in `masks`, int64 [n]; −1 for an object without a mask."""
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
            crowds=None if self.crowds is None else self.crowds.to(device),
            crowd_labels=self.crowd_labels.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A model's answer for one image: n boxes with a low-resolution mask each.

    Masks become pixels only on demand.

    Attributes:
        boxes: float32 [n, 4] xyxy in pixels of the image.
        labels: int64 [n]; 0 if the class is unknown.
        scores: float32 [n], confidence of the detector; 1 for given boxes.
        mask_probs: float32 [n, M, M], probability that a cell of the region belongs to
            the object.
        regions: float32 [n, 4] xyxy, the rectangle of the image that mask_probs covers:
            the box, or the box with context.
        quality: float32 [n] in [0, 1], the model's estimate of each mask's IoU.
        image_size: (H, W).
        reach: how far a mask may go beyond its box, as a fraction of the box's side.
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

    def select(self, index: Tensor) -> Self:
        """Returns the detections at `index` (int64 or bool)."""
        return replace(
            self,
            boxes=self.boxes[index],
            labels=self.labels[index],
            scores=self.scores[index],
            mask_probs=self.mask_probs[index],
            regions=self.regions[index],
            quality=self.quality[index],
        )

    def on_cpu(self) -> Self:
        """Returns the same detections in the CPU's memory, as float32."""
        tensors = ("boxes", "scores", "mask_probs", "regions", "quality")
        moved = {name: getattr(self, name).to("cpu", torch.float32) for name in tensors}
        return replace(self, labels=self.labels.to("cpu"), **moved)

    @property
    def limits(self) -> Tensor:
        """Where masks may be, float32 [n, 4] xyxy: the boxes, grown by `reach`."""
        return grown(self.boxes, self.reach) if self.reach else self.boxes

    def crops(self, threshold: float = 0.5) -> MaskCrops:
        """Returns the masks in image pixels, clipped to `limits`, as crops."""
        return paste(
            self.mask_probs,
            self.regions,
            self.limits,
            image_size=self.image_size,
            threshold=threshold,
        )

    def masks(self, threshold: float = 0.5) -> Tensor:
        """Returns dense masks, bool [n, H, W]."""
        return self.crops(threshold).dense()

    def rle(self, threshold: float = 0.5) -> list[dict[str, object]]:
        """Returns the masks as COCO's compressed RLE, made without a canvas."""
        return encode_rle(self.crops(threshold))
