"""From a recipe's box_segmenter to modules: encoder widened, frozen norm folded, bad
sizes refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.build import build_model
from halfmask.recipes.recipe import BoxSegmenterConfig as Config
from halfmask.structures import Target

SMALL = {"name": "small_resnet", "widths": [12, 16, 24], "blocks": [1, 1, 1]}
MOBILENET = {"name": "mobilenet_v2", "norm": "frozen"}


def config(encoder: dict[str, Any] = SMALL, **changes: Any) -> Config:
    values = {
        "kind": "box_segmenter",
        "encoder": encoder,
        "crop_size": 32,
        "decoder_widths": [24, 16, 12],
    }
    return Config.model_validate(values | changes)


def build(encoder: dict[str, Any] = SMALL, **changes: Any) -> BoxSegmenter:
    torch.manual_seed(0)
    return build_box_segmenter(config(encoder, **changes), 4)


def test_the_widened_and_folded_encoder_answers_as_the_loaded_one(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v2

    torch.manual_seed(1)
    reference = mobilenet_v2()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, 0, 0.1)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    model = build(
        MOBILENET | {"weights": str(tmp_path / "weights.pth")},
        crop_size=64,
        decoder_widths=[24, 16, 12, 8],
    )
    assert not any(
        isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in model.encoder.modules()
    )
    pixels = torch.randn(2, 3, 64, 64)
    box = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = reference.eval().features(pixels)
        found = model.encoder(torch.cat([pixels, box], 1))[32]
    assert torch.allclose(found, expected, atol=1e-4)


def test_tensorflows_padding_survives_the_fourth_channel() -> None:
    """It is computed in the convolution's forward: an ordinary convolution in its place
    gave masks of another size.
    """
    encoder = {"name": "timm/tf_efficientnet_lite0", "norm": "frozen"}
    model = build(encoder, crop_size=64, decoder_widths=[24, 16, 12, 8])
    logits = model.logits(torch.randn(1, 4, 64, 64), torch.zeros(1, dtype=torch.int64))
    assert logits.shape == (1, model.mask_size, model.mask_size) == (1, 32, 32)


def test_frozen_norm_does_not_move_when_others_learn() -> None:
    # Frozen stages keep their norm unfolded; training must leave it and their weights
    # as they are.
    model = build(SMALL | {"norm": "frozen", "trainable_stages": 2})
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    learning = {name for name, _ in model.encoder.named_parameters()}
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[0, 10:30, 8:24] = True
    target = Target(
        boxes=torch.tensor([[8.0, 10.0, 24.0, 30.0]]),
        labels=torch.tensor([1]),
        has_mask=torch.tensor([True]),
        masks=MaskCrops.from_dense(mask),
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.stack(list(model.train()([torch.rand(3, 40, 40)], [target]).values())).sum().backward()
    optimiser.step()
    after = model.encoder.state_dict()
    still = [k for k in before if k not in learning]
    assert any("running_mean" in k for k in still)
    assert all(torch.equal(before[k], after[k]) for k in still)
    assert any(not torch.equal(before[k], after[k]) for k in learning)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "small_resnet"])
def test_any_encoder(name: str) -> None:
    encoder = SMALL if name == "small_resnet" else {"name": name}
    model = build(encoder, crop_size=64, decoder_widths=[16, 16]).eval()
    found = model.segment([torch.rand(3, 40, 40)], [torch.tensor([[5.0, 5.0, 30.0, 35.0]])])[0]
    stride = sorted(model.encoder.channels)[-3]
    assert found.mask_probs.shape == (1, 64 // stride, 64 // stride)


def test_stride_in_1x1_reaches_the_encoder() -> None:
    names = {"name": "resnet50"}
    strides = [
        {
            n: m.stride
            for n, m in build(e, crop_size=64, decoder_widths=[8]).encoder.named_modules()
            if isinstance(m, nn.Conv2d)
        }
        for e in (names, names | {"stride_in_1x1": True})
    ]
    assert strides[0] != strides[1]


def test_build_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="crop_size"):
        build(crop_size=33)
    with pytest.raises(InputError, match="decoder_widths"):
        build(decoder_widths=[8] * 8)
    with pytest.raises(
        InputError,
        match=r"box_reach: masks may go beyond their box by 0\.2 of its side, but the closest "
        r"context shows 0\.1",
    ):
        build(box_reach=0.2, box_jitter=0.2, zooms=[0.1, 0.3])
    with pytest.raises(
        InputError, match="decoder_widths: expected one number for a decoder: hourglass"
    ):
        build(decoder="hourglass")
    with pytest.raises(InputError, match="random, embedding or prototype"):
        build(condition={"input": "cls"})


def test_build_model_knows_it() -> None:
    assert isinstance(build_model(config(), 4), BoxSegmenter)


def test_the_last_layer_starts_with_weights_of_both_signs() -> None:
    # From a start near zero every channel behind the ReLU becomes the same one, and
    # logits cannot fall below the bias.
    weight = build(decoder_widths=[24, 16, 64]).predictor.conv.weight.detach().flatten()  # type: ignore[union-attr, operator]
    assert float((weight > 0).float().mean()) == pytest.approx(0.5, abs=0.25)
    assert float(weight.std()) == pytest.approx(64**-0.5, rel=0.4)


def test_the_hourglass_decoder_learns_in_its_place() -> None:
    model = build(decoder="hourglass", decoder_widths=[12])
    out = model.logits(torch.randn(2, 4, 32, 32), torch.zeros(2, dtype=torch.int64))
    assert out.shape == (2, model.mask_size, model.mask_size)
    out.square().sum().backward()
    assert all(p.grad is not None for p in model.decoder.parameters())
