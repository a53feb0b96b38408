"""Set-up of the tests that train whole runs: a small world, small models, stops, comparisons."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.data.synthetic.write import synth
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.training.train import train

RESNET = {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]}
DETECTOR = {
    "fpn_channels": 16,
    "strides": [8, 16],
    "extra_level": False,
    "anchor_sizes": [24, 48],
    "box_width": 24,
    "rpn_batch": 32,
    "box_batch": 32,
    "rpn_pre_nms": [50, 50],
    "rpn_post_nms": [30, 30],
}
REGION_HEADS = {
    "kind": "mask_rcnn",
    "backbone": RESNET,
    "images": {"min_size": [64], "max_size": 64},
    "detector": DETECTOR,
    "mask_head": {"width": 12, "convs": 1, "roi_size": 7},
}
SEGMENTER = {"kind": "box_segmenter", "encoder": RESNET, "crop_size": 32, "decoder_widths": [12, 8]}
BOX_STAGE = {
    "name": "boxes",
    "train": ["backbone", "fpn", "rpn", "box_head"],
    "loss": "boxes",
    "steps": 3,
    "batch_size": 2,
    "optimiser": {"lr": 0.01},
}
SEGMENTER_STAGE = {**BOX_STAGE, "name": "masks", "train": ["all"], "loss": "masks"}


def small_world(folder: Path, images: int) -> dict[str, Any]:
    """Writes images and instances.json with the classes c1 to c6; returns the document."""
    document: dict[str, Any] = json.loads(
        synth(folder, image_count=images, seed=3, class_count=6, size=64).path.read_text()
    )
    document["categories"] = [
        {"id": c["id"], "name": f"c{c['id']}"} for c in document["categories"]
    ]
    written(folder / "instances.json", document)
    return document


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def data_of(world: Path, file: str | Path = "instances.json", **keys: Any) -> dict[str, Any]:
    """A recipe's data section."""
    return {
        "annotations": str(world / file),
        "images": str(world / "images"),
        "masked_threshold": 1,
        **keys,
    }


def tiny_recipe(
    model: dict[str, Any], data: dict[str, Any], *stages: dict[str, Any], **keys: Any
) -> Recipe:
    document = {"name": "tiny", "model": model, "data": data, "stages": list(stages), **keys}
    return parse_recipe(document, "test")


def trained(
    recipe: Recipe, out: Path, *, resume: bool = False, report: bool = False
) -> Path | None:
    """Trains, by default without curves and report; returns the checkpoint of a finished run."""
    return train(recipe, out=out, resume=resume, report=report).checkpoint


@contextmanager
def interrupted(at: int) -> Iterator[None]:
    """Sends Ctrl-C within the backward pass of the given step."""
    backward, calls = torch.Tensor.backward, []

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)
        backward(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", counted)
        yield


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The weights of a run."""
    return load_checkpoint(run / "model.safetensors").state


def same_weights(one: Path, two: Path) -> bool:
    """Whether two runs ended with the same weights, bit for bit."""
    first, second = weights(one), weights(two)
    return all(torch.equal(first[k], second[k]) for k in first)
