"""`bench inference` at a tiny size."""

import pytest
import torch

from halfmask.bench.inference import PEER, Answer, _difference, measured
from halfmask.config import MaskRCNN

for name in ("onnxruntime", "openvino", "pycocotools"):
    pytest.importorskip(name)

CONFIG = MaskRCNN.model_validate(
    {
        "kind": "mask_rcnn",
        "backbone": {"name": "resnet18", "norm": "frozen"},
        "images": {"min_size": [96], "max_size": 128},
        "detector": {"fpn_channels": 8, "box_width": 16, "rpn_post_nms": [60, 60], "detections": 10},
        "mask_head": {"kind": "per_class", "width": 8, "convs": 1, "roi_size": 6},
    }
)


def test_every_way_gives_torchvisions_answers() -> None:
    image = torch.rand((3, 96, 128), generator=torch.Generator().manual_seed(0))
    result = measured(CONFIG, 5, image, 1, lambda line: None)
    assert len(result.rows) == 9
    for row in result.rows:
        if "RLE" in row["name"]:
            assert row["ratio"] == pytest.approx(row["peer_value"] / row["value"])
        else:
            assert row["ok"], row
    assert PEER in result.tables["inference"]
    assert "10 detections" in result.tables["inference"]


def test_other_answers_are_noticed() -> None:
    half = torch.zeros(1, 4, 4)
    half[:, :, :2] = 1
    one = Answer(torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([1]), half, [])
    assert _difference(one, one, (8, 8)) == (1.0, 1.0)
    assert _difference(one, Answer(one.boxes + 1, one.labels, half, []), (8, 8)) == (0.0, 0.0)
    assert _difference(one, Answer(one.boxes, one.labels + 1, half, []), (8, 8)) == (0.0, 0.0)
    assert _difference(one, Answer(one.boxes, one.labels, half.flip(2), []), (8, 8)) == (1.0, 0.0)
