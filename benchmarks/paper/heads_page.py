"""`bench heads` as numbers: mean, paired difference to the plain head, and the share of
two gaps that each head closes on B.

A head's name is its input and, after a comma, the way it was trained; `hourglass` among
the words says which trunk it has.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.paper.table1_page import Difference, paired, spread
from benchmarks.paper.world_table import AGNOSTIC, ORACLE, Measure, of
from benchmarks.result import Row

BAR = 0.9
"""Share of each gap that the best head has to close."""
HOURGLASS = "hourglass"


def reference(head: str) -> tuple[str, str]:
    """The heads that 0 % and 100 % of a head's gap stand for, of the head's own trunk.

    A class-agnostic head's gap is what partial supervision costs: from plain to trained
    on all masks. A transfer head's is from the plain class-agnostic head to the
    per-class oracle.
    """
    trunk = f", {HOURGLASS}" if HOURGLASS in head else ""
    high = f"{AGNOSTIC}{trunk}, all masks" if head.startswith(AGNOSTIC) else f"{ORACLE}{trunk}"
    return f"{AGNOSTIC}{trunk}", high


def gap_closed(measures: list[Measure], masked: int, head: str) -> list[float]:
    """For each seed and split that has all three: how far the head's IoU on B lies from
    its low reference (0) to its high one (1).
    """
    out = []
    for m in of(measures, masked=masked, head=head):
        low, high = (_iou(measures, m, other) for other in reference(head))
        if low is not None and high is not None:
            out.append((m["iou"]["B"] - low) / (high - low))
    return out


def _iou(measures: list[Measure], m: Measure, head: str) -> float | None:
    found = of(measures, masked=m["masked"], seed=m["seed"], split=m["split"], head=head)
    return float(found[0]["iou"]["B"]) if found else None


def ways_of(head: str, heads: Sequence[str]) -> list[str]:
    """Those of `heads` that are this input, plain or in some way."""
    return [name for name in heads if name == head or name.startswith(f"{head}, ")]


def best(measures: list[Measure], masked: int, heads: Sequence[str]) -> str | None:
    """The head that closes most of its gap, of those that were measured most often: a
    lucky split of one run is no winner.
    """
    closed = {head: gap_closed(measures, masked, head) for head in heads}
    most = max((len(values) for values in closed.values()), default=0)
    means = {
        head: statistics.fmean(values)
        for head, values in closed.items()
        if values and len(values) == most
    }
    return max(means, key=means.__getitem__) if means else None


def heads_rows(
    measures: list[Measure], masked: int, inputs: Sequence[str], heads: Sequence[str]
) -> list[Row]:
    """Rows of `bench --json`: the two bars, then each head's mask IoU on B beside the
    plain head's of its input; of what was measured.

    Args:
        inputs: what heads know of a class; each is the name of its plain head.
        heads: all of the matrix but the references.
    """
    rows = _bar_rows(measures, masked, heads)
    rows += [
        _iou_row(measures, masked, name, head) for head in inputs for name in ways_of(head, heads)
    ]
    return [row for row in rows if row["value"] is not None]


def _bar_rows(measures: list[Measure], masked: int, heads: Sequence[str]) -> list[Row]:
    agnostic = [head for head in heads if head.startswith(AGNOSTIC) and head not in reference(head)]
    transfer = [head for head in heads if not head.startswith(AGNOSTIC)]
    return [
        _bar_row(measures, masked, agnostic, f"gap to {AGNOSTIC} on all masks"),
        _bar_row(measures, masked, transfer, f"gap to the {ORACLE}"),
    ]


def _bar_row(measures: list[Measure], masked: int, heads: Sequence[str], gap: str) -> Row:
    head = best(measures, masked, heads)
    value = None if head is None else statistics.fmean(gap_closed(measures, masked, head))
    name = f"{gap} closed on B, {head or 'no head measured'}, |A| = {masked}"
    row: Row = {
        "name": name,
        "peer": None,
        "peer_value": None,
        "value": value,
        "unit": "share of IoU",
        "ratio": None,
    }
    return row | {"bar": BAR, "ok": None if value is None else value >= BAR}


def _iou_row(measures: list[Measure], masked: int, head: str, plain: str) -> Row:
    value, low = (_mean_iou(measures, masked, name) for name in (head, plain))
    row: Row = {
        "name": f"mask IoU on B, {head}, |A| = {masked}",
        "value": value,
        "unit": "IoU",
        "bar": None,
        "ok": None,
    }
    if head == plain:
        return row | {"peer": None, "peer_value": None, "ratio": None}
    return row | {
        "peer": plain,
        "peer_value": low,
        "ratio": value / low if value is not None and low else None,
    }


def _mean_iou(measures: list[Measure], masked: int, head: str) -> float | None:
    values = [m["iou"]["B"] for m in of(measures, masked=masked, head=head)]
    return statistics.fmean(values) if values else None


def heads_markdown(
    measures: list[Measure], masked: int, inputs: Sequence[str], heads: Sequence[str]
) -> str:
    """The tables of docs/heads.md: one for each input, then the heads that learn from
    all masks, then the gaps that the best heads close; see `heads_rows`.
    """
    lines: list[str] = []
    for head in inputs:
        low, high = reference(head)
        lines += [
            f"**{head}** (|A| = {masked}; difference to plain *{head}* in points of IoU on the "
            "same seeds and splits, 95 % interval over "
            f"seeds; gap from *{low}* to *{high}* of the same trunk)",
            "",
            "| | mask IoU, B | mask IoU, A | mask AP, B | mask AP, A | difference, IoU on B | "
            "gap closed, B | runs |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(measures, masked, name, head) for name in ways_of(head, heads)]
        lines.append("")
    lines += [
        "**Trained on all masks**",
        "",
        "| | mask IoU, B | mask IoU, A | mask AP, B | mask AP, A | runs |",
    ]
    lines.append("|---|---|---|---|---|---|")
    references = sorted({reference(name)[1] for name in heads})
    lines += [f"| {head} | {_cells(measures, masked, head)} |" for head in references]
    lines += ["", *[_summary_line(row) for row in _bar_rows(measures, masked, heads)], ""]
    aps = {m["seed"]: m["box_AP"] for m in measures}
    lines.append(
        f"Box AP of the {len(aps)} detectors: {', '.join(f'{ap:.1f}' for ap in aps.values())}."
    )
    return "\n".join(lines)


def _line(measures: list[Measure], masked: int, head: str, plain: str) -> str:
    shown = head.removeprefix(plain).removeprefix(", ") or "plain"
    cells = _cells(measures, masked, head)
    difference = None if head == plain else paired(measures, masked, head, plain, "iou")
    points = "" if difference is None else str(_points(difference))
    closed = [] if head in reference(head) else gap_closed(measures, masked, head)
    share = f"{spread([100 * v for v in closed], 0)} %" if closed else ""
    front, runs = cells.rsplit(" | ", 1)
    return f"| {shown} | {front} | {points} | {share} | {runs} |"


def _points(difference: Difference) -> Difference:
    return Difference(
        100 * difference.mean, None if difference.half is None else 100 * difference.half
    )


def _cells(measures: list[Measure], masked: int, head: str) -> str:
    rows = of(measures, masked=masked, head=head)
    if not rows:
        return "not run | | | | 0"
    cells = [
        spread([m[key][name] for m in rows], digits)
        for key, digits in (("iou", 3), ("mask_AP", 1))
        for name in "BA"
    ]
    return " | ".join([*cells, str(len(rows))])


def _summary_line(row: Row) -> str:
    if row["value"] is None:
        return f"- {row['name']}: not measured."
    return f"- {row['name']}: {100 * row['value']:.0f} %."
