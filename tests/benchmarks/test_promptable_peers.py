"""`bench peers` with stand-ins for the large networks."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.result import Options
from benchmarks.speed import promptable_peers as peers
from halfmask.models.fixed.baselines import BoxBaseline


class Slow:
    """Draws the box itself, after some work that does not depend on the boxes."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self._model = BoxBaseline()

    def segment(self, images: list[Tensor], boxes: list[Tensor]) -> Any:
        self.seen += images
        torch.rand(500, 500) @ torch.rand(500, 500)
        return self._model.segment(images, boxes)


def test_each_count_is_compared_with_the_fastest_peer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stand_ins = {"a": Slow(), "b": Slow()}
    monkeypatch.setattr(peers, "_peers", lambda: stand_ins)
    monkeypatch.setattr(peers, "ROUNDS", 1)
    monkeypatch.setattr(peers, "COUNTS", (1, 7))
    said: list[str] = []
    result = peers.run(Options(tmp_path, 1, 0, 1, say=said.append))
    assert len(said) == 2 * 5
    assert [row["bar"] for row in result.rows] == [None, None, None, 25.0, None, None]
    seconds = result.details["seconds"]["7"]
    row = result.rows[3]
    assert row["peer_value"] == min(seconds["a"], seconds["b"])
    assert row["ratio"] == pytest.approx(row["peer_value"] / seconds[peers.OURS])
    assert f"| 7 | {seconds['a']:.3f} s" in result.tables["peers"]
    seen = stand_ins["a"].seen
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(seen))


def test_boxes_begin_again() -> None:
    _, boxes = peers._photograph()
    repeated = peers._repeated(boxes, 50)
    assert len(repeated) == 50
    assert torch.equal(repeated[len(boxes)], boxes[0])
