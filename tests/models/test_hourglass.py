"""The hourglass trunk: sizes, sight of the whole region, independence of the batch."""

import pytest
import torch

from halfmask.models.heads.trunks import HourglassTrunk, MaskTrunk, Norm, norm_layers


@pytest.mark.parametrize("side", [1, 2, 7, 10, 14, 16, 32])
@pytest.mark.parametrize("regions", [0, 1, 3])
def test_any_side_comes_out_doubled(side: int, regions: int) -> None:
    torch.manual_seed(0)
    out = HourglassTrunk(5, 8, side)(torch.randn(regions, 5, side, side))
    assert out.shape == (regions, 8, 2 * side, 2 * side)


def test_the_innermost_map_is_one_cell() -> None:
    trunk = HourglassTrunk(3, 8, 16)
    seen: list[torch.Size] = []
    trunk.core.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    trunk(torch.randn(2, 3, 16, 16))
    assert seen == [torch.Size([2, 8, 1, 1])]


def test_every_cell_sees_the_whole_region() -> None:
    """The two convolutions of the world's plain head do not: a corner's cell knows
    nothing of the other corner.
    """
    torch.manual_seed(0)
    for trunk, expected in (
        (HourglassTrunk(4, 16, 16, norm="none"), True),
        (MaskTrunk(4, 16, 2), False),
    ):
        features = torch.randn(1, 4, 16, 16, requires_grad=True)
        trunk(features)[0, :, 0, 0].sum().backward()
        assert features.grad is not None
        assert bool(features.grad[0, :, -1, -1].any()) == expected


@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_region_does_not_depend_on_its_batch(norm: Norm) -> None:
    torch.manual_seed(0)
    trunk = HourglassTrunk(4, 16, 12, norm=norm).train()
    features = torch.randn(5, 4, 12, 12)
    torch.testing.assert_close(trunk(features)[2:3], trunk(features[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "groups"), [(64, 8), (32, 8), (24, 6), (12, 3), (6, 1), (2, 1)])
def test_groups_keep_a_few_channels_each(width: int, groups: int) -> None:
    (norm,) = norm_layers("group", width)
    assert isinstance(norm, torch.nn.GroupNorm)
    assert norm.num_groups == groups


def test_norms_of_the_plain_trunk() -> None:
    def kinds(norm: Norm) -> list[str]:
        return [type(layer).__name__ for layer in MaskTrunk(3, 8, 2, norm=norm).convs]

    assert kinds("none") == ["Conv2d", "ReLU"] * 2
    assert kinds("batch") == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert kinds("group") == ["Conv2d", "GroupNorm", "ReLU"] * 2
    assert MaskTrunk(3, 8, 1, norm="group").convs[0].bias is None
