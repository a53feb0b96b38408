"""Folding a norm changes what a network costs, not what it answers."""

import pytest
import torch
from torch import nn

from halfmask.inference.predictor import load
from halfmask.models.backbones.encoder import build_encoder
from halfmask.models.backbones.norm import fold_for_inference, norm_in_place


def block(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(6)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
        norm.weight.normal_()
        norm.bias.normal_()
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=False), norm, nn.ReLU(), nn.Conv2d(6, 2, 1)
    )


def test_the_same_answer_without_the_norm() -> None:
    model = nn.Sequential(block(0), nn.Conv2d(2, 4, 1), block(1)).eval()
    pixels = torch.randn(2, 4, 9, 7)
    with torch.no_grad():
        before = model(pixels)
        assert fold_for_inference(model) == 2
        torch.testing.assert_close(model(pixels), before, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert fold_for_inference(model) == 0


def test_a_norm_that_learns_stays() -> None:
    model = block(0).train()
    assert fold_for_inference(model) == 0
    assert isinstance(model[1], nn.BatchNorm2d)


def test_a_norm_before_a_convolution_stays() -> None:
    assert fold_for_inference(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)).eval()) == 0


def test_the_shipped_model_is_folded() -> None:
    steps = load("box-segmenter", device="cpu").model.decoder.steps
    assert not any(isinstance(m, nn.BatchNorm2d) for m in steps.modules())


@pytest.mark.parametrize("norm", ["frozen", "in place", "batch"])
def test_a_residual_network_of_frozen_and_learning_stages(norm: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(
        "resnet18", norm="batch" if norm == "batch" else "frozen", trainable_stages=3
    ).eval()
    for name, buffer in encoder.named_buffers():
        if "running_var" in name:
            buffer.uniform_(0.5, 2)
        elif "running_mean" in name:
            buffer.normal_()
    if norm == "in place":
        assert norm_in_place(encoder.body) == 20
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        before = {stride: m.clone() for stride, m in encoder(pixels).items()}
        assert fold_for_inference(encoder) == 20
        for stride, found in encoder(pixels).items():
            torch.testing.assert_close(found, before[stride], rtol=1e-4, atol=1e-4)
    assert not any("norm" in type(m).__name__.lower() for m in encoder.modules())
