"""build_model: recipes become models, and numbers that do not fit each other are refused."""

from typing import Any

import pytest
import torch

from halfmask.errors import InputError
from halfmask.models.base import SegmentationModel
from halfmask.models.build import build_model
from halfmask.models.heads.predictors import AgnosticPredictor, PerClassPredictor, TransferPredictor
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN


def rcnn(config: MaskRCNN, classes: int = 5, pretrained: bool = True) -> PartialMaskRCNN:
    model = build_model(config, classes, pretrained)
    assert isinstance(model, PartialMaskRCNN)
    assert isinstance(model, SegmentationModel)
    return model


@pytest.mark.parametrize(
    ("kind", "predictor"),
    [
        ("agnostic", AgnosticPredictor),
        ("per_class", PerClassPredictor),
        ("transfer", TransferPredictor),
    ],
)
def test_heads_by_name(config: Any, kind: str, predictor: type) -> None:
    model = rcnn(config(kind=kind))
    assert isinstance(model.mask_branch.predictor, predictor)
    assert model.mask_branch.mlp is None
    assert model.has_detector
    assert model.needs_labels == (kind != "agnostic")


@pytest.mark.parametrize(
    ("rows", "size"), [("cls", 24), ("box", 96), ("cls+box", 120), ("random", 300)]
)
def test_size_of_class_weights(config: Any, rows: str, size: int) -> None:
    model = rcnn(config(transfer={"input": rows}), classes=9)
    assert model.class_weights().shape == (9, size)


def test_a_model_of_the_world() -> None:
    config = MaskRCNN.model_validate(
        {
            "kind": "mask_rcnn",
            "backbone": {
                "name": "small_resnet",
                "widths": [24, 48, 64, 96],
                "blocks": [1, 1, 1, 1],
            },
            "images": {"min_size": [96], "max_size": 128},
            "detector": {
                "fpn_channels": 64,
                "box_width": 128,
                "anchor_sizes": [16, 24, 40, 64, 96],
            },
            "mask_head": {"width": 64},
        }
    )
    model = rcnn(config, classes=33)
    detector = sum(
        p.numel()
        for name, part in model.parts().items()
        if name != "mask_head"
        for p in part.parameters()
    )
    assert 0.8e6 < detector < 0.95e6


def test_state_survives_without_files(config: Any, tmp_path: Any) -> None:
    """A checkpoint's model is built without the files that its recipe names."""
    options = {
        "transfer": {
            "input": "embedding",
            "embedding": str(tmp_path / "absent.npy"),
            "embedding_size": 7,
        }
    }
    recipe = config(**options)
    recipe = recipe.model_copy(
        update={
            "backbone": recipe.backbone.model_copy(update={"weights": "/nowhere/w.safetensors"})
        }
    )
    with pytest.raises(InputError, match="no such file"):
        rcnn(recipe)
    torch.manual_seed(0)
    first = rcnn(recipe, pretrained=False)
    torch.manual_seed(1)
    second = rcnn(recipe, pretrained=False)
    second.load_state_dict(first.state_dict())
    image = [torch.rand(3, 64, 64)]
    boxes = [torch.tensor([[5.0, 5.0, 40.0, 50.0]])]
    labels = [torch.tensor([2])]
    a, b = (m.eval().segment(image, boxes, labels)[0].mask_probs for m in (first, second))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"anchor_sizes": [16, 24]},
            r"anchor_sizes: expected one for each RPN level, 3 .*found \[16, 24\]",
        ),
        ({"extra_level": True}, "anchor_sizes: expected one for each RPN level, 4"),
        (
            {"strides": [4, 12, 16]},
            r"strides: expected powers of two, each twice the one before, found \[4, 12, 16\]",
        ),
        ({"strides": [4, 16, 32]}, "strides: expected powers of two"),
        ({"strides": [8, 16, 32]}, r"feature maps of strides \[2, 4, 8, 16\]"),
        ({"strides": []}, "strides: expected powers of two"),
    ],
)
def test_numbers_that_do_not_fit(config: Any, change: dict[str, Any], message: str) -> None:
    recipe = config()
    recipe = recipe.model_copy(update={"detector": recipe.detector.model_copy(update=change)})
    with pytest.raises(InputError, match=message):
        build_model(recipe, 5)


def test_a_model_needs_a_class(config: Any) -> None:
    with pytest.raises(InputError, match="at least one class"):
        build_model(config(), 1)
