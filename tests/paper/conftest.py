"""A small partly masked COCO file with pictures, a small Mask^X R-CNN, and recipes of
both schedules, for the checks of the paper.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.structures import Target

torch.set_num_threads(1)

A, B = (1, 2, 3), (4, 5, 6)
"""Category ids; those of A keep their masks."""
SIDE = 72
Record = dict[str, Any]
Batch = tuple[list[Tensor], list[Target]]

MODEL: Record = {
    "kind": "mask_rcnn",
    "backbone": {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]},
    "images": {"min_size": [SIDE], "max_size": SIDE},
    "detector": {
        "fpn_channels": 12,
        "strides": [4, 8, 16],
        "extra_level": False,
        "anchor_sizes": [16, 24, 40],
        "box_width": 16,
        "box_roi_size": 5,
        "rpn_pre_nms": [80, 40],
        "rpn_post_nms": [40, 30],
        "rpn_batch": 48,
        "box_batch": 32,
    },
}
OPTIMISER = {
    "name": "sgd",
    "lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 0.01,
    "bias_lr_factor": 2.0,
    "decay_biases": False,
}
BOXES = {
    "name": "boxes",
    "train": ["backbone", "fpn", "rpn", "box_head"],
    "loss": "boxes",
    "steps": 2,
    "batch_size": 2,
}
MASKS = {"name": "masks", "train": ["mask_head"], "loss": "masks", "steps": 3, "batch_size": 2}
WHOLE = {"name": "whole", "train": ["all"], "loss": "all", "steps": 3, "batch_size": 2}
SCHEDULES = {
    "stage-wise": [BOXES, MASKS],
    "stage-wise, cached features": [BOXES, {**MASKS, "cache_features": True, "batch_size": 6}],
    "end to end": [WHOLE],
}


def triangle(box: list[float]) -> list[list[float]]:
    x, y, w, h = box
    return [[x, y + h, x + w / 2, y, x + w, y + h]]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(1, 5):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
    return folder


@pytest.fixture
def document() -> Record:
    """Four pictures, each with six objects, one of every class, all with masks; boxes
    overlap across A and B.
    """
    rng = np.random.default_rng(1)
    rows: list[Record] = []
    for image in range(1, 5):
        for category in rng.permutation([*A, *B]).tolist():
            w, h = rng.uniform(18, 40, 2).round(1).tolist()
            x, y = rng.uniform(0, SIDE - 41, 2).round(1).tolist()
            row = {"id": len(rows) + 1, "image_id": image, "category_id": category, "iscrowd": 0}
            rows.append(
                {
                    **row,
                    "bbox": [x, y, w, h],
                    "area": w * h / 2,
                    "segmentation": triangle([x, y, w, h]),
                }
            )
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIDE, "width": SIDE} for i in range(1, 5)
        ],
        "annotations": rows,
        "categories": [{"id": i, "name": f"c{i}"} for i in (*A, *B)],
    }


Model = Callable[..., PartialMaskRCNN]


@pytest.fixture
def model() -> Model:
    """A model whose mask head has these settings; the same weights for the same settings."""

    def build(**mask_head: Any) -> PartialMaskRCNN:
        torch.manual_seed(0)
        head = {"width": 10, "convs": 1, "roi_size": 6, **mask_head}
        recipe = parse_recipe(
            {
                "name": "x",
                "model": {**MODEL, "mask_head": head},
                "data": DATA,
                "stages": [stage(WHOLE)],
            },
            "x",
        )
        assert recipe.model.kind == "mask_rcnn"
        return build_mask_rcnn(recipe.model, len(A) + len(B) + 1)

    return build


@pytest.fixture
def batch(pictures: Path) -> Callable[[Record], Batch]:
    """The first two pictures of a document as the training data gives them."""

    def read(document: Record) -> Batch:
        dataset = CocoInstances(CocoFile.from_document(document, "test"), pictures)
        rows = [dataset[0], dataset[1]]
        return [image for image, _ in rows], [target for _, target in rows]

    return read


DATA: Record = {"annotations": "a", "images": "b"}


def stage(settings: Record, **optimiser: Any) -> Record:
    return {**settings, "optimiser": OPTIMISER | optimiser}


@pytest.fixture
def recipe(pictures: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe of a schedule's stages on a document; `masked` as in data.masked."""

    def make(
        document: Record,
        stages: list[Record],
        masked: str | None = ",".join(f"c{i}" for i in A),
        name: str = "data",
        **head: Any,
    ) -> Recipe:
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(document))
        data = {
            "annotations": str(file),
            "images": str(pictures),
            "masked": masked,
            "masked_threshold": 1,
        }
        whole = {**MODEL, "mask_head": {"width": 10, "convs": 1, "roi_size": 6, **head}}
        listed = [s if "optimiser" in s else stage(s) for s in stages]
        return parse_recipe(
            {"name": "paper", "model": whole, "data": data, "stages": listed}, "test"
        )

    return make
