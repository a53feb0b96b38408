"""metrics.csv and metrics.json over interruptions."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from halfmask.training.loop.records import Evaluations, MetricsCsv


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_new_columns_widen_the_table(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "metrics.csv"
    log = MetricsCsv(path)
    log.log({"step": 1, "stage": "a, b", "loss_box": 0.5})
    log.log({"step": 2, "stage": "a, b", "loss_box": 0.25})
    log.log({"step": 3, "stage": "c", "loss_mask": 0.125})
    assert read(path) == [
        {"step": "1", "stage": "a, b", "loss_box": "0.5", "loss_mask": ""},
        {"step": "2", "stage": "a, b", "loss_box": "0.25", "loss_mask": ""},
        {"step": "3", "stage": "c", "loss_box": "", "loss_mask": "0.125"},
    ]


def test_a_resumed_run_keeps_earlier_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsCsv(path)
    for step in (10, 20, 30):
        log.log({"step": step, "loss": step / 8})
    with path.open("a") as file:
        file.write("4")  # a crash in the middle of a line
    again = MetricsCsv(path, resumed_step=20)
    again.log({"step": 30, "loss": 9.0})
    assert [(row["step"], row["loss"]) for row in read(path)] == [
        ("10", "1.25"),
        ("20", "2.5"),
        ("30", "9.0"),
    ]
    MetricsCsv(path)  # a new run in the same folder
    assert read(path) == []


def test_evaluations(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    first = Evaluations(path)
    assert json.loads(path.read_text()) == []
    for step in (5, 10):
        first.add({"step": step, "box": {"AP": None}})
    again = Evaluations(path, resumed_step=7)
    assert again.has(5)
    assert not again.has(10)
    again.add({"step": 8})
    assert json.loads(path.read_text()) == [{"step": 5, "box": {"AP": None}}, {"step": 8}]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_numbers_outside_json_are_errors(tmp_path: Path) -> None:
    evaluations = Evaluations(tmp_path / "metrics.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        evaluations.add({"step": 1, "AP": float("nan")})
