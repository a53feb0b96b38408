"""A training batch of images, resized and padded to one size: the global batch's, where several processes share it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from halfmask import team
from halfmask.models.draws import SCALE, by_image, image_draws
from halfmask.models.roi_heads import BoxTargets
from halfmask.models.thin_images import thickened
from halfmask.models.training_flag import training_flag
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
    """Padding is seen by convolutions and has anchors: all processes of a step pad to the same size."""
    height, width = int(batch.tensors.shape[-2]), int(batch.tensors.shape[-1])
    most = team.largest([height, width])
    if most == [height, width]:
        return batch
    return ImageList(F.pad(batch.tensors, (0, most[1] - width, 0, most[0] - height)), batch.image_sizes)


def _size(image: Tensor) -> Size:
    return int(image.shape[-2]), int(image.shape[-1])
