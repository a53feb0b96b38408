"""Rows and table of a benchmark that stands beside another library."""

from __future__ import annotations

from benchmarks.result import Row


def peer_row(
    name: str,
    value: float,
    unit: str,
    peer: tuple[str, float] | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """A row of `bench --json`; `peer`: another's name and value; one of the two bars, or none."""
    bar = at_most if at_least is None else at_least
    met = None if bar is None else (value <= bar if at_least is None else value >= bar)
    return {
        "name": name,
        "peer": None if peer is None else peer[0],
        "peer_value": None if peer is None else peer[1],
        "value": value,
        "unit": unit,
        "ratio": value / peer[1] if peer is not None and peer[1] else None,
        "bar": bar,
        "ok": met,
    }


def peer_table(rows: list[Row], library: str, note: str) -> str:
    """Returns a Markdown table with a row per measurement: halfmask beside the library."""
    lines = [f"| | halfmask | {library} |", "|---|---|---|"]
    for row in rows:
        peer = "–" if row["peer_value"] is None else f"{_short(row['peer_value'])} {row['unit']}"
        lines.append(f"| {row['name']} | {_short(row['value'])} {row['unit']} | {peer} |")
    return "\n".join([*lines, "", note])


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
