"""`bench objects` at a tiny size; both paths see the same objects."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.result import Options
from benchmarks.scale import crowded, objects
from benchmarks.scale.coco_reference import CocoReference, mirrored
from benchmarks.scale.crowded import write_crowd
from benchmarks.scale.objects import Setting
from halfmask.coco.file import CocoFile
from halfmask.data.augment.augment import mirror
from halfmask.data.dataset import CocoInstances

SIZE = (60, 90)


def test_rows_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = tmp_path / "mini"
    write_crowd(mini, 9, SIZE)
    (mini / "images").rename(mini / "train")
    (mini / "instances.json").rename(mini / "instances_train.json")

    def here(function: str, **arguments: Any) -> Any:
        assert function == "scale.crowded:target_peak"
        return crowded.target_peak(**arguments)

    monkeypatch.setattr(objects, "in_fresh_process", here)
    monkeypatch.setattr(crowded, "process_peak_of", lambda step: step().numel() * 4)
    monkeypatch.setitem(crowded.MODEL, "images", {"min_size": [60], "max_size": 90})
    monkeypatch.setattr(objects, "MOST", 2 * 20 * SIZE[0] * SIZE[1])
    setting = Setting((3, 30), 30, SIZE, 1, 5, mini)
    result = objects.run(Options(tmp_path, 1, 0, 1, say=lambda line: None), setting)
    found = {row["name"]: row for row in result.rows}
    assert found["3 objects, peak memory of targets"]["ratio"] == 1.0
    assert found["30 objects, peak memory of targets"]["peer_value"] is None
    assert found["30 objects, peak memory of targets"]["ok"] is None
    assert found["loader on COCO-mini"]["value"] > 0
    assert "| 30 | 0.4 | – |" in result.tables["objects"]


def test_both_paths_draw_the_same_masks(tmp_path: Path) -> None:
    write_crowd(tmp_path, 12, SIZE)
    data = CocoInstances(CocoFile.read(tmp_path / "instances.json"), tmp_path / "images")
    ours, theirs = data[0], CocoReference(tmp_path / "images", tmp_path / "instances.json")[0]
    for (image, target), (pixels, truth) in ((ours, theirs), (mirror(*ours), mirrored(*theirs))):
        torch.testing.assert_close(image, pixels)
        assert torch.equal(target.masks.dense(), truth["masks"].bool())
        torch.testing.assert_close(target.boxes, truth["boxes"])
        assert target.labels.tolist() == truth["labels"].tolist()


def test_targets_of_a_crowd_equal_the_dense_ones(tmp_path: Path) -> None:
    write_crowd(tmp_path, 40, SIZE)
    ours, theirs = crowded._ours(tmp_path)(), crowded._theirs(tmp_path)()
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_no_tensor_of_a_step_holds_all_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(crowded.MODEL, "images", {"min_size": [120], "max_size": 180})
    write_crowd(tmp_path, 600, (120, 180))
    assert crowded.loss_costs(tmp_path)["largest"] < 600 * 120 * 180
