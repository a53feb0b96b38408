"""Fixtures that every room shares."""

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared data folder; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("HALFMASK_SHARED", "../shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the shared data: {folder} is absent (set HALFMASK_SHARED)")
    return folder.resolve()


CLASSES = [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 7, "name": "tree"}]


def _checkpoint(path: Path, model: dict[str, Any]) -> Path:
    """A model of random weights, saved as training would save it."""
    import torch

    from halfmask.checkpoint import Checkpoint, save_checkpoint
    from halfmask.config import parse_recipe
    from halfmask.models.build import build_model

    optimiser = {"lr": 0.1}
    stage = {"name": "all", "train": ["all"], "steps": 1, "batch_size": 1, "optimiser": optimiser}
    document = {"name": "tiny", "model": model, "data": {"annotations": "a", "images": "b"}, "stages": [stage]}
    recipe = parse_recipe(document, "tiny")
    torch.manual_seed(0)
    state = build_model(recipe.model, len(CLASSES) + 1, pretrained=False).state_dict()
    save_checkpoint(path, Checkpoint(state, recipe, CLASSES, [2, 5], {2: 30, 5: 20, 7: 0}))
    return path


@pytest.fixture(scope="session")
def tiny_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that draws masks into given boxes: classes cat, dog (masked in training) and tree."""
    encoder = {"name": "small_resnet", "widths": [4, 6, 8, 8], "blocks": [1, 1, 1, 1]}
    model = {"kind": "box_segmenter", "encoder": encoder, "crop_size": 64, "decoder_widths": [8, 6]}
    return _checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", model)


@pytest.fixture(scope="session")
def tiny_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a Mask R-CNN of the same classes, whose head needs them."""
    detector = {
        "fpn_channels": 8,
        "strides": [4, 8],
        "extra_level": False,
        "anchor_sizes": [16, 32],
        "box_width": 16,
        "box_roi_size": 3,
        "detections": 12,
    }
    model = {
        "kind": "mask_rcnn",
        "backbone": {"name": "small_resnet", "widths": [4, 8], "blocks": [1, 1]},
        "images": {"min_size": [64], "max_size": 96},
        "detector": detector,
        "mask_head": {"width": 8, "convs": 1, "roi_size": 6},
    }
    run = tmp_path_factory.mktemp("run")
    _checkpoint(run / "model.safetensors", model)
    return run


@pytest.fixture(scope="session")
def average_precision() -> Any:
    """(images, categories, truth, results, kind) → PrecisionTable: the images streamed, in another order than the file's."""
    from halfmask.evaluation.average_precision import PrecisionStream

    def streamed(images: Any, categories: Any, truth: Any, results: Any, kind: Any) -> Any:
        stream = PrecisionStream(categories, kind)
        for image in reversed(images):
            own = [[r for r in records if r["image_id"] == image["id"]] for records in (truth, results)]
            stream.add(image, *own)
        return stream.table()

    return streamed
