"""What every model answers: losses of a batch, detect, segment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.structures import Detection, Target

LossKind = Literal["all", "boxes", "masks"]


class SegmentationModel(nn.Module, ABC):
    """A model that learns from boxes of every class and from the masks that exist, and
    segments every class.
    """

    @abstractmethod
    def forward(
        self, images: list[Tensor], targets: list[Target], loss: LossKind = "all"
    ) -> dict[str, Tensor]:
        """Named losses (scalars) of a training batch; the loop adds them up.

        Args:
            images: float32 [3, H, W] each, RGB in [0, 1], sizes may differ.
            targets: one for each image; images without objects or without masks are
                welcome and give finite losses.
            loss: which losses to compute. `masks` expects the detector's parts to be
                frozen.
        """

    @abstractmethod
    def detect(self, images: list[Tensor]) -> list[Detection]:
        """Finds objects and their masks. Raises InputError where the model has no
        detector (`has_detector`).
        """

    @abstractmethod
    def segment(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[Detection]:
        """Masks for given boxes, batched over all boxes of all images.

        Args:
            images: float32 [3, H, W] each.
            boxes: float32 [n, 4] xyxy for each image, n may be 0.
            labels: int64 [n] for each image; None where the model can do without or
                finds them itself.
        Returns:
            One Detection an image, rows in the order of the boxes, scores 1 (the class
                score where the model found the label).
        """

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The parts that a stage may train or freeze, by name. Together they own every
        parameter, each exactly once.
        """

    @property
    @abstractmethod
    def has_detector(self) -> bool: ...

    @property
    @abstractmethod
    def needs_labels(self) -> bool:
        """Whether `segment` gives better masks with labels than without."""


class FixedSegmenter(SegmentationModel):
    """Draws masks into given boxes as it is: a rule, or somebody else's model. Nothing
    of it is trained here, and it finds no boxes.
    """

    def forward(
        self, images: list[Tensor], targets: list[Target], loss: LossKind = "all"
    ) -> dict[str, Tensor]:
        raise InputError(f"{type(self).__name__} draws masks as it is: there is nothing to train")

    def detect(self, images: list[Tensor]) -> list[Detection]:
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
