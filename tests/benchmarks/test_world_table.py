"""The world's numbers: means, gap closed, order, bars, the table."""

from typing import Any

import pytest

from benchmarks.paper.world_table import bench_rows, best_input, gap_closed, markdown, ordered


def measure(
    head: str, b: float, seed: int = 0, split: int = 0, masked: int = 16, a: float = 0.8
) -> dict[str, Any]:
    return {
        "seed": seed,
        "split": split,
        "masked": masked,
        "head": head,
        "box_AP": 55.0 + seed,
        "mask_AP": {"all": 0.0, "A": 100 * a, "B": 100 * b},
        "iou": {"all": 0.0, "A": a, "B": b},
        "loss": 0.1,
    }


@pytest.fixture
def measures() -> list[dict[str, Any]]:
    rows = []
    for split, transfer in enumerate((0.6, 0.7)):
        rows += [
            measure("class-agnostic", 0.4, split=split, a=0.6),
            measure("T(random)", 0.9, split=split),
            measure("T(cls)", transfer, split=split, a=0.79),
            measure("T(box)", 0.5, split=split),
            measure("oracle", 0.8, split=split, a=0.81),
        ]
    return rows


def test_gap_closed_is_the_share_of_the_way_in_each_split(measures: list[dict[str, Any]]) -> None:
    assert gap_closed(measures, 16, "T(cls)") == pytest.approx([0.5, 0.75])
    assert gap_closed(measures, 16, "class-agnostic") == pytest.approx([0.0, 0.0])


def test_order_counts_both_measures(measures: list[dict[str, Any]]) -> None:
    assert ordered(measures, 16, "T(cls)") == (2, 2)
    measures[2]["mask_AP"]["B"] = 39.0
    assert ordered(measures, 16, "T(cls)") == (1, 2)
    assert ordered(measures, 16, "T(random)") == (0, 2)  # above the oracle is not in order


def test_random_vectors_are_never_the_best_input(measures: list[dict[str, Any]]) -> None:
    assert best_input(measures) == "T(cls)"


def test_rows_meet_or_miss_their_bars(measures: list[dict[str, Any]]) -> None:
    rows = {row["name"]: row for row in bench_rows(measures, 32)}
    assert rows["box AP, all classes"]["ok"] is True
    gap = rows["gap to the oracle closed on B, T(cls), |A| = 16 of 32"]
    assert gap["value"] == pytest.approx(0.625)
    assert (gap["bar"], gap["ok"]) == (0.45, True)
    assert rows["mask AP on A behind the oracle, T(cls), |A| = 16 of 32"]["value"] == pytest.approx(
        2.0
    )
    for m in measures:
        m["box_AP"] = 49.9
        m["mask_AP"]["A"] -= 5.0 if m["head"] == "T(cls)" else 0.0
    rows = {row["name"]: row for row in bench_rows(measures, 32)}
    assert rows["box AP, all classes"]["ok"] is False
    assert rows["mask AP on A behind the oracle, T(cls), |A| = 16 of 32"]["ok"] is False


def test_a_bar_of_three_quarters(measures: list[dict[str, Any]]) -> None:
    for m in measures:
        m["masked"] = 24
    gap = next(row for row in bench_rows(measures, 32) if row["name"].startswith("gap"))
    assert (gap["bar"], gap["ok"]) == (0.60, True)


def test_table_has_a_line_for_each_head(measures: list[dict[str, Any]]) -> None:
    table = markdown(measures, 32)
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "class-agnostic",
        "T(random)",
        "T(cls)",
        "T(box)",
        "oracle",
    ]
    cls = next(line for line in lines if "T(cls)" in line)
    assert "0.650 ± 0.071" in cls
    assert "62 ± 18 %" in cls
    assert "2 of 2" in cls
    assert "16 of 32 classes have masks" in table
