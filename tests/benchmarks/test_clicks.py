"""The clicks benchmark: where it clicks, what it counts, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.real import clicks
from benchmarks.real.clicks import CLICKS, Clicked, click_on, run
from benchmarks.result import Options
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.structures import Detection

BOX = torch.tensor([[10.0, 10.0, 40.0, 40.0]])


class Obedient:
    """Draws the left half of its box, and after n clicks what the clicks say."""

    def __init__(self, truth: torch.Tensor, needed: int) -> None:
        self.truth, self.needed, self.seen = truth, needed, []  # type: ignore[var-annotated]

    def segment(self, images: Any, boxes: Any, *, clicks: Any, mask: Any) -> list[Detection]:
        self.seen.append((clicks, mask))
        count = 0 if clicks is None else len(clicks[0])
        probs = torch.zeros(1, 30, 30)
        probs[:, :, :15] = 1
        if count >= self.needed:
            probs = self.truth[None, 10:40, 10:40].float()
        return [
            Detection(
                boxes=boxes[0],
                labels=torch.zeros(1, dtype=torch.int64),
                scores=torch.ones(1),
                mask_probs=probs,
                regions=boxes[0],
                quality=torch.ones(1),
                image_size=(50, 60),
            )
        ]


def test_clicks_lie_on_the_error_and_stop_when_there_is_none() -> None:
    truth = torch.zeros(50, 60, dtype=torch.bool)
    truth[10:40, 10:40] = True
    model = Obedient(truth, needed=2)
    ious = click_on(model, torch.zeros(3, 50, 60), BOX, MaskCrops.from_dense(truth[None]))
    assert ious.shape == (CLICKS + 1, 1)
    assert ious[:, 0].tolist() == pytest.approx([0.5, 0.5] + [1.0] * (CLICKS - 1))
    assert model.seen[0] == (None, None)
    [given], [mask] = model.seen[2]
    assert given[:, [0, 3]].tolist() == [[0, 1], [0, 1]], "both ask for more"
    assert 25 < float(given[0, 1]) < 40
    assert 10 < float(given[0, 2]) < 40
    assert mask.areas().tolist() == [450]
    assert len(model.seen[-1][0][0]) == 2, "no click without an error"


def test_the_number_of_clicks() -> None:
    assert Clicked(category=1, ious=[0.95, 0.96]).needed == 0
    assert Clicked(category=1, ious=[0.5, 0.8, 0.91, 0.85]).needed == 2
    assert Clicked(category=1, ious=[0.5, 0.6]).needed == CLICKS


def options(out: Path, *overrides: str) -> Options:
    return Options(out, 1, 0, 1, overrides=overrides, say=lambda line: None)


def test_the_table_of_what_was_measured(tmp_path: Path) -> None:
    ious = [[0.5] + [0.8] * CLICKS, [0.7, 0.9, *[0.95] * (CLICKS - 1)]]
    objects = [{"category": 1, "ious": one} for one in ious]
    kept = {"model": "run", "fold": "0", "objects": objects}
    (tmp_path / "clicks.json").write_text(json.dumps(kept))
    result = run(options(tmp_path, "model=run", "fold=0"))
    row = "| all | 2 | 60.0 | 85.0 | 87.5 | 87.5 | 87.5 | 87.5 | 5.5 | 50 % |"
    assert row in result.tables["real:clicks"]
    assert [round(r["value"], 2) for r in result.rows] == [85.0, 87.5, 5.5]
    assert result.command == "python -m benchmarks clicks --set model=run --set fold=0"
    with pytest.raises(InputError, match="other settings"):
        run(options(tmp_path, "model=run"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [((), "name a model"), (("steps=3",), "expected one of"), (("model=",), "expected one of")],
)
def test_wrong_settings(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(options(tmp_path, *overrides))


def test_a_model_without_clicks(tiny_segmenter: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes no clicks"):
        run(options(tmp_path, f"model={tiny_segmenter}"))


def test_masks_within_a_window() -> None:
    dense = torch.zeros(1, 50, 60, dtype=torch.bool)
    dense[0, 20:30, 5:15] = True
    crops = MaskCrops.from_dense(dense)
    for place in ((0, 0, 60, 50), (10, 25, 40, 40), (-5, -5, 12, 28), (20, 0, 40, 10)):
        x0, y0, x1, y1 = place
        wanted = torch.nn.functional.pad(dense, (20, 20, 20, 20))[
            :, y0 + 20 : y1 + 20, x0 + 20 : x1 + 20
        ]
        assert torch.equal(clicks._window(crops, 0, place), wanted)
