"""`halfmask doctor`: what is in a COCO file, and what is wrong with it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from jinja2 import Template
    from rich.console import Console
    from rich.table import Table

    from halfmask.coco.file import CocoFile
    from halfmask.coco.problems import Problem

CLASS_ROWS = 18
"""Rows of classes that still leave room for the rest on one screen."""
FIRST_IDS = 4
ADVICE_LINES = 7
SHOWN = {
    "mask": "masked",
    "missing": "box only",
    "suspect": "suspect",
    "broken": "broken",
    "filled": "filled",
    "rejected": "rejected",
    "crowd": "crowd",
}
"""States in the order of the columns, and their headings."""


def run(
    data: Annotated[Path, typer.Argument(help="COCO file.", metavar="DATA.json")],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the photographs: looks at them too.", metavar="DIR"),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Writes everything found, by id.", metavar="F")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Writes a page with everything found.", metavar="F")
    ] = None,
) -> None:
    """Says what is in a COCO file: masks, boxes and suspects of each class, every
    problem by id, what training will use, what would help, and whether the quality on
    box-only classes can be measured. Changes nothing.

    Exit code 0: clean; 1: problems were found (notes are none); 2: this is no COCO
    file.

    Example: halfmask doctor instances_train.json --images train2017 --json report.json
    """
    from rich.console import Console

    from halfmask.coco.doctor.checks import duplicate_keys
    from halfmask.coco.doctor.diagnosis import diagnose
    from halfmask.coco.file import CocoFile
    from halfmask.files.atomic import write_json

    with Console(stderr=True).status(f"reading {data.name}"):
        file = CocoFile.read(data)
        twice = duplicate_keys(data)
    result = diagnose(file, [*twice, *_examine(file, images)])
    _show(Console(), result)
    if json is not None:
        write_json(json, result, indent=1)
    if html is not None:
        _write_page(html, result)
    if not result["ok"]:
        raise typer.Exit(1)


def _examine(file: CocoFile, images: Path | None) -> list[Problem]:
    from halfmask.coco.doctor.checks import check
    from halfmask.coco.doctor.photographs import check_photographs
    from halfmask.progress import displayed

    with displayed("looking at annotations", len(file.images), "image") as display:
        found = check(file, display.advance)
    if images is not None:
        with displayed("looking at photographs", len(file.images), "image") as display:
            found += check_photographs(file, images, display.advance)
    return found


def _show(console: Console, result: dict[str, Any]) -> None:
    annotations, training = result["annotations"], result["training"]
    counted = {state: annotations[state] for state in SHOWN if annotations[state]}
    console.print(
        f"[bold]{_plain(result['file'])}[/]: {annotations['total']} annotations in "
        f"{result['images']['total']} images, "
        f"{len(result['categories'])} classes, "
        f"{sum(c['set'] == 'A' for c in result['categories'])} of them masked (A)"
    )
    console.print(
        _classes(
            result["categories"],
            ["mask", "missing", *(s for s in counted if s not in ("mask", "missing"))],
            console.width,
        )
    )
    console.print(
        f"Training uses {training['boxes']} boxes and {training['masks']} masks; "
        f"{training['boxes_without_mask']} boxes teach without one; "
        f"left out: {training['crowds_left_out']} crowds, {training['unusable_left_out']} "
        "unusable annotations."
    )
    for name in ("boxes", "masks"):
        if result["sizes"][name]["count"]:
            console.print(_sizes(name, result["sizes"][name]), highlight=False)
    if result["advice"]:
        console.print(_advice(result["advice"]), highlight=False)
    console.print(_estimate(result["estimate"]), highlight=False)
    if result["problems"]:
        console.print(_problems(result["problems"]))
    problems = sum(p["severity"] == "problem" for p in result["problems"])
    notes = len(result["problems"]) - problems
    style, word = (
        ("green", "clean")
        if result["ok"]
        else ("red", f"{problems} problem{'s' * (problems != 1)}")
    )
    console.print(f"[bold {style}]{word}[/], {notes} notes")


def _classes(categories: list[dict[str, Any]], states: list[str], width: int) -> Table:
    """Classes by set and frequency, side by side in as many column groups as fit."""
    from rich.table import Table

    longest = min(24, max((len(c["name"]) for c in categories), default=5))
    group = longest + 5 + sum(len(SHOWN[s]) + 3 for s in states)
    groups = max(1, min(width // group, -(-len(categories) // 6)))
    ranked = sorted(categories, key=lambda c: (c["set"], -c["annotations"], c["id"]))
    shown = ranked[: groups * CLASS_ROWS]
    rows = -(-len(shown) // groups)
    left = len(categories) - len(shown)
    caption = f"and {left} rarer classes: --json or --html lists all" if left else None
    table = Table(box=None, pad_edge=False, caption=caption, caption_justify="left")
    for _ in range(groups):
        table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=24)
        table.add_column("set")
        for state in states:
            table.add_column(
                SHOWN[state],
                justify="right",
                style={"mask": "green", "missing": "yellow"}.get(state, "red"),
            )
    for row in range(rows):
        cells: list[str] = []
        for category in shown[row::rows]:
            cells += [
                _plain(category["name"]),
                category["set"],
                *(str(category[s] or "·") for s in states),
            ]
        table.add_row(*cells)
    return table


def _sizes(name: str, block: dict[str, Any]) -> str:
    """One line: how many are small, medium and large by COCO's borders."""
    shares = ", ".join(f"{block[key]} {key}" for key in "SML")
    side = block["median_area"] ** 0.5
    fill = (
        f"; half of them fill more than {block['fill']:.0%} of their box"
        if block.get("fill")
        else ""
    )
    return f"{name.capitalize()}: {shares}; half of them smaller than {side:.0f} × {side:.0f} pixels{fill}."


def _advice(lines: list[str]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 1))
    for line in lines[:ADVICE_LINES]:
        table.add_row("[cyan]›[/]", _plain(line))
    if len(lines) > ADVICE_LINES:
        table.add_row("", f"and {len(lines) - ADVICE_LINES} more in --json or --html")
    return table


def _estimate(estimate: dict[str, Any]) -> str:
    style = "green" if estimate["possible"] else "yellow"
    command = f"\n  {_plain(estimate['command'])}" if estimate["command"] else ""
    return (
        f"[bold {style}]How good will box-only classes be?[/] {_plain(estimate['text'])}{command}"
    )


def _problems(problems: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    from halfmask.coco.problems import FACTS, ProblemKind

    table = Table(box=None, pad_edge=False)
    table.add_column("found", justify="right")
    table.add_column("what")
    table.add_column("first ids")
    table.add_column("what follows")
    for kind, facts in FACTS.items():
        rows = [p for p in problems if p["kind"] == kind]
        if not rows:
            continue
        ids = ", ".join("+".join(map(str, p["ids"])) for p in rows[:FIRST_IDS] if p["ids"])
        more = ", …" if ids and len(rows) > FIRST_IDS else ""
        style = "red" if facts.severity == "problem" else "dim"
        what = (
            f"{facts.heading} ({facts.about})"
            if kind == ProblemKind.ANNOTATION_RECORD
            else facts.heading
        )
        table.add_row(
            f"[{style}]{len(rows)}[/]", f"[{style}]{what}[/]", ids + more, facts.consequence
        )
    return table


def _write_page(path: Path, result: dict[str, Any]) -> None:
    from halfmask.coco.problems import FACTS
    from halfmask.files.atomic import write_text

    states = [
        state for state in SHOWN if state in ("mask", "missing") or result["annotations"][state]
    ]
    groups = [
        (f, [p for p in result["problems"] if p["kind"] == kind]) for kind, f in FACTS.items()
    ]
    write_text(
        path,
        _template().render(
            result=result, states=states, headings=SHOWN, groups=[g for g in groups if g[1]]
        ),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader

    folder = Path(__file__).parents[1] / "assets"
    return Environment(loader=FileSystemLoader(folder), autoescape=True).get_template("doctor.html")


def _plain(text: str) -> str:
    """Text of the user's that a terminal can show as it is: no markup, no half characters."""
    from rich.markup import escape

    return escape(text.encode("utf-8", "replace").decode())
