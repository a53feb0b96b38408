"""The mean of several models' masks teaches objects without one."""

from __future__ import annotations

import torch

from halfmask.models.build import build_model
from halfmask.recipes.recipe import parse_recipe
from halfmask.training.adapt.teacher import mean_masks
from tests.conftest import CLASSES

MODEL = {
    "kind": "box_segmenter",
    "encoder": {"name": "small_resnet", "widths": [4, 6, 8], "blocks": [1, 1, 1]},
    "crop_size": 32,
    "decoder_widths": [8, 6],
}


def model(seed: int) -> torch.nn.Module:
    document = {
        "name": "tiny",
        "model": MODEL,
        "data": {"annotations": "a", "images": "b"},
        "stages": [
            {"name": "all", "train": ["all"], "steps": 1, "batch_size": 1, "optimiser": {"lr": 0.1}}
        ],
    }
    torch.manual_seed(seed)
    recipe = parse_recipe(document, "tiny")
    return build_model(recipe.model, len(CLASSES) + 1, pretrained=False).eval()


def test_the_mean_lies_between_the_models() -> None:
    one, two = model(0), model(1)
    image, boxes = torch.rand(3, 48, 64), torch.tensor([[4.0, 5, 40, 44], [20, 2, 60, 30]])
    labels = torch.tensor([1, 2])
    own = [m.segment([image], [boxes], [labels])[0] for m in (one, two)]  # type: ignore[operator]
    mean = mean_masks([one, two], image, boxes, labels=labels)
    torch.testing.assert_close(
        mean.mask_probs, (own[0].mask_probs + own[1].mask_probs) / 2, rtol=0, atol=1e-6
    )
    torch.testing.assert_close(mean.quality, (own[0].quality + own[1].quality) / 2)
    alone = mean_masks([one], image, boxes, labels=labels)
    torch.testing.assert_close(alone.mask_probs, own[0].mask_probs)
    assert mean.image_size == (48, 64)
    assert len(mean.crops()) == 2
