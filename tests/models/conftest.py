"""A tiny Mask R-CNN and scenes to train it on, shared by the tests of the models."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.recipes.recipe import MaskRCNN
from halfmask.structures import Target

torch.set_num_threads(1)

CLASSES = 6  # background included

Scene = Callable[..., tuple[list[Tensor], list[Target]]]


def blob(height: int, width: int, box: list[float], generator: torch.Generator) -> Tensor:
    """uint8 [H, W]: a ragged ellipse that fills the box."""
    x0, y0, x1, y1 = box
    ys, xs = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None] + 0.5
    u, v = (2 * xs - x0 - x1) / (x1 - x0), (2 * ys - y0 - y1) / (y1 - y0)
    ragged = 1 + 0.3 * torch.sin(
        5 * torch.atan2(v.expand_as(u + v), u.expand_as(u + v))
        + torch.rand(1, generator=generator) * 6
    )
    inside = (u**2 + v**2 <= ragged) & (u.abs() <= 1) & (v.abs() <= 1)
    return inside.to(torch.uint8)


def make_scene(
    sizes: list[tuple[int, int]],
    objects: int = 4,
    seed: int = 0,
    masked: str = "all",
    classes: int = CLASSES,
) -> tuple[list[Tensor], list[Target]]:
    """Random images with objects; `masked` is all, none, or half (labels up to half of
    the classes).
    """
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for i, (height, width) in enumerate(sizes):
        corner = torch.rand(objects, 2, generator=generator) * torch.tensor(
            [width * 0.6, height * 0.6]
        )
        side = (0.2 + 0.4 * torch.rand(objects, 2, generator=generator)) * torch.tensor(
            [width, height]
        )
        boxes = torch.cat(
            [corner, torch.minimum(corner + side, torch.tensor([width, height]).float())], 1
        )
        labels = torch.randint(1, classes, (objects,), generator=generator)
        has_mask = {"all": labels > 0, "none": labels < 0, "half": labels <= classes // 2}[masked]
        dense = torch.stack([blob(height, width, b, generator) for b in boxes.tolist()])
        target = Target(
            boxes=boxes,
            labels=labels,
            has_mask=has_mask,
            masks=MaskCrops.from_dense(dense[has_mask]),
            image_id=i,
        )
        images.append(torch.rand(3, height, width, generator=generator))
        targets.append(target)
    return images, targets


def tiny_config(**mask_head: Any) -> MaskRCNN:
    """A Mask R-CNN of a few thousand weights for pictures of about 64 px."""
    return MaskRCNN.model_validate(
        {
            "kind": "mask_rcnn",
            "backbone": {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]},
            "images": {"min_size": [64], "max_size": 96},
            "detector": {
                "fpn_channels": 16,
                "strides": [4, 8, 16],
                "extra_level": False,
                "anchor_sizes": [16, 24, 48],
                "box_width": 24,
                "box_roi_size": 5,
                "rpn_pre_nms": [100, 60],
                "rpn_post_nms": [60, 40],
                "rpn_batch": 64,
                "box_batch": 32,
                "score_threshold": 0.02,
            },
            "mask_head": {"width": 12, "convs": 2, "roi_size": 6, **mask_head},
        }
    )


@pytest.fixture
def scene() -> Scene:
    return make_scene


@pytest.fixture
def config() -> Callable[..., MaskRCNN]:
    return tiny_config
