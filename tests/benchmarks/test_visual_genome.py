"""The benchmark of the mask branch at many classes: K is seen in neither number, and
would be if it grew with K.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.real import visual_genome
from benchmarks.real.visual_genome import BAR, COCO_K, VG_K, Cost, measure_mask_branch
from benchmarks.result import Options
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN, load_recipe

CPU = torch.device("cpu")
OVERRIDES = [
    *visual_genome.OVERRIDES,
    "model.detector.fpn_channels=4",
    "model.detector.box_width=64",
    "model.detector.box_roi_size=3",
    "model.mask_head.width=6",
    "model.mask_head.convs=1",
    "model.mask_head.roi_size=4",
]


def small(classes: int) -> PartialMaskRCNN:
    config = load_recipe(visual_genome.RECIPE, OVERRIDES).model
    assert isinstance(config, MaskRCNN)
    return build_mask_rcnn(config, classes)


def test_memory_does_not_depend_on_the_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = measure_mask_branch((COCO_K, 900), small, regions=5, rounds=2, device=CPU)
    assert costs[COCO_K].peak == costs[900].peak > 5 * 6 * 8 * 8 * 4
    assert all(len(cost.seconds) == 2 and min(cost.seconds) > 0 for cost in costs.values())
    monkeypatch.setattr(
        PartialMaskRCNN, "class_rows", PartialMaskRCNN.class_weights
    )  # all rows joined, as it was
    grown = measure_mask_branch((COCO_K, 900), small, regions=5, rounds=1, device=CPU)
    assert grown[900].peak - grown[COCO_K].peak > 0.9 * (900 - COCO_K) * 5 * 64 * 4


def test_rows_and_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def measured(sizes: tuple[int, ...], *args: Any) -> dict[int, Cost]:
        assert sizes == (COCO_K, VG_K)
        return {COCO_K: Cost(2**20, [0.2, 0.1, 0.3]), VG_K: Cost(2**21, [0.21, 0.2, 0.9])}

    monkeypatch.setattr(visual_genome, "measure_mask_branch", measured)
    said: list[str] = []
    result = visual_genome.run(Options(tmp_path, 1, 0, 1, say=said.append))
    step, memory = result.rows
    assert step["ratio"] == pytest.approx(1.05)
    assert step["ok"] is True
    assert (memory["ratio"], memory["bar"], memory["ok"]) == (2.0, BAR, False)
    assert "| 3002 | 210.0 ms | 200.0–900.0 ms | 2.00 MiB |" in result.tables["vg"]
    assert "| ratio | 1.050 | | 2.0000 |" in result.tables["vg"]
    assert said[0].startswith("3001 classes")
    recipe = load_recipe(tmp_path / "generated" / "tiny.yaml")
    assert recipe.stages[1].data is not None
    assert Path(recipe.stages[1].data.annotations).is_file()
    assert Path(recipe.data.annotations).is_file()
