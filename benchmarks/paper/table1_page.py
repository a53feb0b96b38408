"""Table 1's rows as numbers: means, spread, paired differences with their intervals,
Figure 3's gain.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.paper.world_table import AGNOSTIC, ORACLE, Measure, of
from benchmarks.result import Row

# Student's t, two-sided 95 %, by degrees of freedom from 1 on; beyond the last the
# normal's.
T_95 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)
NORMAL_95 = 1.960


@dataclass(frozen=True)
class Difference:
    """A mean over seeds with its 95 % interval, `mean ± half`; half is None for one seed."""

    mean: float
    half: float | None

    @property
    def sure(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.half is not None and abs(self.mean) > self.half

    def __str__(self) -> str:
        return f"{self.mean:+.1f}" if self.half is None else f"{self.mean:+.1f} ± {self.half:.1f}"


Parts = dict[str, tuple[str, list[tuple[str, str]], str]]
"""Part of Table 1 → its title, its rows (shown name, head) and the head that the others
are held against.
"""


def table_rows(own: str) -> Parts:
    """The parts of Table 1 by names of HEADS and END_TO_END.

    Args:
        own: the recipe's own mask head, which the parts b, c and d build on.
    """
    inputs = ["T(random)", "T(names)", "T(cls)", "T(box)", "T(cls+box)"]
    a = [(head, head) for head in (*inputs, AGNOSTIC, ORACLE)]
    b = [(head.replace("T", own, 1), head) for head in ("T, 1 layer", "T, 2 layers, ReLU")]
    b += [(f"{own}, 2 layers, LeakyReLU", own)]
    b += [
        (head.replace("T", own, 1), head)
        for head in ("T, 3 layers, ReLU", "T, 3 layers, LeakyReLU")
    ]
    c = [(head, head) for head in (AGNOSTIC, "class-agnostic + light MLP", "class-agnostic + MLP")]
    c += [(own, own), (f"{own} + light MLP", "T + light MLP"), (f"{own} + MLP", "T + MLP")]
    d = [(f"{AGNOSTIC}, stage-wise", AGNOSTIC), (f"{own}, stage-wise", own)]
    d += [
        (head.replace("T", own, 1), head)
        for head in ("class-agnostic, end to end", "T, end to end")
    ]
    d += [(f"{own}, end to end, stop-gradient", "T, end to end, stop-gradient")]
    return {
        "a": ("what T reads", a, AGNOSTIC),
        "b": ("the structure of T", b, own),
        "c": ("the MLP branch", c, AGNOSTIC),
        "d": ("how it is trained", d, AGNOSTIC),
    }


def paired(
    measures: list[Measure], masked: int, head: str, against: str, what: str = "mask_AP"
) -> Difference | None:
    """head − against on B, on the splits that both have; the mean of each seed counts
    once, since its splits share a detector.
    """
    by_seed: dict[int, list[float]] = {}
    for m in of(measures, masked=masked, head=head):
        for other in of(measures, masked=masked, head=against, seed=m["seed"], split=m["split"]):
            by_seed.setdefault(m["seed"], []).append(m[what]["B"] - other[what]["B"])
    means = [statistics.fmean(values) for values in by_seed.values()]
    if not means:
        return None
    if len(means) == 1:
        return Difference(means[0], None)
    quantile = T_95[len(means) - 2] if len(means) - 2 < len(T_95) else NORMAL_95
    return Difference(
        statistics.fmean(means), quantile * statistics.stdev(means) / len(means) ** 0.5
    )


def table1_markdown(measures: list[Measure], masked: int, parts: Parts) -> str:
    """Tables 1a to 1d in Markdown: mean ± standard deviation over seeds × splits, then
    the paired difference on B.
    """
    lines = []
    for part, (title, rows, against) in parts.items():
        lines += [
            f"**1{part}: {title}** (|A| = {masked}; difference to *{against}* on the same "
            "seeds and splits, 95 % interval over seeds)",
            "",
            "| | mask AP, B | mask AP, A | mask IoU, B | mask IoU, A | difference, AP on B | "
            "runs |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_line(measures, masked, shown, head, against) for shown, head in rows]
        lines.append("")
    aps = {
        m["seed"]: m["box_AP"]
        for m in measures
        if "end to end" not in m["head"] and "e2e" not in m["head"]
    }
    lines.append(
        f"Box AP of the {len(aps)} detectors: {', '.join(f'{ap:.1f}' for ap in aps.values())}."
    )
    return "\n".join(lines)


def _line(measures: list[Measure], masked: int, shown: str, head: str, against: str) -> str:
    rows = of(measures, masked=masked, head=head)
    if not rows:
        return f"| {shown} | not run | | | | | 0 |"
    cells = [
        spread([m[key][name] for m in rows], digits)
        for key, digits in (("mask_AP", 1), ("iou", 3))
        for name in "BA"
    ]
    difference = None if head == against else paired(measures, masked, head, against)
    return (
        f"| {shown} | "
        + " | ".join([*cells, "" if difference is None else str(difference), str(len(rows))])
        + " |"
    )


def spread(values: Iterable[float], digits: int) -> str:
    """mean ± standard deviation; of one value the value alone."""
    listed = list(values)
    deviation = f" ± {statistics.stdev(listed):.{digits}f}" if len(listed) > 1 else ""
    return f"{statistics.fmean(listed):.{digits}f}{deviation}"


def gain_points(measures: list[Measure], own: str) -> dict[int, list[float]]:
    """|A| → for each seed and split, mask AP on B of T divided by that of
    class-agnostic, minus 1 (Figure 3).
    """
    points: dict[int, list[float]] = {}
    for m in of(measures, head=own):
        low = of(measures, head=AGNOSTIC, masked=m["masked"], seed=m["seed"], split=m["split"])
        if low and low[0]["mask_AP"]["B"] > 0:
            points.setdefault(m["masked"], []).append(
                m["mask_AP"]["B"] / low[0]["mask_AP"]["B"] - 1
            )
    return dict(sorted(points.items()))


def gain_rows(measures: list[Measure], masked: int, own: str) -> list[Row]:
    """Rows of `bench --json`. The bar: the best input of T is ahead of class-agnostic
    on B, and the 95 % interval leaves zero out.
    """
    inputs = sorted(
        {m["head"] for m in measures if m["head"] in ("T(cls)", "T(box)", "T(cls+box)")}
    )
    found = {head: paired(measures, masked, head, AGNOSTIC) for head in inputs}
    known = {head: d for head, d in found.items() if d is not None}
    best = max(known, key=lambda head: known[head].mean)
    rows = []
    for name, difference in known.items():
        b, low = (
            statistics.fmean(m["mask_AP"]["B"] for m in of(measures, masked=masked, head=h))
            for h in (name, AGNOSTIC)
        )
        row: Row = {
            "name": f"mask AP on B, {name}, |A| = {masked}, ahead by {difference}",
            "peer": AGNOSTIC,
            "peer_value": low,
        }
        bar = low if name == best else None
        ok = None if bar is None else difference.sure and difference.mean > 0
        rows.append(
            row
            | {"value": b, "unit": "AP", "ratio": b / low if low else None, "bar": bar, "ok": ok}
        )
    gains = {size: statistics.fmean(values) for size, values in gain_points(measures, own).items()}
    for size, gain in gains.items():
        name = f"relative gain of {own} on B, |A| = {size}"
        row = {
            "name": name,
            "peer": None,
            "peer_value": None,
            "value": gain,
            "unit": "share of AP",
            "ratio": None,
        }
        rows.append(row | {"bar": None, "ok": None})
    return rows
