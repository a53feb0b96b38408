"""`halfmask doctor`: describes a data set and its problems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

import halfmask
from halfmask.cli.shared.options import CrowdMasksOption, ReadAsOption
from halfmask.progress import Display
from halfmask.terminal import PlainConsole, PlainTable, say, styled
from halfmask.text import plural

if TYPE_CHECKING:
    from halfmask.coco.doctor.diagnosis import Diagnosis
    from halfmask.coco.doctor.published import CountComparison

CLASS_ROWS = 18
"""Most rows of classes, so that everything fits on one screen."""
FIRST_IDS = 4
ADVICE_LINES = 7


def run(
    data: Annotated[
        Path,
        typer.Argument(
            help="COCO file, or a data set in another format that `convert` reads.", metavar="DATA"
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the photographs, to check them too.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all findings to this JSON file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write all findings to this HTML page.")] = None,
    crowd_masks: CrowdMasksOption = False,
    read_as: ReadAsOption = None,
    expect: Annotated[
        str | None,
        typer.Option(help="Compare the counts with published ones: coco2017 (train or val)."),
    ] = None,
) -> None:
    """Describes a data set and its problems, and changes nothing.

    The report has the masks and boxes of each class, every problem by id, what training
    will use, what would help, and whether the quality on classes without masks can be
    measured. A class has no masks, few (1–9) or many (10 or more).

    --expect coco2017 compares images, annotations, images without annotations and
    classes with COCO 2017's. The file's name, or its number of images, says whether it
    is train or val.

    Exit code 0: clean; 1: problems were found (notes do not count), or a count differs
    from the expected one; 2: this is not a data set.

    Example: halfmask doctor instances_train.json --images train2017 --json report.json
    """
    # fmt: off
    with Display(quiet=True) as progress:
        diagnosis = halfmask.doctor(
            data, images=images, json=json, html=html, crowd_masks=crowd_masks,
            read_as=read_as, expect=expect, progress=progress,
        )
    # fmt: on
    _show(PlainConsole(), diagnosis)
    for line in diagnosis.unread:
        say(f"problem: {line}", err=True)
    if not diagnosis.ok:
        raise typer.Exit(1)


def _show(console: PlainConsole, diagnosis: Diagnosis) -> None:
    classes = diagnosis.categories
    counts = diagnosis.annotations["total"], diagnosis.images["total"]
    total = f"{plural(counts[0], 'annotation')} in {plural(counts[1], 'image')}"
    masks = f"Masks: {diagnosis.groups().summary()}"
    console.print(styled(diagnosis.file, "bold") + styled(f": {total}. {masks}"))
    console.print(_classes(diagnosis.used(), diagnosis.headings(), console.width))
    if unused := len(classes) - len(diagnosis.used()):
        console.print(f"{plural(unused, 'class', 'es')} without an annotation not shown")
    console.print(diagnosis.used_in_training())
    for name in ("boxes", "masks"):
        if diagnosis.sizes[name]["count"]:
            console.print(_sizes(name, diagnosis.sizes[name]))
    if diagnosis.advice:
        console.print(_advice(diagnosis.advice))
    console.print(_estimate(diagnosis.estimate))
    if len(diagnosis.problems):
        console.print(_problems(diagnosis))
    if diagnosis.counted:
        _show_counted(console, diagnosis.counted)
    problems = sum(len(rows) for facts, rows in diagnosis.by_kind() if facts.severity == "problem")
    notes = len(diagnosis.problems) - problems
    style, word = ("green", "clean") if diagnosis.ok else ("red", plural(problems, "problem"))
    if diagnosis.counted and (differ := len(diagnosis.counted.differences)):
        word += f", {plural(differ, 'count')} not as expected"
    console.print(styled(word, f"bold {style}") + styled(f", {plural(notes, 'note')}"))


def _show_counted(console: PlainConsole, counted: CountComparison) -> None:
    equal = [name for name in counted.published if name not in counted.differing]
    for line in counted.differences:
        console.print(styled(line, "red"))
    if equal:
        console.print(f"As in {counted.data_set} {counted.part}: {', '.join(equal)}.")
    for line in counted.unchecked:
        console.print(styled(line, "dim"))


def _classes(categories: list[dict[str, Any]], headings: dict[str, str], width: int) -> PlainTable:
    """Lists classes by masks and frequency, in as many column groups as fit."""
    longest = min(24, max((len(c["name"]) for c in categories), default=5))
    group = longest + 10 + sum(len(heading) + 3 for heading in headings.values())
    groups = max(1, min(width // group, -(-len(categories) // 6)))
    words = {"many": "many masks", "few": "few", "no_masks": "none"}
    order = list(words)
    ranked = sorted(categories, key=lambda c: (order.index(c["group"]), -c["annotations"], c["id"]))
    shown = ranked[: groups * CLASS_ROWS]
    rows = -(-len(shown) // groups)
    left = len(categories) - len(shown)
    caption = (
        f"and {plural(left, 'rarer class', 'es')}: --json or --html lists all" if left else None
    )
    table = PlainTable(box=None, pad_edge=False, caption=caption, caption_justify="left")
    for _ in range(groups):
        table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=24)
        table.add_column("has")
        for state, heading in headings.items():
            style = {"mask": "green", "missing": "yellow"}.get(state, "red")
            table.add_column(heading, justify="right", style=style)
    for row in range(rows):
        cells: list[str] = []
        for category in shown[row::rows]:
            counts = (str(category[state] or "·") for state in headings)
            cells += [category["name"], words[category["group"]], *counts]
        table.add_row(*cells)
    return table


def _sizes(name: str, block: dict[str, Any]) -> str:
    """Returns one line: how many are small, medium and large by COCO's limits."""
    shares = ", ".join(f"{block[key]} {key}" for key in "SML")
    side, fill = block["median_area"] ** 0.5, block.get("fill")
    filled = f"; half of them fill more than {fill:.0%} of their box" if fill else ""
    return (
        f"{name.capitalize()}: {shares}; half of them smaller than {side:.0f} × {side:.0f} "
        f"pixels{filled}."
    )


def _advice(lines: list[str]) -> PlainTable:
    table = PlainTable(
        box=None, padding=(0, 1), show_header=False, pad_edge=False, collapse_padding=True
    )
    table.add_column()
    table.add_column()
    for line in lines[:ADVICE_LINES]:
        table.add_row(styled("›", "cyan"), line)
    if len(lines) > ADVICE_LINES:
        table.add_row(
            "", f"and {len(lines) - ADVICE_LINES} further hints: --json or --html lists all"
        )
    return table


def _estimate(estimate: dict[str, Any]) -> Text:
    style = "green" if estimate["possible"] else "yellow"
    command = f"\n  {estimate['command']}" if estimate["command"] else ""
    question = styled("How good will classes without masks be?", f"bold {style}")
    return question + styled(f" {estimate['text']}{command}")


def _problems(diagnosis: Diagnosis) -> PlainTable:
    table = PlainTable(box=None, pad_edge=False)
    table.add_column("found", justify="right")
    table.add_column("what")
    table.add_column("first ids")
    table.add_column("consequence")
    for facts, rows in diagnosis.by_kind():
        first = rows[:FIRST_IDS]
        ids = ", ".join("+".join(map(str, p.ids)) for p in first if p.ids)
        more = ", …" if ids and len(rows) > FIRST_IDS else ""
        style = "red" if facts.severity == "problem" else "dim"
        found, what = styled(len(rows), style), styled(facts.heading_of(len(rows)), style)
        table.add_row(found, what, ids + more, facts.consequence)
    return table
