"""A training batch of images, resized and padded to one size: the global batch's, where
several processes share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from halfmask import distributed
from halfmask.models.image_rng import SCALE, by_image, image_draws
from halfmask.models.mask_rcnn.box_heads import BoxTargets
from halfmask.structures import Target

Size = tuple[int, int]


def training_batch(
    transform: GeneralizedRCNNTransform,
    images: list[Tensor],
    targets: list[Target],
    resize: Callable[[Tensor, Size, Size], Tensor] | None = None,
) -> tuple[ImageList, BoxTargets]:
    """Images [3, H, W] resized as in training, and boxes and labels with them.

    Args:
        resize: (boxes, size before, size after) → boxes; None: torchvision's.
    """
    device, given = images[0].device, images
    images = thickened(images, transform.max_size)
    dicts = [{"boxes": t.boxes.to(device), "labels": t.labels.to(device)} for t in targets]
    for one, before, after in zip(dicts, given, images, strict=True):
        if after is not before:
            one["boxes"] = resize_boxes(one["boxes"], _size(before), _size(after))
    with training_flag(transform, True):
        if by_image():
            batch, placed = _resized_one_by_one(transform, images, dicts)
        else:
            batch, placed = transform(images, dicts)
    if resize is not None:
        for row, target, image, size in zip(placed, dicts, images, batch.image_sizes, strict=True):
            row["boxes"] = resize(target["boxes"], _size(image), size)
    return _padded_for_all(batch), placed


def _resized_one_by_one(
    transform: GeneralizedRCNNTransform, images: list[Tensor], targets: BoxTargets
) -> tuple[ImageList, BoxTargets]:
    """What the transform does, but each image draws its size by itself."""
    resized, placed = [], []
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        with image_draws(index, SCALE):
            small, boxes = transform.resize(transform.normalize(image), dict(target))
        resized.append(small)
        placed.append(boxes)
    sizes = [_size(image) for image in resized]
    return ImageList(transform.batch_images(resized, transform.size_divisible), sizes), placed


def _padded_for_all(batch: ImageList) -> ImageList:
    """Padding is seen by convolutions and has anchors: all processes of a step pad to
    the same size.
    """
    height, width = int(batch.tensors.shape[-2]), int(batch.tensors.shape[-1])
    most = distributed.largest([height, width])
    if most == [height, width]:
        return batch
    return ImageList(
        F.pad(batch.tensors, (0, most[1] - width, 0, most[0] - height)), batch.image_sizes
    )


def _size(image: Tensor) -> Size:
    return int(image.shape[-2]), int(image.shape[-1])


def thickened(images: list[Tensor], longest: int) -> list[Tensor]:
    """The images [3, H, W] as they are, but for those whose shorter side would vanish:
    its pixels are repeated until it does not.

    Args:
        longest: pixels of the longer side that resizing allows.
    """
    return [_thickened(image, longest) for image in images]


def _thickened(image: Tensor, longest: int) -> Tensor:
    height, width = int(image.shape[-2]), int(image.shape[-1])
    least = max(height, width) // longest + 1
    if min(height, width) >= least or max(height, width) <= longest:
        return image
    return functional.interpolate(
        image[None], (max(height, least), max(width, least)), mode="nearest"
    )[0]


@contextmanager
def training_flag(module: nn.Module, training: bool) -> Iterator[None]:
    """Sets the flag of the module, not of its children: torchvision's transform and RPN
    choose by it what they compute.
    """
    before, module.training = module.training, training
    try:
        yield
    finally:
        module.training = before


def propose_in_full_precision(head: nn.Module) -> None:
    """Lets torchvision's RPN head answer in float32, whatever it computes in: it places
    its boxes in the precision of its offsets.
    """
    head.register_forward_hook(_as_float32)


def _as_float32(
    _: nn.Module, __: Any, found: tuple[list[Tensor], list[Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    scores, offsets = found
    return [s.float() for s in scores], [o.float() for o in offsets]
