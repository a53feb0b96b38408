"""The table of tools in docs/convert.md is the one that the tests make."""

from pathlib import Path

import pytest

from tests.real_tools import BEGIN, END, PAGE, page_with, records, table


def test_the_page_has_the_table_of_the_tests() -> None:
    rows = list(records())
    assert len(rows) >= 22
    assert len(set(rows)) == len(rows)
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text == page_with(text, table(rows)), "run python -m tests.real_tools --write"


def test_records_are_read_from_decorators(tmp_path: Path) -> None:
    row = '@real_tool(tool="b|c", writes="x", does="y")\n'
    (tmp_path / "test_a.py").write_text(f"{row}def test_one(): ...\n")
    assert list(records(tmp_path)) == [("b|c", "x", "y")]
    assert table([("b|c", "x", "y"), ("A", "x", "y")]).splitlines()[2:] == [
        "| A | x | y |",
        "| b\\|c | x | y |",
    ]
    (tmp_path / "test_a.py").write_text(f"{row}def helper(): ...\n")
    with pytest.raises(AssertionError, match="is no test"):
        list(records(tmp_path))
    (tmp_path / "test_a.py").write_text('@real_tool(tool="b")\ndef test_one(): ...\n')
    with pytest.raises(AssertionError, match="expected"):
        list(records(tmp_path))
