"""Batches of images, resized and padded to one size (in training, of all processes)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from halfmask import distributed
from halfmask.models.base import precise
from halfmask.models.image_rng import SCALE, has_image_seeds, image_rng
from halfmask.models.mask_rcnn.box_heads import BoxTargets
from halfmask.structures import Target

Size = tuple[int, int]


def inference_batch(transform: GeneralizedRCNNTransform, images: list[Tensor]) -> ImageList:
    """Returns images [3, H, W] resized for inference and padded to one size."""
    with training_flag(transform, False):
        batch: ImageList = transform(thickened(images, transform.max_size))[0]
    return batch


def training_batch(
    transform: GeneralizedRCNNTransform,
    images: list[Tensor],
    targets: list[Target],
    *,
    resize: Callable[[Tensor, Size, Size], Tensor] | None = None,
) -> tuple[ImageList, BoxTargets]:
    """Returns images [3, H, W] resized for training, and their boxes and labels.

    Images with crowds have `crowds` and `crowd_labels` too.

    Args:
        resize: (boxes, size before, size after) → boxes; None: torchvision's.
    """
    device, given = images[0].device, images
    images = thickened(images, transform.max_size)
    dicts = [{"boxes": t.boxes.to(device), "labels": t.labels.to(device)} for t in targets]
    for one, before, after in zip(dicts, given, images, strict=True):
        if after is not before:
            one["boxes"] = resize_boxes(one["boxes"], size_of(before), size_of(after))
    with training_flag(transform, True):
        if has_image_seeds():
            batch, placed = _resized_one_by_one(transform, images, dicts)
        else:
            batch, placed = transform(images, dicts)
    if resize is not None:
        for row, target, image, size in zip(placed, dicts, images, batch.image_sizes, strict=True):
            row["boxes"] = resize(target["boxes"], size_of(image), size)
    sizes = zip(given, batch.image_sizes, strict=True)
    for row, known, (image, size) in zip(placed, targets, sizes, strict=True):
        if known.crowds is not None:
            crowds = known.crowds.to(device)
            row["crowds"] = (resize or resize_boxes)(crowds, size_of(image), size)
            row["crowd_labels"] = known.crowd_labels.to(device)
    return _padded_for_all(batch), placed


def _resized_one_by_one(
    transform: GeneralizedRCNNTransform, images: list[Tensor], targets: BoxTargets
) -> tuple[ImageList, BoxTargets]:
    """Does the transform's work, with the size of each image from its own seed."""
    resized, placed = [], []
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        with image_rng(index, SCALE):
            small, boxes = transform.resize(transform.normalize(image), dict(target))
        resized.append(small)
        placed.append(boxes)
    sizes = [size_of(image) for image in resized]
    return ImageList(transform.batch_images(resized, transform.size_divisible), sizes), placed


def _padded_for_all(batch: ImageList) -> ImageList:
    """Pads to one size for all processes: convolutions and anchors see the padding."""
    height, width = size_of(batch.tensors)
    most = distributed.largest([height, width])
    if most == [height, width]:
        return batch
    padding = (0, most[1] - width, 0, most[0] - height)
    return ImageList(F.pad(batch.tensors, padding), batch.image_sizes)


def size_of(image: Tensor) -> Size:
    """Returns (H, W) of an image or a batch [..., H, W]."""
    return int(image.shape[-2]), int(image.shape[-1])


def lower_max_size(transform: GeneralizedRCNNTransform, longest: int) -> bool:
    """Lowers the most pixels of a longer side; returns whether it was higher."""
    lower = longest < int(transform.max_size)
    if lower:
        transform.max_size = longest
    return lower


def thickened(images: list[Tensor], longest: int) -> list[Tensor]:
    """Repeats pixels of a shorter side that resizing to `longest` would make vanish."""
    return [_thickened(image, longest) for image in images]


def _thickened(image: Tensor, longest: int) -> Tensor:
    height, width = size_of(image)
    least = max(height, width) // longest + 1
    if min(height, width) >= least or max(height, width) <= longest:
        return image
    size = (max(height, least), max(width, least))
    return F.interpolate(image[None], size, mode="nearest")[0]


@contextmanager
def training_flag(module: nn.Module, training: bool) -> Iterator[None]:
    """Sets the training flag of torchvision's transform or RPN, not of its children."""
    before, module.training = module.training, training
    try:
        yield
    finally:
        module.training = before


def propose_in_full_precision(head: nn.Module) -> None:
    """Lets torchvision's RPN head answer in float32 at least, as boxes need it."""
    head.register_forward_hook(_as_float32)


def _as_float32(
    _: nn.Module, __: Any, found: tuple[list[Tensor], list[Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    scores, offsets = found
    return [precise(s) for s in scores], [precise(o) for o in offsets]
