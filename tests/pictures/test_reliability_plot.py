"""The reliability diagram: drawn for many masks and for one, refused for none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfmask.errors import InputError
from halfmask.evaluation.measures.reliability import reliability
from halfmask.pictures.reliability import BAD, SCORE, reliability_plot


def has(picture: Image.Image, colour: str) -> int:
    """Pixels of about this colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(np.asarray(picture.convert("RGB"), dtype=int) - wanted).max(2) < 12).sum())


@pytest.mark.parametrize("count", [1, 7, 300])
def test_both_curves_are_in_the_picture(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(count)
    ious = (scores + rng.normal(0, 0.1, count)).clip(0, 1)
    path = reliability_plot(reliability(scores, ious), tmp_path / "new" / "r.png", f"{count} masks")
    picture = Image.open(path)
    assert picture.width == 1200
    assert has(picture, SCORE) > 300
    assert has(picture, BAD) > 300


def test_bars_are_explained_where_there_are_some(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(300)
    many = reliability_plot(reliability(scores, scores), tmp_path / "many.svg", "many").read_text()
    one = reliability_plot(reliability([0.5], [0.6]), tmp_path / "one.svg", "one").read_text()
    assert "± 2 s.e.: each bar reaches two standard errors" in many
    assert "10 bins of equal count, ± 2 s.e." in many
    assert "s.e." not in one
    assert "one mask each" in one


def test_no_mask_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mask has a known truth"):
        reliability_plot(reliability([], []), tmp_path / "r.png", "none")
    assert not (tmp_path / "r.png").exists()
