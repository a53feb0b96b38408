"""What training does for its device's sake changes no weight and no class for good."""

import os
from copy import deepcopy

import pytest
import torch
from torch import nn

from halfmask.recipes.recipe import load_recipe
from halfmask.training.loop import trainer
from halfmask.training.loop.layers import FullPrecisionDepthwise, depthwise_in_full_precision

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, 2, groups=4), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1, 2)
    )


def test_only_strided_depthwise_convolutions_compute_in_float32() -> None:
    model, images = network(), torch.randn(2, 4, 9, 9)
    before = model.state_dict()
    with depthwise_in_full_precision(model), torch.autocast("cpu", torch.bfloat16):
        assert [type(m) is FullPrecisionDepthwise for m in model] == [True, False, False]
        found = model[0](images.bfloat16())
        copied = deepcopy(model)[0](images.bfloat16())
        assert model[1](found).dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert torch.equal(found, model[0](images.bfloat16().float()))
    assert torch.equal(found, copied)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_fault_restores_the_classes() -> None:
    model = network()
    with pytest.raises(RuntimeError), depthwise_in_full_precision(model):
        model(torch.zeros(1, 3, 9, 9))
    assert {type(m) for m in model} == {nn.Conv2d}


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_it_is_for_bfloat16_on_a_cpu(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "precision_on", lambda device, wanted: wanted)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    recipe = load_recipe("world_box_segmenter", [f"precision='{precision}'"])
    model = network()
    with trainer.fast_on(CPU, recipe, model):
        assert (type(model[0]) is FullPrecisionDepthwise) == (precision == "bf16")
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "7"
    with trainer.fast_on(torch.device("meta"), recipe, model):
        assert type(model[0]) is nn.Conv2d
