"""An evaluation as tables for the terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, Group
from rich.table import Table

from halfmask.evaluation.measures.average_precision import AP_KEYS

SETS = ("A", "B", "all")
SET_NAMES = {"A": "A (had masks)", "B": "B (boxes only)", "all": "all"}
IOU_KEYS = ("miou", "miou_per_category_mean", "S", "M", "L", "polygon", "rle")
IOU_HEADS = ("mean", "class mean", "S", "M", "L", "polygon", "RLE")


def table(result: dict[str, Any], per_category: bool = False, width: int = 100) -> str:
    """The result of `evaluate` as text: AP in percent, mask IoU in [0, 1], a dash where
    a value cannot be computed.

    Args:
        result: the JSON contract of `halfmask evaluate --json`.
        per_category: also one line for each class that has a value.
        width: columns of the terminal.
    """
    parts: list[Table] = []
    if _measured(result["box"]) or _measured(result["mask"]):
        parts.append(_ap_table(result))
    if result["given_boxes"]["all"]["instances"]:
        parts += [_iou_table(result), _quality_table(result)]
    if "provider" in result:
        parts += [
            _iou_table(result["provider"], "the provider"),
            _quality_table(result["provider"], "The provider"),
        ]
    if result["ambiguous"]["all"]["instances"]:
        parts.append(_ambiguous_table(result))
    if per_category:
        parts.append(_category_table(result))
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(Group(*parts) if parts else "nothing was measured")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    line = f"{result['images']} images, {result['seconds']:.1f} s, halfmask {result['version']}"
    if "loosen" in result:
        line += f", given boxes moved by up to {result['loosen']:g} of their size"
    if result.get("boxes") == "loose":
        line += ", read as loose boxes"
    if "provider" in result:
        text += f"provider: {result['provider']['model']}, {result['provider']['seconds']:.1f} s\n"
    return f"{text}{result['model']}: {line}" if result["model"] else f"{text}{line}"


def _measured(blocks: dict[str, Any]) -> bool:
    return blocks["all"]["AP"] is not None


def _ap_table(result: dict[str, Any]) -> Table:
    out = Table(title="Average precision, percent", title_justify="left")
    out.add_column("")
    out.add_column("classes")
    for key in AP_KEYS:
        out.add_column(key, justify="right")
    out.add_column("of box AP", justify="right")
    for kind in ("box", "mask"):
        for name in SETS:
            block = result[kind][name]
            cells = [_number(block[key], ".1f") for key in AP_KEYS]
            cells.append(_number(result["mask_over_box"][name], ".0%") if kind == "mask" else "")
            out.add_row(kind, SET_NAMES[name], *cells, end_section=name == SETS[-1])
    return out


def _iou_table(result: dict[str, Any], whose: str = "") -> Table:
    out = Table(
        title="Mask IoU on given boxes" + (f", {whose}" if whose else ""), title_justify="left"
    )
    out.add_column("classes")
    out.add_column("instances", justify="right")
    for head in IOU_HEADS:
        out.add_column(head, justify="right")
    for name in SETS:
        block = result["given_boxes"][name]
        cells = [_number(block[key], ".3f") for key in IOU_KEYS]
        out.add_row(SET_NAMES[name], str(block["instances"]), *cells)
    return out


def _quality_table(result: dict[str, Any], whose: str = "The model") -> Table:
    out = Table(title=f"{whose}'s own score of these masks", title_justify="left")
    out.add_column("classes")
    for head in (
        "mean score",
        "mean IoU",
        "rank correlation",
        "calibration error",
        "IoU < 0.5",
        "of these in the worst 20 %",
    ):
        out.add_column(head, justify="right")
    for name in SETS:
        block = result["quality"][name]
        cells = [
            _number(block[key], ".3f")
            for key in ("mean_score", "miou", "spearman", "calibration_error")
        ]
        shares = [_number(block[key], ".0%") for key in ("bad", "bad_found")]
        out.add_row(SET_NAMES[name], *cells, *shares)
    return out


def _ambiguous_table(result: dict[str, Any]) -> Table:
    out = Table(title="Boxes shared with an object of another class", title_justify="left")
    out.add_column("classes")
    for head in ("instances", "mean IoU", "told apart", "same box", "mean IoU", "told apart"):
        out.add_column(head, justify="right")
    for name in SETS:
        near = result["ambiguous"][name]
        cells = [
            cell
            for block in (near, near["same_box"])
            for cell in (
                str(block["instances"]),
                _number(block["miou"], ".3f"),
                _number(block["told_apart"], ".0%"),
            )
        ]
        out.add_row(SET_NAMES[name], *cells)
    return out


def _category_table(result: dict[str, Any]) -> Table:
    out = Table(title="Classes", title_justify="left")
    out.add_column("class")
    out.add_column("set")
    for head in ("box AP", "mask AP", "mask IoU"):
        out.add_column(head, justify="right")
    for row in result["per_category"]:
        values = (row["box_AP"], row["mask_AP"], row["miou"])
        if all(value is None for value in values):
            continue
        cells = [
            _number(row["box_AP"], ".1f"),
            _number(row["mask_AP"], ".1f"),
            _number(row["miou"], ".3f"),
        ]
        out.add_row(row["name"], "A" if row["masked"] else "B", *cells)
    return out


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
