"""`bench masks` at a tiny size, and its dense reference."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.result import Options
from benchmarks.scale import masks
from benchmarks.scale.masks import KINDS, Case, Setting, dense_paste, differences
from halfmask.masks.crops import MaskCrops


def test_rows_and_table(tmp_path: Path) -> None:
    setting = Setting(cases=70, masks=4, image=(60, 80), rounds=1, pictures=2)
    result = masks.run(Options(tmp_path, 1, 0, 1, say=lambda line: None), setting)
    assert [row["ok"] for row in result.rows if row["unit"] == ""] == [True, True]
    assert all(row["value"] > 0 for row in result.rows if row["unit"] != "")
    assert "Of 70 random cases" in result.tables["masks"]


@pytest.mark.slow
def test_random_cases_have_the_bytes_of_the_dense_way() -> None:
    found = differences(1400, seed=1)
    assert dict(found) == dict.fromkeys(KINDS, 0)


def test_a_difference_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(
        probs: torch.Tensor, region: torch.Tensor, box: torch.Tensor, *, image_size: tuple[int, int]
    ) -> MaskCrops:
        return MaskCrops.from_dense(torch.ones(1, *image_size, dtype=torch.bool))

    monkeypatch.setattr(masks, "paste", shifted)
    assert differences(7)["empty"] == 1


def test_the_dense_reference_by_hand() -> None:
    probs = torch.tensor([[[1.0, 0.0]]])
    box = torch.tensor([[2.0, 1.0, 6.0, 3.0]])
    drawn = dense_paste(Case(probs.expand(1, 2, 2) * torch.tensor([1.0, 0.0]), box, box, (4, 8)))
    expected = np.zeros((4, 8), dtype=np.uint8)
    expected[1:3, 2:4] = 1
    assert np.array_equal(drawn, expected)
