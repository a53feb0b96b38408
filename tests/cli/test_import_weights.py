"""halfmask import-weights: files of other programs become checkpoints that every other
verb takes.
"""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from halfmask.inference.predictor import load
from halfmask.models.build import build_model
from halfmask.models.checkpoint import load_checkpoint, load_fitting_weights
from halfmask.recipes.recipe import parse_recipe

torch.set_num_threads(1)


def state(classes: int = 91, masks: bool = True) -> dict[str, Tensor]:
    """A narrow torchvision Mask R-CNN, or a Faster R-CNN."""
    torch.manual_seed(0)
    levels = {f"layer{i + 1}": str(i) for i in range(4)}
    model = MaskRCNN(
        BackboneWithFPN(resnet18(weights=None), levels, [64, 128, 256, 512], 8),
        box_head=TwoMLPHead(8 * 49, 16),
        box_predictor=FastRCNNPredictor(16, classes),
        mask_head=MaskRCNNHeads(8, (8,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(8, 8, classes),
    )
    return {
        key: tensor for key, tensor in model.state_dict().items() if masks or ".mask_" not in key
    }


def test_a_mask_rcnn(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    source, out = tmp_path / "maskrcnn.pth", tmp_path / "new" / "mask-rcnn.safetensors"
    torch.save(state(), source)
    done = halfmask_cli("import-weights", "torchvision", source, out)
    assert done.code == 0, done.err
    assert (
        "resnet18-FPN of torchvision, 80 classes, 80 of them with masks; mask head: per_class"
        in done.out
    )
    assert (
        "warning: these weights have seen the masks of all 80 classes: no benchmark of partial "
        "supervision" in done.out
    )
    checkpoint = load_checkpoint(out)
    assert [c["name"] for c in checkpoint.categories][:3] == ["person", "bicycle", "car"]
    assert (len(checkpoint.masked), checkpoint.masked[-1], checkpoint.recipe.name) == (
        80,
        90,
        "torchvision_maskrcnn",
    )
    model = load(out, device="cpu")
    found = model.segment(np.zeros((40, 60, 3), dtype=np.uint8), [[4, 4, 50, 30]], [17])
    assert found.mask_probs.shape == (1, 28, 28)


def test_a_detector_for_init(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    """A recipe with the printed settings has a model that takes every weight."""
    source, out = tmp_path / "faster.safetensors", tmp_path / "detector.safetensors"
    save_file(state(classes=4, masks=False), source)
    names = tmp_path / "names.json"
    names.write_text(
        json.dumps([{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 9, "name": "owl"}])
    )
    done = halfmask_cli(
        "import-weights", "torchvision", source, out, "--mask-head", "none", "--categories", names
    )
    assert done.code == 0, done.err
    assert "mask head: none" in done.out
    assert "warning" not in done.out
    checkpoint = load_checkpoint(out)
    assert [c["id"] for c in checkpoint.categories] == [7, 3, 9]
    assert checkpoint.masked == []
    assert not any(key.startswith("mask_branch.") for key in checkpoint.state)
    model = build_model(checkpoint.recipe.model, 4)
    left = load_fitting_weights(model, checkpoint.state)
    assert left
    assert all(key.startswith("mask_branch.") for key in left)
    line = next(
        line for line in done.out.splitlines() if line.startswith("to start a recipe from it: ")
    )
    said = dict(
        word.split("=", 1) for word in line.removeprefix("to start a recipe from it: ").split(" ")
    )
    assert said.pop("init") == str(out)
    assert said == {
        "model.backbone.weights": "null",
        "model.backbone.name": "resnet18",
        "model.backbone.norm": "frozen",
        "model.backbone.trainable_stages": "3",
        "model.detector.fpn_channels": "8",
        "model.detector.box_width": "16",
    }


def test_detectron(
    halfmask_cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The options of the verb; the importer has its own tests in tests/imported."""
    from halfmask.models.imported.torchvision_models import import_torchvision

    asked = []

    def stand_in(blobs: Any, where: str, head: str, **options: Any) -> Any:
        from dataclasses import replace

        asked.append((sorted(blobs), head, options))
        return replace(import_torchvision(state(), where), source="detectron", masked_rows=None)

    monkeypatch.setattr("halfmask.models.imported.import_weights.import_detectron", stand_in)
    source = tmp_path / "model_final.pkl"
    source.write_bytes(
        pickle.dumps({"blobs": {"a": np.ones(2), "a_momentum": np.ones(2)}, "cfg": ""}, 2)
    )
    done = halfmask_cli(
        "import-weights",
        "detectron",
        source,
        tmp_path / "a.safetensors",
        "--masked",
        "voc",
        "--activation",
        "relu",
    )
    assert done.code == 0, done.err
    assert asked == [(["a"], "transfer", {"activation": "relu", "embedding": None})]
    assert len(load_checkpoint(tmp_path / "a.safetensors").masked) == 20
    assert "warning" not in done.out
    done = halfmask_cli("import-weights", "detectron", source, tmp_path / "b.safetensors")
    assert "the file does not say which classes had masks" in done.out
    assert "warning: these weights have seen the masks of all 80 classes" in done.out


def test_a_hostile_pickle(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    class Sly:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    source = tmp_path / "model.pkl"
    source.write_bytes(pickle.dumps({"blobs": {"conv1_w": Sly()}}, 2))
    done = halfmask_cli("import-weights", "detectron", source, tmp_path / "out.safetensors")
    assert done.code == 2
    assert "the pickle asks for posix.system" in done.line
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("torchvision", "none.pth", "out.safetensors"),
            "none.pth: no such file; expected a .safetensors or .pth file of weights",
        ),
        (
            ("detectron", "none.pkl", "out.safetensors"),
            "none.pkl: no such file; expected a Detectron model",
        ),
        (
            ("torchvision", "none.pth", "out.pth"),
            "out.pth: expected a name that ends in .safetensors",
        ),
    ],
)
def test_wrong_use(
    halfmask_cli: Callable[..., Any], arguments: tuple[str, ...], message: str
) -> None:
    done = halfmask_cli("import-weights", *arguments)
    assert done.code == 2
    assert message in done.line


def test_the_source_is_not_written_over(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    source.write_bytes(b"weights")
    done = halfmask_cli("import-weights", "torchvision", source, source)
    assert done.code == 2
    assert "OUT is the input" in done.line
    assert source.read_bytes() == b"weights"


def test_wrong_categories(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    source, names = tmp_path / "faster.pth", tmp_path / "names.json"
    torch.save(state(classes=4, masks=False), source)
    for document, message in (
        ("[]", "the weights are of 3 classes, but 0 are named"),
        ('{"a": 1}', "expected a COCO file, or a list"),
    ):
        names.write_text(document)
        done = halfmask_cli(
            "import-weights",
            "torchvision",
            source,
            tmp_path / "out.safetensors",
            "--categories",
            names,
        )
        assert done.code == 2
        assert message in done.line


def test_the_recipe_is_whole(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    """It goes through YAML and back, and names no file that is not there."""
    source, out = tmp_path / "faster.pth", tmp_path / "out.safetensors"
    torch.save({"model": state(classes=4, masks=False)}, source)
    done = halfmask_cli("import-weights", "torchvision", source, out, "--mask-head", "agnostic")
    assert done.code == 0, done.err
    assert "3 without names" in done.out
    recipe = load_checkpoint(out).recipe
    assert parse_recipe(recipe.model_dump(mode="json"), "again") == recipe
    assert recipe.model.kind == "mask_rcnn"
    assert recipe.model.mask_head.kind == "agnostic"
