"""Figures of benchmarks are drawn from rows, measured now or stored."""

import json
from pathlib import Path

import pytest

from benchmarks.plots import figures
from benchmarks.result import Row, compared
from halfmask.errors import InputError


def document(*rows: Row, **details: object) -> dict[str, object]:
    return {"rows": list(rows), **details}


def test_a_stored_result_is_drawn_again_with_its_commit(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "guides" / "page.md"
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    page.parent.mkdir()
    page.write_text("<!-- bench:adapt:plot -->\n<!-- /bench:adapt:plot -->\n", encoding="utf-8")
    figures.redraw("adapt", page)
    text = page.read_text(encoding="utf-8")
    assert "](../figures/adapt.png)" in text
    stored = json.loads((figures.RESULTS / "adapt.json").read_text(encoding="utf-8"))
    assert stored["commit"] in text
    assert (tmp_path / "docs" / "figures" / "adapt.png").stat().st_size > 1000


def test_curves_and_bars_come_from_the_rows(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "figures").mkdir()
    seconds = {"1": {"A": 2.0, "halfmask, default": 0.1}, "50": {"A": 3.0, "halfmask, default": 1}}
    figures.draw("peers", document(seconds=seconds), page)
    size = {"peer": 500, "annotations": 1000}
    rows = [
        compared(f"{n:,} annotations: {what}", "pycocotools.COCO", 9.0, 3.0, unit, None)
        for n in size.values()
        for what, unit in (
            ("opening, processor time", "s"),
            ("indexing, once, processor time", "s"),
            ("opening, peak memory of the process", "MiB"),
            ("a random image's", "ms"),
        )
    ]
    figures.draw("annotations", document(*rows, sizes=size), page)
    for name in ("peers", "annotations"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000


def test_what_has_no_stored_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stored result of world"):
        figures.redraw("world", tmp_path / "page.md")
