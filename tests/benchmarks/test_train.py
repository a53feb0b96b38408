"""`bench train` at a tiny size; torchvision's twin has our weights and our losses."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.measuring import in_fresh_process
from benchmarks.scale.crowded import write_crowd
from benchmarks.speed import train
from benchmarks.speed.train import Setting
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.recipes.recipe import MaskRCNN

CONFIG = MaskRCNN.model_validate(
    {
        "kind": "mask_rcnn",
        "backbone": {"name": "resnet18", "norm": "frozen", "trainable_stages": 3},
        "images": {"min_size": [60], "max_size": 90},
        "detector": {"fpn_channels": 8, "box_width": 16, "rpn_post_nms": [60, 60], "box_batch": 64},
        "mask_head": {"kind": "per_class", "width": 8, "convs": 1, "roi_size": 6},
    }
)


@pytest.fixture
def data(tmp_path: Path) -> CocoInstances:
    write_crowd(tmp_path, 6, (60, 90))
    return CocoInstances(CocoFile.read(tmp_path / "instances.json"), tmp_path / "images")


def test_rows_and_table(data: CocoInstances, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(function: str, **arguments: Any) -> Any:
        assert function == "speed.train:peak"
        return train.peak(**arguments)

    monkeypatch.setattr(train, "in_fresh_process", here)
    monkeypatch.setattr(train, "process_peak_of", lambda steps: (steps(), 2**20)[1])
    result = train.measured(Setting(CONFIG, 4, 1, 2), data, lambda line: None)
    speed, memory, waiting = result.rows
    assert speed["ratio"] == pytest.approx(speed["value"] / speed["peer_value"])
    assert memory["ratio"] == 1.0
    assert memory["ok"] is False
    assert 0 < waiting["value"] < 1
    assert "halfmask / torchvision" in result.tables["train"]


def test_the_twin_has_our_losses(data: CocoInstances) -> None:
    losses = {}
    for name, model in train._models(Setting(CONFIG, 4, 1, 1)).items():
        image, target = data[0]
        torch.manual_seed(0)
        losses[name] = model([image], [target] if name == "halfmask" else train._dense([target]))
    assert set(losses["halfmask"]) == set(losses["torchvision"])
    for name, value in losses["halfmask"].items():
        torch.testing.assert_close(value, losses["torchvision"][name], rtol=2e-2, atol=1e-5)
        assert value > 0


@pytest.mark.slow
def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(InputError, match=r"speed\.train:peek ended with 1: AttributeError"):
        in_fresh_process("speed.train:peek")
