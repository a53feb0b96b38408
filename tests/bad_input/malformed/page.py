"""Makes the table of docs/malformed.md: runs every verb on every malformed data set.

Example: python -m tests.bad_input.malformed.page --write
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.bad_input.malformed.base import DataSet, State, build
from tests.bad_input.malformed.states import GROUPS
from tests.bad_input.malformed.verbs import VERBS, VerbResult, run_verb

PAGE = Path(__file__).parents[3] / "docs" / "malformed.md"
BEGIN, END = "<!-- made by tests/bad_input/malformed/page.py -->", "<!-- end -->"
LONGEST = 230
"""Characters of a message that the page shows."""

Rows = dict[str, dict[str, VerbResult]]


def reads(result: VerbResult, given: DataSet) -> str:
    """A refusal's line without the machine's paths."""
    line = result.refused
    for path, name in ((given.data, "FILE"), (given.images, "FOLDER")):
        line = line.replace(str(path), name)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def run_all(
    states: Iterable[State], folder: Path
) -> Iterator[tuple[State, DataSet, dict[str, VerbResult]]]:
    """Each state with what every verb did."""
    for number, state in enumerate(states):
        given = build(state, folder / str(number))
        found = {}
        for verb in VERBS:
            out = folder / str(number) / verb
            out.mkdir()
            found[verb] = run_verb(verb, given, out)
        yield state, given, found


def tables() -> str:
    """The page's tables."""
    lines: list[str] = []
    refusals: list[str] = []
    for group, states in GROUPS.items():
        lines += [
            f"### {group}",
            "",
            f"| state | {' | '.join(VERBS)} |",
            "|---" * (len(VERBS) + 1) + "|",
        ]
        with tempfile.TemporaryDirectory() as folder:
            for state, given, found in run_all(states, Path(folder)):
                lines.append(f"| {state.title} | {' | '.join(t.cell for t in found.values())} |")
                refusals += _refusals(state, given, found)
        lines.append("")
    lines += ["### How a refusal reads", "", "| state | verbs | line |", "|---|---|---|", *refusals]
    return "\n".join(lines)


def _refusals(state: State, given: DataSet, found: dict[str, VerbResult]) -> Iterator[str]:
    verbs: dict[str, list[str]] = {}
    for verb, one in found.items():
        if one.refused:
            verbs.setdefault(reads(one, given), []).append(verb)
    for line, names in verbs.items():
        who = "all" if len(names) == len(VERBS) else ", ".join(names)
        yield f"| {state.title} | {who} | {line.replace('|', chr(92) + '|')} |"


def cells(page: str) -> Rows:
    """State → verb → cell, as the page has them."""
    rows: Rows = {}
    for line in page.partition(BEGIN)[2].partition("### How a refusal")[0].splitlines():
        parts = [part.strip() for part in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(parts) == len(VERBS) + 1 and parts[0] != "state":
            rows[parts[0]] = {
                verb: VerbResult(cell) for verb, cell in zip(VERBS, parts[1:], strict=True)
            }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write", action="store_true", help="write the page, else print the tables"
    )
    if not parser.parse_args().write:
        print(tables())
        return
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n\n{tables()}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
