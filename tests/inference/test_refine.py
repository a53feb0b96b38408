"""Masks corrected by clicks, through a loaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from halfmask.errors import InputError
from halfmask.inference.predictor import Predictor, load
from halfmask.inference.refine import refine, takes_clicks
from halfmask.masks.crops import MaskCrops
from halfmask.models.build import build_model
from halfmask.recipes.recipe import BoxSegmenterConfig

torch.set_num_threads(1)

BOXES = [[4.0, 6.0, 40.0, 50.0], [20.5, 10.25, 70.0, 60.0]]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    encoder = {"name": "small_resnet", "widths": [4, 6, 8, 8], "blocks": [1, 1, 1, 1]}
    keys = {"kind": "box_segmenter", "encoder": encoder, "crop_size": 64, "decoder_widths": [8, 6]}
    config = BoxSegmenterConfig.model_validate({**keys, "clicks": True})
    torch.manual_seed(0)
    model = build_model(config, 4)
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    torch.nn.init.normal_(first.weight[:, 4:])
    return Predictor(model, None, "tiny", digest="", device=torch.device("cpu"))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


def test_clicks_and_masks_change_the_masks_of_their_boxes(
    predictor: Predictor, pixels: np.ndarray
) -> None:
    assert takes_clicks(predictor)
    plain = predictor.segment(pixels, BOXES)
    same = refine(predictor, pixels, BOXES, clicks=[], mask=None)
    assert torch.allclose(plain.mask_probs, same.mask_probs, atol=1e-6)
    clicked = refine(predictor, pixels, BOXES, clicks=[[1, 45, 30, 1]], mask=None)
    assert torch.allclose(plain.mask_probs[0], clicked.mask_probs[0], atol=1e-6)
    assert not torch.allclose(plain.mask_probs[1], clicked.mask_probs[1], atol=1e-3)
    dense = torch.zeros((2, 64, 80), dtype=torch.bool)
    dense[0, 10:30, 10:30] = True
    shown = refine(predictor, pixels, BOXES, clicks=[], mask=MaskCrops.from_dense(dense))
    assert not torch.allclose(plain.mask_probs[0], shown.mask_probs[0], atol=1e-3)
    assert torch.allclose(plain.mask_probs[1], shown.mask_probs[1], atol=1e-6), "an empty mask"


@pytest.mark.parametrize(
    ("clicks", "mask", "message"),
    [
        ([[0, 1, 1]], None, r"expected numbers \[k, 4\]"),
        ([[0, 1, 1, 1], [0, 2]], None, "clicks: expected numbers"),
        ("here", None, "clicks: expected numbers"),
        ([[2, 10, 10, 1]], None, "a box that is not there"),
        ([[0, float("inf"), 10, 1]], None, "not finite"),
        ([], MaskCrops.empty((60, 80)), "80 × 60 pixels, this one has 80 × 64"),
        ([], MaskCrops.empty((64, 80)), "a mask for each of 2 boxes"),
    ],
)
def test_wrong_clicks(
    predictor: Predictor, pixels: np.ndarray, clicks: Any, mask: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        refine(predictor, pixels, BOXES, clicks=clicks, mask=mask)


def test_a_model_without_clicks(tiny_segmenter: Path, pixels: np.ndarray) -> None:
    predictor = load(tiny_segmenter, device="cpu")
    assert not takes_clicks(predictor)
    with pytest.raises(InputError, match=r"tiny takes no clicks .* without model\.clicks"):
        refine(predictor, pixels, BOXES, clicks=[], mask=None)
