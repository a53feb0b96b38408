"""A photograph with thousands of masked objects, and what its targets cost on the way
into the loss.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from benchmarks.measuring import allocations_of, process_peak_of
from benchmarks.scale.coco_reference import CocoReference, mirrored
from halfmask.coco.file import CocoFile
from halfmask.data.augment.augment import Augment
from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.files.atomic import write_json
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.regions import region_targets
from halfmask.recipes.recipe import MaskRCNN

REGIONS, SIDE = 128, 28
CORNERS = 24
MODEL = {
    "kind": "mask_rcnn",
    "backbone": {"name": "small_resnet", "widths": [8, 8, 8, 8], "blocks": [1, 1, 1, 1]},
    "images": {"min_size": [800], "max_size": 1333},
    "detector": {"fpn_channels": 16, "box_width": 32},
    "mask_head": {"width": 16, "convs": 1},
}


def write_crowd(folder: Path, count: int, size: tuple[int, int]) -> None:
    """images/1.png of noise and instances.json with `count` polygons of 24 corners, 12
    to 120 pixels across, seeded.
    """
    height, width = size
    rng = np.random.default_rng(count)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(
        folder / "images" / "1.png"
    )
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    annotations = []
    for number in range(1, count + 1):
        radius = rng.uniform(6, 60) * rng.uniform(0.7, 1.0, CORNERS)
        x = np.clip(rng.uniform(0, width) + radius * np.cos(angles), 0, width)
        y = np.clip(rng.uniform(0, height) + radius * np.sin(angles), 0, height)
        box = [float(v) for v in (x.min(), y.min(), np.ptp(x), np.ptp(y))]
        polygon = np.stack([x, y], 1).reshape(-1).round(2).tolist()
        record = {
            "id": number,
            "image_id": 1,
            "category_id": 1 + number % 3,
            "iscrowd": 0,
            "area": box[2] * box[3],
        }
        annotations.append({**record, "bbox": box, "segmentation": [polygon]})
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": width, "height": height}],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in (1, 2, 3)],
    }
    write_json(folder / "instances.json", document)


def target_peak(which: str, folder: str) -> int:
    """Bytes that a process needs at most from the annotations in memory to the drawn
    targets of 128 regions, by way of a mirror; for a fresh process. The photograph is
    not read.
    """
    step = {"halfmask": _ours, "torchvision": _theirs}[which](Path(folder))
    return process_peak_of(step)


def loss_costs(folder: Path) -> dict[str, float]:
    """A step of a small Mask R-CNN on the photograph, from the loader to the gradients:
    its largest tensor and peak in bytes, its loss.
    """
    data = CocoInstances(CocoFile.read(folder / "instances.json"), folder / "images")
    torch.manual_seed(0)
    model = build_mask_rcnn(MaskRCNN.model_validate(MODEL), 4, pretrained=False).train()
    loss: list[float] = []

    def step() -> None:
        images, targets = next(iter(build_loader(data, 1, augment=Augment(flip=1.0))))
        total = torch.stack(list(model(images, targets).values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        loss.append(total.item())

    peak, largest = allocations_of(step)
    return {"largest": largest, "peak": peak, "loss": loss[0]}


def _regions(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The objects' boxes in turn, 128 regions, and the object of each."""
    rows = torch.arange(REGIONS) % len(boxes)
    return rows, boxes[rows]


def _ours(folder: Path) -> Callable[[], Any]:
    file = CocoFile.read(folder / "instances.json")
    data = CocoInstances(file, folder / "images")

    def step() -> Tensor:
        target = data.target(0)
        width = target.masks.image_size[1]
        x0, y0, x1, y1 = target.boxes.unbind(1)
        boxes = torch.stack([width - x1, y0, width - x0, y1], 1)
        target = replace(target, boxes=boxes, masks=target.masks.flip_horizontal())
        rows, regions = _regions(target.boxes)
        return region_targets(target, rows, regions, side=SIDE)[0]

    return step


def _theirs(folder: Path) -> Callable[[], Any]:
    reference = CocoReference(folder / "images", folder / "instances.json")
    record = json.loads((folder / "instances.json").read_text(encoding="utf-8"))["images"][0]
    size = record["height"], record["width"]

    def step() -> Tensor:
        annotations = reference.coco.coco.loadAnns(reference.coco.coco.getAnnIds(1))
        _, target = mirrored(torch.zeros(1, 1, size[1]), reference.target(annotations, size))
        rows, regions = _regions(target["boxes"])
        drawn: Tensor = project_masks_on_boxes(target["masks"], regions, rows, SIDE)
        return drawn

    return step
