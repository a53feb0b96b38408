"""A detector's boxes beside the true ones: who belongs to whom, and how far sides are off."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.real import detector_boxes
from benchmarks.real.detector_boxes import LEAST_SCORE, distribution, matches, outward, run
from benchmarks.result import Options
from halfmask.errors import InputError
from halfmask.models.detectors.base import ScoredBoxes

BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])


def scored(boxes: list[list[float]], labels: list[int], scores: list[float]) -> ScoredBoxes:
    return ScoredBoxes(torch.tensor(boxes), torch.tensor(labels), torch.tensor(scores))


def test_pairs_are_one_to_one_within_a_class_and_the_best_score_chooses_first() -> None:
    near, exact = [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 10.0]
    labels = torch.tensor([1, 2])
    assert matches(BOXES, labels, scored([near, exact], [1, 1], [0.9, 0.8])) == [(0, 0)]
    assert matches(BOXES, labels, scored([exact], [2], [0.9])) == [], "another class"
    far = [[4.0, 0.0, 14.0, 10.0]]
    assert matches(BOXES, labels, scored(far, [1], [0.9])) == [], "an IoU of 0.43"
    assert matches(BOXES, labels, scored([exact], [1], [LEAST_SCORE / 2])) == []
    assert matches(BOXES[:0], labels[:0], scored([exact], [1], [0.9])) == []
    assert matches(BOXES, labels, scored([exact, exact], [1, 2], [0.9, 0.8])) == [(0, 0)]


@given(st.lists(st.floats(-0.375, 0.375, width=32), min_size=4, max_size=4))
def test_moving_the_sides_by_the_errors_gives_the_found_box(errors: list[float]) -> None:
    true = torch.tensor([[10.0, 20.0, 50.0, 100.0]])
    sides = torch.tensor([40.0, 80.0, 40.0, 80.0])
    found = true + torch.tensor(errors) * sides * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    assert outward(true, found)[0].tolist() == pytest.approx(errors, abs=1e-5)


def test_the_distribution_has_the_quantiles_of_each_size() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(0.02, 0.05, (4000, 4))
    errors[:, 2] = errors[:, 0]
    found = distribution(errors, np.repeat([10.0, 50.0, 200.0, 300.0], 1000))
    assert {size: block["boxes"] for size, block in found.items()} == {
        "all": 4000,
        "S": 1000,
        "M": 1000,
        "L": 2000,
    }
    assert found["all"]["outward"]["top"]["50"] == pytest.approx(0.02, abs=0.005)
    assert found["L"]["outward"]["any side"]["95"] == pytest.approx(0.102, abs=0.01)
    assert found["all"]["correlation"]["left and right"] == pytest.approx(1)
    assert abs(found["all"]["correlation"]["top and bottom"]) < 0.1
    assert distribution(errors[:0], np.zeros(0)) == {}


@pytest.mark.shared
def test_a_rule_in_the_boxes_of_yolox(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few photographs, and the box itself for a model: IoU falls with the boxes."""
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    monkeypatch.setenv("HALFMASK_SHARED", str(shared_data.parent))
    whole = detector_boxes._dataset

    def few(part: str) -> detector_boxes.CocoInstances:
        found = whole(part)
        return detector_boxes.CocoInstances(found.file, found.folder, found.image_ids[:4])

    monkeypatch.setattr(detector_boxes, "_dataset", few)
    options = Options(tmp_path, 1, 0, 1, overrides=("model=baseline:box",), say=lambda line: None)
    result = run(options)
    store = tmp_path / "detector_boxes.json"
    drawn = json.loads(store.read_text())["val"]["drawn"]
    assert 0 < len(drawn) <= result.details["val"]["objects"]
    assert all(one["box_iou"] >= 0.5 for one in drawn)
    assert result.rows[0]["value"] < result.rows[0]["peer_value"]
    assert result.tables["real:boxes"].splitlines()[2].startswith(f"| all | {len(drawn)} |")
    assert result.tables["real:corners"].count("\n") >= 2
    assert result.command == "python -m benchmarks boxes --set model=baseline:box"
    json.dumps(result.details)
    store.write_text(store.read_text().replace('"model": "baseline:box"', '"model": "again"'))
    assert run(options).details["model"] == "again", "what is measured is not measured again"


def test_another_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected model=MODEL"):
        run(Options(tmp_path, 1, 0, 1, overrides=("voc",), say=lambda line: None))
