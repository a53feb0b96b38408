"""Sections 3.1 and 3.4: one filter for each region gives what the paper's K dense maps
give, in value, loss and gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.models.heads.mlp import MlpBranch
from halfmask.models.heads.predictors import TransferFunction, TransferPredictor
from halfmask.models.mask_rcnn.loss import mask_bce
from halfmask.models.mask_rcnn.mask_branch import MaskBranch

K, C, SIDE, REGIONS = 9, 6, 8, 7
LABELS = torch.tensor([2, 2, 6, 1, 8, 3, 2])


def parts() -> tuple[TransferPredictor, MlpBranch, Tensor, Tensor]:
    """Predictor, MLP with weights that matter, features [R, C, M, M] and class weights [K, D]."""
    torch.manual_seed(4)
    predictor, mlp = TransferPredictor(TransferFunction(10, C)), MlpBranch(C, SIDE)
    torch.nn.init.normal_(mlp.linear.weight, std=0.05)
    features, weights = (
        torch.randn(REGIONS, C, SIDE, SIDE, requires_grad=True),
        torch.randn(K, 10, requires_grad=True),
    )
    return predictor, mlp, features, weights


def dense_maps(predictor: TransferPredictor, features: Tensor, weights: Tensor) -> Tensor:
    """The paper's form: T's rows are the filter bank of a 1 × 1 convolution without
    bias, K maps for every region.
    """
    return F.conv2d(features, predictor.transfer(weights)[:, :, None, None])


def gradients(value: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value, wanted))


def test_a_regions_own_filter_equals_dense_maps_then_its_channel() -> None:
    predictor, _, features, weights = parts()
    dense = dense_maps(predictor, features, weights)[torch.arange(REGIONS), LABELS]
    own = predictor(features, LABELS, weights)
    torch.testing.assert_close(own, dense)
    wanted = [features, weights, *predictor.parameters()]
    for a, b in zip(
        gradients(own.square().sum(), wanted), gradients(dense.square().sum(), wanted), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_fused_logits_are_the_filters_maps_plus_one_tiled_map() -> None:
    predictor, mlp, features, weights = parts()
    branch = MaskBranch(torch.nn.Identity(), predictor, None, mlp=mlp)  # type: ignore[arg-type]
    tiled = mlp.linear(features.flatten(1)).reshape(REGIONS, 1, SIDE, SIDE).tile(1, K, 1, 1)
    fused = dense_maps(predictor, features, weights) + tiled
    torch.testing.assert_close(
        branch(features, LABELS, weights), fused[torch.arange(REGIONS), LABELS]
    )
    assert float(tiled.detach().abs().max()) > 0.1


def test_the_loss_is_the_papers_with_ignored_channels() -> None:
    """Its targets are [R, K, M, M] with −1 for every channel but the label's; the sum
    is divided by the number of the others (1.7).
    """
    predictor, _, features, weights = parts()
    masks = (
        torch.rand(REGIONS, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) > 0.5
    ).float()
    targets = torch.full((REGIONS, K, SIDE, SIDE), -1.0)
    targets[torch.arange(REGIONS), LABELS] = masks
    targets[3] = -1.0  # a region of B: all of it is ignored
    valid = targets >= 0
    cells = F.binary_cross_entropy_with_logits(
        dense_maps(predictor, features, weights), targets.clamp(min=0), reduction="none"
    )
    expected = (cells * valid).sum() / valid.sum()
    in_a = torch.tensor([i for i in range(REGIONS) if i != 3])
    found = mask_bce(predictor(features[in_a], LABELS[in_a], weights), masks[in_a])
    torch.testing.assert_close(found, expected)
    wanted = [features, weights, *predictor.parameters()]
    for a, b in zip(gradients(found, wanted), gradients(expected, wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_papers_mlp_has_157_million_parameters() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in MlpBranch(256, 28).parameters()) == 157_352_720
