"""A user's class vectors, from the file to a checkpoint that no longer needs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from halfmask.inference.predictor import load
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import load_recipe

Cli = Callable[..., Any]
VECTORS = {
    "owl": torch.tensor([0.0, 3.0, 4.0]),
    "cat": torch.tensor([1.0, 0.0, 0.0]),
    "dog": torch.tensor([0.0, 2.0, 0.0]),
}


@pytest.fixture
def recipe(coco_file: Callable[..., Path], photos: Path, tmp_path: Path) -> Path:
    """A recipe whose T reads vectors by class name; the file's categories are cat, dog, owl."""
    save_file(VECTORS, tmp_path / "vectors.safetensors")
    transfer = {
        "input": "embedding",
        "embedding": str(tmp_path / "vectors.safetensors"),
        "input_norm": 2.0,
    }
    model = {
        "kind": "mask_rcnn",
        "backbone": {"name": "small_resnet", "widths": [4, 8], "blocks": [1, 1]},
        "images": {"min_size": [48], "max_size": 64},
        "detector": {
            "fpn_channels": 8,
            "strides": [4, 8],
            "extra_level": False,
            "anchor_sizes": [16, 32],
            "box_width": 12,
            "box_roi_size": 3,
        },
        "mask_head": {"width": 8, "convs": 1, "roi_size": 6, "transfer": transfer},
    }
    stage = {
        "name": "all",
        "train": ["all"],
        "steps": 2,
        "batch_size": 1,
        "optimiser": {"lr": 0.001},
    }
    data = {"annotations": str(coco_file()), "images": str(photos), "masked_threshold": 1}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"name": "named", "model": model, "data": data, "stages": [stage]}))
    return path


def test_trained_resumed_and_loaded_without_the_file(
    halfmask_cli: Cli, recipe: Path, photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tried = halfmask_cli("train", recipe, "--dry-run")
    assert tried.code == 0, tried.err
    trained = halfmask_cli("train", recipe, "--out", run)
    assert trained.code == 0, trained.err
    again = halfmask_cli("train", recipe, "--out", run, "--resume")
    assert "this run is finished" in again.out, (
        "the size that the file gave is no change of the recipe"
    )
    (tmp_path / "vectors.safetensors").unlink()
    kept = load_recipe(run / "recipe.yaml").model
    assert kept.kind == "mask_rcnn"
    assert kept.mask_head.transfer.embedding_size == 3
    state = load_checkpoint(run / "model.safetensors").state
    vectors = state["mask_branch.class_weights.vectors"]
    expected = torch.tensor(
        [[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 1.2, 1.6]]
    )  # background, cat, dog, owl, each of length 2
    torch.testing.assert_close(vectors, expected)
    found = load(run, device="cpu").segment(photos / "1.jpg", [[4, 4, 30, 30]], [3])
    assert found.mask_probs.shape == (1, 12, 12)


def test_a_class_without_a_vector_stops_the_dry_run_already(
    halfmask_cli: Cli, recipe: Path, tmp_path: Path
) -> None:
    save_file(
        {"cat": VECTORS["cat"], "puppy dog": VECTORS["dog"]}, tmp_path / "vectors.safetensors"
    )
    for more in (["--dry-run"], ["--out", tmp_path / "run"]):
        outcome = halfmask_cli("train", recipe, *more)
        assert outcome.code == 2
        assert (
            "no vector for 2 classes: dog, owl; 1 vectors are no class's: puppy dog" in outcome.line
        )
    assert not (tmp_path / "run").exists()


def test_prototypes_come_from_boxes_and_stay_in_the_checkpoint(
    halfmask_cli: Cli, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    """Dogs and owls have boxes alone; owls are on a photograph without any mask, which
    the training leaves out.
    """
    document = json.loads(coco_file().read_text())
    rows = [a for a in document["annotations"] if a["image_id"] != 3 and a["category_id"] != 9]
    rows.append({"id": 90, "image_id": 3, "category_id": 9, "bbox": [4, 4, 30, 30], "iscrowd": 0})
    model = {
        "kind": "box_segmenter",
        "encoder": {"name": "small_resnet", "widths": [8, 12, 16], "blocks": [1, 1, 1]},
        "crop_size": 32,
        "decoder_widths": [12, 8],
        "condition": {"input": "prototype", "input_norm": 1.0},
    }
    stage = {
        "name": "masks",
        "train": ["all"],
        "steps": 2,
        "batch_size": 1,
        "optimiser": {"lr": 0.001},
    }
    data = {
        "annotations": str(coco_file(annotations=rows)),
        "images": str(photos),
        "skip_unmasked": True,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"name": "looks", "model": model, "data": data, "stages": [stage]}))
    run = tmp_path / "run"
    trained = halfmask_cli("train", path, "--out", run)
    assert trained.code == 0, trained.err
    vectors = load_checkpoint(run / "model.safetensors").state["class_weights.vectors"]
    assert vectors.shape == (4, 16)
    assert vectors.norm(dim=1).tolist() == pytest.approx([0, 1, 1, 1], abs=1e-5)
    found = load(run, device="cpu").segment(photos / "1.jpg", [[4, 4, 30, 30]], [3])
    assert found.mask_probs.shape == (1, 8, 8)
