"""Table 1's page: paired differences, intervals, gains, and a row for each of the paper's."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.paper.end_to_end import END_TO_END
from benchmarks.paper.region_heads import HEADS
from benchmarks.paper.table1_page import gain_points, gain_rows, paired, table1_markdown, table_rows
from benchmarks.plots.gain_plot import gain_plot


def measure(head: str, b: float, seed: int, split: int = 0, masked: int = 16) -> dict[str, Any]:
    ap = {"all": 0.0, "A": 50.0, "B": b}
    iou = {"all": 0.0, "A": 0.8, "B": b / 100}
    return {
        "seed": seed,
        "split": split,
        "masked": masked,
        "head": head,
        "box_AP": 55.0,
        "mask_AP": ap,
        "iou": iou,
    }


@pytest.fixture
def measures() -> list[dict[str, Any]]:
    rows = []
    for seed, split in itertools.product(range(3), range(2)):
        rows.append(measure("class-agnostic", 10.0 + seed, seed, split))
        rows.append(measure("T(cls)", 20.0 + 2 * seed + split, seed, split))
    return rows


def test_differences_are_paired_and_seeds_count_once(measures: list[dict[str, Any]]) -> None:
    found = paired(measures, 16, "T(cls)", "class-agnostic")
    # Each seed's mean over its two splits: 10.5, 11.5, 12.5; standard error 1/√3, t of
    # 2 degrees of freedom 4.303.
    assert found is not None
    assert found.mean == pytest.approx(11.5)
    assert found.half == pytest.approx(4.303 / 3**0.5, abs=1e-3)
    assert found.sure
    assert str(found) == "+11.5 ± 2.5"
    assert paired(measures, 16, "T(box)", "class-agnostic") is None
    one_seed = [m for m in measures if m["seed"] == 0]
    assert str(paired(one_seed, 16, "T(cls)", "class-agnostic")) == "+10.5"


def test_quantiles_are_student_s() -> None:
    stats = pytest.importorskip("scipy.stats")
    from benchmarks.paper.table1_page import T_95

    assert pytest.approx(
        [stats.t.ppf(0.975, df) for df in range(1, len(T_95) + 1)], abs=6e-4
    ) == list(T_95)


def test_every_head_has_its_row_and_what_was_not_run_says_so(
    measures: list[dict[str, Any]],
) -> None:
    shown = {head for _, rows, _ in table_rows("T(cls)").values() for _, head in rows}
    assert shown == {*HEADS, *END_TO_END}
    text = table1_markdown(measures, 16, table_rows("T(cls)"))
    line = next(line for line in text.splitlines() if line.startswith("| T(cls) |"))
    assert "22.5 ± 1.9" in line
    assert "+11.5 ± 2.5" in line
    assert line.endswith("| 6 |")
    assert "| T(box) | not run" in text
    assert all(f"**1{part}:" in text for part in "abcd")


def test_the_bar_needs_an_interval_without_zero(measures: list[dict[str, Any]]) -> None:
    best = gain_rows(measures, 16, "T(cls)")[0]
    assert (best["value"], best["peer_value"], best["ok"]) == (
        pytest.approx(22.5),
        pytest.approx(11.0),
        True,
    )
    for m in measures:
        if m["head"] == "T(cls)" and m["seed"] == 0:
            m["mask_AP"]["B"] = -40.0
    assert gain_rows(measures, 16, "T(cls)")[0]["ok"] is False


def test_gains_are_relative_and_drawn(measures: list[dict[str, Any]], tmp_path: Path) -> None:
    points = gain_points([*measures, measure("T(cls)", 5.0, 0, masked=8)], "T(cls)")
    assert list(points) == [16], "a size without its class-agnostic run has no gain"
    assert points[16][0] == pytest.approx(1.0)
    with Image.open(gain_plot(points, 32, tmp_path / "gain.png")) as picture:
        assert picture.size[0] > 600
    with Image.open(gain_plot(points, 32, tmp_path / "masks.png", {16: 126.4})) as picture:
        assert picture.size[0] > 600
    written = gain_plot(points, 32, tmp_path / "masks.svg", {16: 126.4}).read_text()
    assert "<!-- 126 -->" in written
    assert "<!-- masks per class of A, mean -->" in written
