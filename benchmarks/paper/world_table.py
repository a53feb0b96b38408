"""The procedural world's results as numbers: means over seeds and splits, the gap that
is closed, the bars, a markdown table.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Measure = dict[str, Any]
"""One head on one seed and split: seed, split, masked (|A|), head, box_AP, mask_AP {A,
B, all}, iou {A, B}, loss.
"""

AGNOSTIC, ORACLE = "class-agnostic", "oracle"
GAP_BARS = {0.5: 0.45, 0.75: 0.60}
"""Share of the classes that are masked → share of the IoU gap on B that the best input
has to close.
"""
BOX_BAR = 50.0
A_BAR = 3.0


def of(measures: Iterable[Measure], **wanted: Any) -> list[Measure]:
    """The measures with these values."""
    return [m for m in measures if all(m[key] == value for key, value in wanted.items())]


def gap_closed(measures: list[Measure], masked: int, head: str) -> list[float]:
    """For each seed and split: how far the head's IoU on B lies from class-agnostic (0)
    to oracle (1).
    """
    out = []
    for m in of(measures, masked=masked, head=head):
        low, high = (_same_split(measures, m, other)["iou"]["B"] for other in (AGNOSTIC, ORACLE))
        out.append((m["iou"]["B"] - low) / (high - low))
    return out


def ordered(measures: list[Measure], masked: int, head: str) -> tuple[int, int]:
    """In how many splits class-agnostic < head < oracle, in mask AP and in IoU on B;
    and of how many.
    """
    rows = of(measures, masked=masked, head=head)
    good = 0
    for m in rows:
        low, high = _same_split(measures, m, AGNOSTIC), _same_split(measures, m, ORACLE)
        in_ap = low["mask_AP"]["B"] < m["mask_AP"]["B"] < high["mask_AP"]["B"]
        good += in_ap and low["iou"]["B"] < m["iou"]["B"] < high["iou"]["B"]
    return good, len(rows)


def best_input(measures: list[Measure]) -> str:
    """The transfer head with the largest mean IoU on B over everything measured."""
    heads = {
        str(m["head"]) for m in measures if m["head"].startswith("T(") and m["head"] != "T(random)"
    }
    means = {head: _mean(m["iou"]["B"] for m in of(measures, head=head)) for head in sorted(heads)}
    return max(means, key=means.__getitem__)


def bench_rows(measures: list[Measure], classes: int) -> list[dict[str, Any]]:
    """Rows of the contract of `bench --json`: every bar of the world, met or not."""
    best = best_input(measures)
    box = _mean({m["seed"]: m["box_AP"] for m in measures}.values())
    rows = [_row("box AP, all classes", "", None, box, "AP", BOX_BAR)]
    for masked in sorted({m["masked"] for m in measures}):
        where = f"|A| = {masked} of {classes}"
        for peer in (AGNOSTIC, ORACLE):
            peer_iou = _mean(m["iou"]["B"] for m in of(measures, masked=masked, head=peer))
            iou = _mean(m["iou"]["B"] for m in of(measures, masked=masked, head=best))
            rows.append(_row(f"mask IoU on B, {best}, {where}", peer, peer_iou, iou, "IoU", None))
        bar = GAP_BARS.get(masked / classes)
        closed = _mean(gap_closed(measures, masked, best))
        rows.append(
            _row(
                f"gap to the oracle closed on B, {best}, {where}",
                "",
                None,
                closed,
                "share of IoU",
                bar,
            )
        )
        good, total = ordered(measures, masked, best)
        rows.append(
            _row(
                f"splits with {AGNOSTIC} < {best} < {ORACLE}, {where}",
                "",
                None,
                good / total,
                "share of splits",
                1.0,
            )
        )
        deficit = _mean(
            _same_split(measures, m, ORACLE)["mask_AP"]["A"] - m["mask_AP"]["A"]
            for m in of(measures, masked=masked, head=best)
        )
        rows.append(
            _row(
                f"mask AP on A behind the oracle, {best}, {where}",
                "",
                None,
                deficit,
                "AP",
                A_BAR,
                False,
            )
        )
    return rows


def _row(
    name: str,
    peer: str,
    peer_value: float | None,
    value: float,
    unit: str,
    bar: float | None,
    more: bool = True,
) -> dict[str, Any]:
    ok = None if bar is None else (value >= bar if more else value <= bar)
    ratio = value / peer_value if peer_value else None
    return {
        "name": name,
        "peer": peer or None,
        "peer_value": peer_value,
        "value": value,
        "unit": unit,
        "ratio": ratio,
        "bar": bar,
        "ok": ok,
    }


def markdown(measures: list[Measure], classes: int) -> str:
    """The table for docs/world.md: mean ± standard deviation over seeds × splits."""
    lines = []
    for masked in sorted({m["masked"] for m in measures}):
        rows = of(measures, masked=masked)
        seeds, splits = ({m[key] for m in rows} for key in ("seed", "split"))
        lines += [
            f"**{masked} of {classes} classes have masks** ({len(seeds)} seeds × {len(splits)} "
            "random splits)",
            "",
            "| mask head | mask AP, A | mask AP, B | mask IoU, A | mask IoU, B | gap closed, B "
            "| in order |",
            "|---|---|---|---|---|---|---|",
        ]
        # The oracle runs first and stands last.
        for head in sorted(dict.fromkeys(m["head"] for m in rows), key=lambda h: h == ORACLE):
            lines.append(_line(measures, masked, head))
        lines.append("")
    aps = list({m["seed"]: m["box_AP"] for m in measures}.values())
    lines.append(f"Box AP of the {len(aps)} detectors: {', '.join(f'{ap:.1f}' for ap in aps)}.")
    return "\n".join(lines)


def _line(measures: list[Measure], masked: int, head: str) -> str:
    rows = of(measures, masked=masked, head=head)
    cells = [
        _spread([m[key][name] for m in rows], form)
        for key, form in (("mask_AP", 1), ("iou", 3))
        for name in "AB"
    ]
    closed, order = "", ""
    if head.startswith("T("):
        closed = _spread([100 * v for v in gap_closed(measures, masked, head)], 0) + " %"
        order = "{} of {}".format(*ordered(measures, masked, head))
    return f"| {head} | " + " | ".join([*cells, closed, order]) + " |"


def _spread(values: list[float], digits: int) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{_mean(values):.{digits}f} ± {spread:.{digits}f}"


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _same_split(measures: list[Measure], m: Measure, head: str) -> Measure:
    return of(measures, seed=m["seed"], split=m["split"], masked=m["masked"], head=head)[0]
