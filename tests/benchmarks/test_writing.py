"""Tables reach the docs between their markers, and nowhere else."""

from pathlib import Path

import pytest

from benchmarks.writing import provenance, replace_table
from halfmask.errors import InputError


def test_a_table_replaces_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nafter\n", encoding="utf-8")
    source = provenance() | {"hardware": "a machine", "commit": "abc", "date": "2026-01-01"}
    replace_table(page, "x", "| new |", "python -m benchmarks x", source)
    replace_table(page, "x", "| newer |", "python -m benchmarks x", source)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Title\n<!-- bench:x -->\n| newer |\n")
    assert text.endswith("<!-- /bench:x -->\nafter\n")
    assert "old" not in text
    assert "`python -m benchmarks x` on a machine, commit abc, 2026-01-01" in text


@pytest.mark.parametrize(
    "text", ["nothing", "<!-- bench:x -->", "<!-- /bench:x --><!-- bench:x -->"]
)
def test_a_page_without_the_markers_is_refused(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="expected one <!-- bench:x -->"):
        replace_table(page, "x", "table", "command", provenance())
    assert page.read_text(encoding="utf-8") == text
    with pytest.raises(InputError, match="cannot be read"):
        replace_table(tmp_path / "absent.md", "x", "table", "command", provenance())


def test_provenance_has_the_contract_s_keys() -> None:
    source = provenance()
    assert set(source) == {"hardware", "commit", "date", "versions"}
    assert set(source["versions"]) == {"halfmask", "torch", "torchvision"}
