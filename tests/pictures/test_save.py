"""Figures and pictures: whole, or what was there before."""

import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.plots.curve_plot import curve_plot
from benchmarks.plots.gain_plot import gain_plot
from halfmask.errors import InputError
from halfmask.pictures.save import save_figure, save_picture
from halfmask.training.loop.trackers import Trackers

PACKAGE = Path(__file__).parents[2] / "halfmask"


def test_nothing_else_draws_into_a_file_in_place() -> None:
    found = [
        p.name
        for p in PACKAGE.rglob("*.py")
        if re.search(r"\.savefig\(", p.read_text(encoding="utf-8"))
    ]
    assert found == ["save.py"]


@pytest.mark.parametrize("name", ["a.png", "a.svg", "below/a.png"])
def test_a_figure_is_whole_or_the_old_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / name
    curves = {"ours": {80: 1.0, 100: 2.0}}
    assert curve_plot({"time": curves, "memory": curves}, "classes", out) == out
    assert gain_plot({20: [0.1, 0.2]}, 80, out) == out
    before = out.read_bytes()

    def breaks(_: Figure, file: Any, **__: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", breaks)
    with pytest.raises(InputError, match=r"a\.\w+: cannot write here: No space left on device"):
        save_figure(Figure(), out)
    assert out.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(("name", "form"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a", "PNG")])
def test_a_picture_is_whole_or_the_old_one(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = save_picture(Image.new("RGB", (5, 4)), tmp_path / name)
    with Image.open(out) as read:
        assert (read.format, read.size) == (form, (5, 4))
    before = out.read_bytes()
    monkeypatch.setattr(
        Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "disk full"))
    )
    with pytest.raises(InputError, match="cannot write here: disk full"):
        save_picture(Image.new("RGB", (5, 4)), out)
    assert out.read_bytes() == before


def test_the_ids_of_trackers_are_whole_or_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackers = Trackers([], tmp_path)
    trackers._remember("wandb", "one")
    place = tmp_path / "logs" / "trackers.json"
    before = place.read_bytes()

    def breaks(*_: object) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("os.fsync", breaks)
    with pytest.raises(InputError, match="disk full"):
        trackers._remember("mlflow", "two")
    assert place.read_bytes() == before
    assert [p.name for p in place.parent.iterdir()] == ["trackers.json"]
