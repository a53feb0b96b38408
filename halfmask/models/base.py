"""The interface of every model: losses of a batch, detect, segment."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.masks.paste import grown
from halfmask.recipes.run import LossKind
from halfmask.structures import Detection, Target


class SegmentationModel(nn.Module, ABC):
    """Learns from boxes of all classes and the masks that exist; masks all classes."""

    @abstractmethod
    def forward(
        self, images: list[Tensor], targets: list[Target], loss: LossKind = "all"
    ) -> dict[str, Tensor]:
        """Returns named losses (scalars) of a training batch; their sum is the loss.

        Args:
            images: float32 [3, H, W] each, RGB in [0, 1], sizes may differ.
            targets: one for each image. Images without objects or masks give finite
                losses.
            loss: the losses to compute. `masks` expects frozen detector parts.
        """

    @abstractmethod
    def detect(self, images: list[Tensor], least_score: float = 0.0) -> list[Detection]:
        """Finds objects with at least this score, and their masks.

        Raises:
            InputError: the model has no detector.
        """

    @abstractmethod
    def segment(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[Detection]:
        """Returns masks for given boxes, batched over all boxes of all images.

        Args:
            images: float32 [3, H, W] each.
            boxes: float32 [n, 4] xyxy for each image, n may be 0.
            labels: int64 [n] for each image; None if the model does not need labels or
                predicts them itself.
        Returns:
            One Detection an image, rows in the order of the boxes. Scores are 1, or the
                class score if the model predicted the label.
        """

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """Returns the parts that a stage may train or freeze, which share no parameter."""

    @property
    @abstractmethod
    def has_detector(self) -> bool: ...

    @property
    @abstractmethod
    def needs_labels(self) -> bool:
        """Whether `segment` gives better masks with labels than without."""


class FixedSegmenter(SegmentationModel):
    """A rule, or another project's model, that masks given boxes and never learns.

    Attributes:
        cells: M, side of its masks.
        reach: how far masks go beyond their boxes now, share of the box's side.
    """

    cells: int
    reach = 0.0

    @abstractmethod
    def draw(self, image: Tensor, boxes: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Draws a mask in each region, and estimates its quality.

        Args:
            image: float32 [3, H, W].
            boxes: float32 [n, 4], n ≥ 1.
            regions: float32 [n, 4], the boxes with `reach`.
        Returns:
            Masks float32 [n, M, M] in [0, 1], spread over each region; quality [n].
        """

    @torch.no_grad()
    def segment(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[Detection]:
        out = []
        for i, (image, places) in enumerate(zip(images, boxes, strict=True)):
            n, size = len(places), (int(image.shape[-2]), int(image.shape[-1]))
            regions = grown(places, self.reach) if self.reach else places
            nothing = places.new_zeros((0, self.cells, self.cells)), places.new_zeros(0)
            probs, quality = self.draw(image, places, regions) if n else nothing
            known = places.new_zeros(n, dtype=torch.int64) if labels is None else labels[i]
            scores = places.new_ones(n)
            out.append(
                Detection(
                    boxes=places,
                    labels=known,
                    scores=scores,
                    mask_probs=probs,
                    regions=regions,
                    quality=quality,
                    image_size=size,
                    reach=self.reach,
                )
            )
        return out

    def forward(
        self, images: list[Tensor], targets: list[Target], loss: LossKind = "all"
    ) -> dict[str, Tensor]:
        raise InputError(f"{type(self).__name__} does not learn: there is nothing to train")

    def detect(self, images: list[Tensor], least_score: float = 0.0) -> list[Detection]:
        raise InputError(
            f"{type(self).__name__} makes masks of given boxes and finds none: pass boxes to "
            "`segment`"
        )

    @property
    def has_detector(self) -> bool:
        return False

    @property
    def needs_labels(self) -> bool:
        return False


def precise(tensor: Tensor) -> Tensor:
    """Returns a half-precision tensor as float32, any other as it came."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
