"""What a step learns from: images with targets, or regions from the feature cache."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from halfmask.structures import Target

LossKind = Literal["all", "boxes", "masks"]


@dataclass(frozen=True)
class ImageBatch:
    """N images and what is known of them; `loss` says which losses they are for."""

    images: list[Tensor]
    targets: list[Target]
    loss: LossKind = "all"

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> ImageBatch:
        images = [image.to(device, non_blocking=True) for image in self.images]
        return replace(self, images=images, targets=[target.to(device) for target in self.targets])

    def losses(self, model: Any) -> dict[str, Tensor]:
        return dict(model(self.images, self.targets, self.loss))

    def image_ids(self) -> list[int]:
        return [target.image_id for target in self.targets]


@dataclass(frozen=True)
class RegionBatch:
    """R regions as the model's `mask_regions` returned them (a dataclass of tensors [R, …]) and the images they come from."""

    regions: Any
    sources: list[int]

    def __len__(self) -> int:
        return int(getattr(self.regions, fields(self.regions)[0].name).shape[0])

    def to(self, device: torch.device) -> RegionBatch:
        moved = {f.name: getattr(self.regions, f.name).to(device) for f in fields(self.regions)}
        # Stored in 16 bits, computed with in 32.
        moved = {name: t.float() if t.is_floating_point() else t for name, t in moved.items()}
        return replace(self, regions=replace(self.regions, **moved))

    def losses(self, model: Any) -> dict[str, Tensor]:
        return {"loss_mask": model.mask_loss(self.regions)}

    def image_ids(self) -> list[int]:
        return self.sources
