"""The table at the head of docs/benchmarks.md, made from the tables below it.

`python -m benchmarks.glance docs/benchmarks.md` writes it again. `python -m benchmarks
NAME --docs` does so too, so the table cannot differ from what it sums up.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from halfmask.errors import InputError
from halfmask.files.atomic import write_text

BEGIN, END = "<!-- bench:glance -->", "<!-- /bench:glance -->"
Cell = tuple[str, int]
"""Label of a row and number of a column: 1 is the one after the label."""
CLOSE = 0.1
"""A ratio within this of 1 is called close."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A row of the table.

    Attributes:
        what: is measured.
        unit: of both values.
        marker: of the table that has them.
        peer: the other side's name.
        theirs, ours: where the values stand.
        rate: more is better; otherwise less is.
    """

    what: str
    unit: str
    marker: str
    peer: str
    theirs: Cell
    ours: Cell
    rate: bool = False


def _rows(marker: str, peer: str, *rows: tuple[str, str, Cell, Cell]) -> list[Claim]:
    return [
        Claim(what=what, unit=unit, marker=marker, peer=peer, theirs=theirs, ours=ours)
        for what, unit, theirs, ours in rows
    ]


def _sides(marker: str, peer: str, *rows: tuple[str, str, int]) -> list[Claim]:
    """Of a table with a row of each side."""
    cells = [(what, unit, (peer, column), ("halfmask", column)) for what, unit, column in rows]
    return _rows(marker, peer, *cells)


def _inference(*ways: str) -> list[Claim]:
    what, peer = "Mask R-CNN, photograph to RLE", "torchvision"
    rows = [(f"{what}: {way}", "s", (peer, 1), (f"halfmask, {way}", 1)) for way in ways]
    return _rows("inference", peer, *rows)


def _given_boxes(peer: str, *ways: str) -> list[Claim]:
    rows = [
        (f"7 given boxes to RLE: {way}", "s", (peer, 1), (f"halfmask, {way}", 1)) for way in ways
    ]
    return _rows("inference-boxes", peer, *rows)


def _promptable(peer: str, column: int) -> list[Claim]:
    rows = [
        (f"{boxes} to RLE: {way}", "s", (str(count), column), (str(count), own))
        for count, boxes in ((1, "One given box"), (7, "7 given boxes"))
        for way, own in (("PyTorch", 3), ("two looks, INT8", 4))
    ]
    return _rows("peers", peer, *rows)


def _large(*rows: tuple[str, str, str]) -> list[Claim]:
    size = "500,000 annotations"
    cells = [
        (f"{size}: {what}", unit, (f"{size}: {row}", 2), (f"{size}: {row}", 1))
        for what, unit, row in rows
    ]
    return _rows("annotations", "pycocotools", *cells)


CLAIMS = (
    *_rows(
        "classes",
        "torchvision",
        ("Mask branch, a step at 80 classes", "ms", ("80", 5), ("80", 1)),
        ("Mask branch, a step at 3000 classes", "ms", ("3,000", 5), ("3,000", 1)),
        ("Mask branch, memory at 3000 classes", "MiB", ("3,000", 7), ("3,000", 3)),
    ),
    *_sides(
        "classes:whole",
        "torchvision",
        ("Detector at 3000 classes", "s", 1),
        ("Detector at 3000 classes, memory", "MiB", 2),
    ),
    *_rows(
        "objects",
        "torchvision",
        ("Targets of 1000 masked objects, memory", "MiB", ("1000", 2), ("1000", 1)),
    ),
    Claim(
        what="Loader, COCO-mini",
        unit="images/s",
        marker="objects:loader",
        peer="torchvision",
        theirs=("torchvision", 1),
        ours=("halfmask", 1),
        rate=True,
    ),
    *_rows(
        "masks",
        "torchvision, pycocotools",
        (
            "100 masks, probabilities to RLE",
            "ms",
            ("torchvision's `paste_masks_in_image`, pycocotools", 1),
            ("halfmask, from the crops", 1),
        ),
    ),
    *_sides(
        "train",
        "torchvision",
        ("Mask R-CNN, a training step", "s", 2),
        ("Mask R-CNN, a training step, memory", "MiB", 3),
    ),
    *_rows(
        "steps",
        "halfmask, float32",
        ("Box segmenter, a training step in bfloat16", "ms", ("float32", 1), ("bfloat16", 1)),
    ),
    *_inference("PyTorch", "ONNX Runtime", "OpenVINO", "OpenVINO, INT8"),
    *_given_boxes("SAM ViT-B", "PyTorch", "ONNX Runtime, INT8"),
    *_given_boxes("SAM 2 tiny", "PyTorch"),
    *_promptable("EdgeTAM", 2),
    *_large(
        ("indexing once, reading", "s", "indexing, once, processor time"),
        ("opening the index, reading", "s", "opening, processor time"),
        ("opening, memory", "MiB", "opening, peak memory of the process"),
        ("a random image's, index on disk", "ms", "a random image's"),
    ),
    *_rows(
        "evaluation",
        "pycocotools",
        (
            "Box and mask AP at COCO's size",
            "s",
            ("both together, CPU time", 2),
            ("both together, CPU time", 1),
        ),
        (
            "Box and mask AP, memory",
            "MiB",
            ("peak memory of the process", 2),
            ("peak memory of the process", 1),
        ),
    ),
)


def glance(page: str) -> str:
    """Returns the table, from the tables of the page.

    Raises:
        InputError: a table or a row of it is absent.
    """
    lines = [
        "| | peer | peer's | halfmask's | ratio | command, hardware, commit |",
        "|---|---|---:|---:|---:|---|",
    ]
    for claim in CLAIMS:
        block = _block(page, claim.marker)
        theirs, ours = (_value(block, cell, claim.marker) for cell in (claim.theirs, claim.ours))
        ratio = ours / theirs if claim.rate else theirs / ours
        cells = (f"{_short(value)} {claim.unit}" for value in (theirs, ours))
        row = [claim.what, claim.peer, *cells, _ratio(ratio), _source(block, claim.marker)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def refresh(path: Path) -> None:
    """Writes the table into a page that has its markers; leaves any other alone."""
    page = path.read_text(encoding="utf-8")
    if BEGIN not in page:
        return
    before, rest = page.split(BEGIN)
    write_text(path, f"{before}{BEGIN}\n{glance(page)}\n{END}{rest.split(END)[1]}")


def _ratio(ratio: float) -> str:
    if abs(ratio - 1) < CLOSE:
        return f"{ratio:.2f} (close)"
    return f"{ratio:.2f}" + (" (slower)" if ratio < 1 else "")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _block(page: str, marker: str) -> str:
    found = re.search(rf"<!-- bench:{marker} -->\n(.*?)<!-- /bench:{marker} -->", page, re.DOTALL)
    if found is None:
        raise InputError(f"glance: the page has no table {marker}")
    return found[1]


def _value(block: str, cell: Cell, marker: str) -> float:
    label, column = cell
    for line in block.splitlines():
        cells = [text.strip() for text in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] == label:
            number = re.match(r"[\d,.]+", cells[column])
            if number is not None:
                return float(number[0].replace(",", ""))
    raise InputError(f"glance: table {marker} has no number in column {column} of row {label}")


def _source(block: str, marker: str) -> str:
    found = re.search(r"`(python -m benchmarks[. ][^\s`]+).*?` on (.*?), commit ([^,;]+)", block)
    if found is None:
        raise InputError(f"glance: table {marker} names no command, hardware and commit")
    return f"`{found[1]}`, {found[2]}, {found[3]}"


if __name__ == "__main__":
    refresh(Path(sys.argv[1]))
