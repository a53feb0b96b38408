"""torchvision's reference path from a COCO file to training targets: `CocoDetection`,
then masks as a tensor of instances × H × W.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import CocoDetection
from torchvision.transforms.v2 import functional

from halfmask.errors import InputError

Example = tuple[Tensor, dict[str, Tensor]]


class CocoReference(Dataset[Example]):
    """What torchvision's detection reference makes of a photograph: float32 [3, H, W]
    and boxes, labels, masks uint8 [n, H, W].

    Raises:
        InputError: pycocotools is not installed.
    """

    def __init__(self, images: Path, annotations: Path) -> None:
        try:
            from pycocotools import mask
        except ImportError as error:
            raise InputError(
                "bench objects: compares with pycocotools: pip install 'halfmask[dev]'"
            ) from error
        self._mask: Any = mask
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells how long it read
            self.coco = CocoDetection(str(images), str(annotations))

    def __len__(self) -> int:
        return len(self.coco)

    def __getitem__(self, index: int) -> Example:
        image, annotations = self.coco[index]
        width, height = image.size
        pixels = functional.to_dtype(functional.pil_to_tensor(image), torch.float32, scale=True)
        return pixels, self.target(annotations, (height, width))

    def target(self, annotations: list[dict[str, Any]], size: tuple[int, int]) -> dict[str, Tensor]:
        """Of an image's annotations; crowds and boxes without area are left out."""
        objects = [a for a in annotations if a["iscrowd"] == 0]
        boxes = torch.as_tensor([a["bbox"] for a in objects], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=size[1])
        boxes[:, 1::2].clamp_(min=0, max=size[0])
        masks = self._masks([a["segmentation"] for a in objects], size)
        keep = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
        labels = torch.tensor([a["category_id"] for a in objects], dtype=torch.int64)
        return {"boxes": boxes[keep], "labels": labels[keep], "masks": masks[keep]}

    def _masks(self, segmentations: list[Any], size: tuple[int, int]) -> Tensor:
        masks = []
        for segmentation in segmentations:
            polygons = isinstance(segmentation, list)
            drawn = self._mask.decode(
                self._mask.frPyObjects(segmentation, *size) if polygons else segmentation
            )
            dense = torch.as_tensor(drawn, dtype=torch.uint8)
            masks.append((dense if dense.ndim == 3 else dense[..., None]).any(dim=2))
        return (
            torch.stack(masks).to(torch.uint8)
            if masks
            else torch.zeros((0, *size), dtype=torch.uint8)
        )


def mirrored(image: Tensor, target: dict[str, Tensor]) -> Example:
    """The example seen in a mirror."""
    width = image.shape[-1]
    x0, y0, x1, y1 = target["boxes"].unbind(1)
    boxes = torch.stack([width - x1, y0, width - x0, y1], 1)
    return image.flip(-1), {**target, "boxes": boxes, "masks": target["masks"].flip(-1)}
