"""The table at the head of the benchmarks page, beside the tables it sums up."""

from pathlib import Path

import pytest

from benchmarks import glance
from halfmask.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def test_the_page_has_the_table_that_its_tables_make() -> None:
    page = PAGE.read_text(encoding="utf-8")
    written = page.split(glance.BEGIN)[1].split(glance.END)[0].strip()
    assert written == glance.glance(page), "run: python -m benchmarks.glance docs/benchmarks.md"


def test_every_benchmark_of_the_page_has_its_figure() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for claim in glance.CLAIMS:
        name = claim.marker.split(":")[0].removesuffix("-boxes")
        assert f"](figures/{name}.png)" in page, claim.marker
        assert (PAGE.parent / "figures" / f"{name}.png").stat().st_size > 1000


def test_a_number_that_changes_below_changes_above(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    path = tmp_path / "page.md"
    path.write_text(page.replace("| halfmask | 1.97 |", "| halfmask | 4.00 |"), encoding="utf-8")
    glance.refresh(path)
    assert "| 4.23 s | 4 s | 1.06 (close) |" in path.read_text(encoding="utf-8")
    path.write_text("no markers", encoding="utf-8")
    glance.refresh(path)
    assert path.read_text(encoding="utf-8") == "no markers"


def test_less_than_the_peer_is_called_slower() -> None:
    assert glance._ratio(0.5) == "0.50 (slower)"
    assert glance._ratio(2.0) == "2.00"


@pytest.mark.parametrize("lost", ["<!-- bench:evaluation -->", "| 3,000 |", "python -m"])
def test_what_is_absent_is_named(lost: str) -> None:
    page = PAGE.read_text(encoding="utf-8").replace(lost, "")
    with pytest.raises(InputError, match="glance"):
        glance.glance(page)
