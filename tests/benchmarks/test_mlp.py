"""The benchmark of the MLP branches: what it counts and that it measures all three."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.paper import mlp
from benchmarks.result import Options


def test_costs_at_a_small_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mlp.measure

    def small(regions: int, rounds: int, device: torch.device, **sizes: Any) -> Any:
        return whole(2, 2, torch.device("cpu"), width=8, convs=1, roi_size=7)

    monkeypatch.setattr(mlp, "measure", small)
    said: list[str] = []
    result = mlp.run(Options(tmp_path, 1, 0, 1, say=said.append))
    assert len(said) == 3
    assert [row["name"] for row in result.rows] == [
        "mlp none, forward",
        "mlp light, forward",
        "mlp full, forward",
    ]
    assert all(row["value"] > 0 for row in result.rows)
    table = result.tables["mlp"]
    full = 8 * 14 * 14 * 14 * 14 + 14 * 14
    light = 8 * 32 + 32 + (32 * 49 + 1) * 128 + 129 * 196
    counts = re.findall(r"^\| (?:none|light|full) \| ([\d,]+) \|", table, re.MULTILINE)
    assert counts == ["0", f"{light:,}", f"{full:,}"]


def test_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        heads = {kind: mlp._head(kind, {}) for kind in mlp.KINDS}
    assert mlp._count(heads["full"].mlp) == 157_352_720
    assert mlp._count(heads["light"].mlp) == 912_304
    assert heads["none"].mlp is None
