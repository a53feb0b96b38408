"""Folding a norm changes what a network costs, not what it answers."""

import torch
from torch import nn

from halfmask.inference.predictor import load
from halfmask.models.fold_norm import fold_for_inference


def block(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(6)
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
        norm.weight.normal_()
        norm.bias.normal_()
    return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), norm, nn.ReLU(), nn.Conv2d(6, 2, 1))


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
