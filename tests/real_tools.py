"""What real tools write and what halfmask does with it: records on tests, and their table.

A test of a tool's files says so:

    @real_tool(tool="labelme", writes="polygons", does="read as masks")
    def test_polygons(...): ...

`python -m tests.real_tools --write` writes the table of docs/convert.md from them.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "convert.md"
BEGIN, END = "<!-- made by tests/real_tools.py -->", "<!-- end -->"
KEYS = ("tool", "writes", "does")

Test = TypeVar("Test", bound=Callable[..., object])
Row = tuple[str, str, str]


def real_tool(*, tool: str, writes: str, does: str) -> Callable[[Test], Test]:
    """Records what a test shows; the words are literals, so that they can be read unrun.

    Args:
        tool: its name, as its makers write it.
        writes: what it writes into its files.
        does: what halfmask does with that.
    """
    assert all((tool, writes, does))
    return lambda test: test


def records(folder: Path = TESTS) -> Iterator[Row]:
    """Yields the records on the tests below a folder, by file and line."""
    for path in sorted(folder.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "real_tool(" in text:
            yield from _records_in(ast.parse(text), path)


def _records_in(tree: ast.Module, path: Path) -> Iterator[Row]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "real_tool":
                words = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
                where = f"{path}:{node.name}"
                assert tuple(words) == KEYS, f"{where}: expected {KEYS}, found {tuple(words)}"
                assert node.name.startswith("test_"), f"{where}: is no test"
                yield words["tool"], words["writes"], words["does"]


def table(rows: list[Row]) -> str:
    """The table of some records, sorted by tool; the order of a tool's rows stays."""
    lines = ["| tool | what it writes | what halfmask does |", "|---|---|---|"]
    ordered = sorted(rows, key=lambda row: row[0].casefold())
    lines += [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in ordered
    ]
    return "\n".join(lines)


def page_with(text: str, made: str) -> str:
    """A page with the part between the marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def main() -> None:
    """Writes the table, or prints it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/convert.md")
    made = table(list(records()))
    if parser.parse_args().write:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page_with(text, made), encoding="utf-8", newline="\n")
    else:
        print(made)


if __name__ == "__main__":
    main()
