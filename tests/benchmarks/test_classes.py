"""`bench classes` at tiny sizes: it runs, its rows have the contract's keys, and what
it calls the same is the same.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.result import Options
from benchmarks.scale import class_counts, class_pipeline, classes
from benchmarks.scale.class_counts import Sizes, branch_costs

KEYS = ["name", "peer", "peer_value", "value", "unit", "ratio", "bar", "ok"]
SMALL = Sizes(regions=6, channels=8, box_width=16, convs=1, side=4, proposals=150)
CONFIG = {
    "kind": "mask_rcnn",
    "backbone": {"name": "resnet18", "norm": "frozen", "trainable_stages": 3},
    "images": {"min_size": [64], "max_size": 96},
    "detector": {
        "fpn_channels": 8,
        "box_width": 16,
        "box_roi_size": 3,
        "detections": 10,
        "rpn_post_nms": [60, 60],
    },
    "mask_head": {"width": 8, "convs": 1, "roi_size": 6},
}
CPU = torch.device("cpu")


def test_rows_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(
        function: str, **arguments: Any
    ) -> Any:  # a process of its own would import torch anew
        assert function == "scale.class_pipeline:peak"
        return class_pipeline.peak(**arguments)

    monkeypatch.setattr(class_pipeline, "in_fresh_process", here)
    monkeypatch.setattr(
        class_pipeline, "process_peak_of", lambda step: int(len(step()[0]) > 0) * 1000
    )
    setting = classes.Setting((10, 40), (10, 40), 30, SMALL, CONFIG, (64, 96), 1, 1)
    options = Options(tmp_path, 1, 0, 1, docs=tmp_path / "page.md", say=lambda line: None)
    result = classes.run(options, setting)
    assert all(list(row) == KEYS for row in result.rows)
    found = {row["name"]: row for row in result.rows}
    assert found["mask branch, 40 classes, T evaluated for"]["value"] <= 6
    assert found["box post-processing, 40 classes, results that differ"]["value"] == 0
    assert found["from FPN maps on, 30 classes, 10 detections, boxes that differ"]["ok"] is True
    assert found["from FPN maps on, 30 classes, 10 detections, worst mask IoU"]["ok"] is True
    assert set(result.tables) == {"classes", "classes:boxes", "classes:whole", "classes:plot"}
    assert (tmp_path / "figures" / "classes.png").stat().st_size > 1000


def test_memory_and_parameters_do_not_grow_with_the_classes() -> None:
    costs = branch_costs((10, 500), SMALL, 1, CPU)
    few, many = costs["halfmask", 10], costs["halfmask", 500]
    assert few is not None
    assert many is not None
    assert few.peak == many.peak > 6 * 8 * 8 * 8 * 4
    assert few.parameters == many.parameters
    assert many.transferred == few.transferred
    theirs, theirs_many = costs["torchvision", 10], costs["torchvision", 500]
    assert theirs is not None
    assert theirs_many is not None
    assert theirs_many.peak > theirs.peak + 490 * 6 * 64 * 4  # the measure sees what grows


def test_torchvisions_maps_are_not_made_where_they_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(class_counts, "MOST", 200_000)
    costs = branch_costs((10, 500), SMALL, 1, CPU)
    assert costs["torchvision", 10] is not None
    assert costs["torchvision", 500] is None
