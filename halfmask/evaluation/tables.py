"""An evaluation as tables for the terminal."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from halfmask.evaluation.measures.average_precision import AP_KEYS
from halfmask.pictures.sets import ALL, about_sets, by_groups, shown_sets
from halfmask.terminal import PlainConsole, PlainTable

IOU_KEYS = ("miou", "miou_per_category_mean", "S", "M", "L", "polygon", "rle")
IOU_HEADS = ("instances", "mean", "class mean", "S", "M", "L", "polygon", "RLE")
QUALITY_HEADS = (
    *("mean score", "mean IoU", "rank correlation", "calibration error"),
    *("IoU < 0.5", "of these in the worst 20 %"),
)


def table(result: dict[str, Any], per_category: bool = False, width: int = 100) -> str:
    """Formats the result of `halfmask evaluate` as text.

    AP is in percent, IoU in [0, 1]; a dash is a value that cannot be computed.

    Args:
        result: The JSON of `halfmask evaluate --json`.
        per_category: Whether to add a line for each class that has a value.
        width: Columns of the terminal.
    """
    parts: list[Table] = []
    if any(result[kind]["all"]["AP"] is not None for kind in ("box", "mask")):
        parts.append(_ap_table(result))
    if result["given_boxes"]["all"]["instances"]:
        parts += [*_iou_tables(result), _quality_table(result)]
    if "provider" in result:
        provider = result | result["provider"]
        parts += _iou_tables(provider, ", the provider")
        parts.append(_quality_table(provider, "The provider"))
    if result["ambiguous"]["all"]["instances"]:
        parts.append(_ambiguous_table(result))
    if per_category:
        parts.append(_category_table(result))
    console = PlainConsole(file=io.StringIO(), width=width, color_system=None)
    console.print(Group(*parts) if parts else "nothing was measured")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    if parts:
        about = about_sets(result, result["model"] or "the model")
        text += textwrap.fill(about, width) + "\n"
    if "protocol" in result:
        text += textwrap.fill(_about_protocol(result["protocol"]), width) + "\n"
    if "provider" in result:
        text += f"provider: {result['provider']['model']}, {result['provider']['seconds']:.1f} s\n"
    name = f"{result['model']}: " if result["model"] else ""
    return f"{text}{name}{_last_line(result)}"


def _about_protocol(rules: dict[str, Any]) -> str:
    """Says which rules AP has, where they are not COCO's alone."""
    parts = []
    if rules["name"] == "lvis":
        parts.append(
            "AP by LVIS's rules (neg_category_ids, not_exhaustive_category_ids; the best "
            f"{rules['limit']} detections of an image)."
        )
        for kind in ("box", "mask", "boundary"):
            values = [f"{key} {_number(v, '.1f')}" for key, v in rules.get(kind, {}).items()]
            parts += [f"{kind.capitalize()} {', '.join(values)}."] if values else []
        if rules["images_without_lists"]:
            parts.append(
                f"{rules['images_without_lists']} images have neither list: only the classes of "
                "their own truth count there."
            )
        if rules["unreadable_lists"]:
            parts.append(
                f"{rules['unreadable_lists']} images have a list that is none of category ids: "
                "what is not one does not count."
            )
    if rules.get("ignored"):
        parts.append(
            f"Regions to ignore, where no detection is wrong: {', '.join(rules['ignored'])} "
            "(--ignored none: count them as any class)."
        )
    return " ".join(parts)


def _last_line(result: dict[str, Any]) -> str:
    line = f"{result['images']} images, {result['seconds']:.1f} s, halfmask {result['version']}"
    if "loosen" in result:
        line += f", given boxes moved by up to {result['loosen']:g} of their size"
    if result.get("boxes") == "loose":
        line += ", read as loose boxes"
    return line


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    """An empty table with columns of names and, aligned right, of numbers."""
    out = PlainTable(title=title, title_justify="left")
    for name in names:
        out.add_column(name, no_wrap=True)
    for name in numbers:
        out.add_column(name, justify="right")
    return out


def _ap_table(result: dict[str, Any]) -> Table:
    out = _table("Average precision, percent", ("", "classes"), (*AP_KEYS, "of box AP"))
    for kind in ("box", "mask", "boundary"):
        for title, measures in shown_sets(result).items():
            cells = [_number(measures[kind][key], ".1f") for key in AP_KEYS]
            cells.append(_number(measures["mask_over_box"], ".0%") if kind == "mask" else "")
            out.add_row(kind, title, *cells, end_section=title == ALL)
    return out


def _iou_tables(result: dict[str, Any], whose: str = "") -> list[Table]:
    """IoU of the masks, and of the bands along their borders, of the same objects."""
    tables = []
    for kind in ("Mask", "Boundary"):
        out = _table(f"{kind} IoU on given boxes{whose}", ("classes",), IOU_HEADS)
        for title, measures in shown_sets(result).items():
            block = measures["given_boxes"]
            values = block if kind == "Mask" else block["boundary"]
            cells = [_number(values[key], ".3f") for key in IOU_KEYS]
            out.add_row(title, str(block["instances"]), *cells)
        tables.append(out)
    return tables


def _quality_table(result: dict[str, Any], whose: str = "The model") -> Table:
    out = _table(f"{whose}'s own score of these masks", ("classes",), QUALITY_HEADS)
    for title, measures in shown_sets(result).items():
        block = measures["quality"]
        keys = ("mean_score", "miou", "spearman", "calibration_error")
        cells = [_number(block[key], ".3f") for key in keys]
        shares = [_number(block[key], ".0%") for key in ("bad", "bad_found")]
        out.add_row(title, *cells, *shares)
    return out


def _ambiguous_table(result: dict[str, Any]) -> Table:
    heads = ("instances", "mean IoU", "told apart", "same box", "mean IoU", "told apart")
    out = _table("Boxes shared with an object of another class", ("classes",), heads)
    for title, measures in shown_sets(result).items():
        near = measures["ambiguous"]
        cells = []
        for block in (near, near["same_box"]):
            shares = _number(block["miou"], ".3f"), _number(block["told_apart"], ".0%")
            cells += [str(block["instances"]), *shares]
        out.add_row(title, *cells)
    return out


def _category_table(result: dict[str, Any]) -> Table:
    rows = result["per_category"]
    with_sets = not by_groups(result) and len({row["masked"] for row in rows}) > 1
    columns = {
        "masks in training": ("masks_in_training", ","),
        "box AP": ("box_AP", ".1f"),
        "mask AP": ("mask_AP", ".1f"),
        "boundary AP": ("boundary_AP", ".1f"),
        "mask IoU": ("miou", ".3f"),
        "boundary IoU": ("boundary_iou", ".3f"),
    }
    for head, (key, _) in list(columns.items()):
        if all(row[key] is None for row in rows):
            del columns[head]
    out = _table("Classes", ("class", *(("set",) if with_sets else ())), tuple(columns))
    for row in rows:
        if any(row[key] is not None for key, _ in columns.values() if key != "masks_in_training"):
            sets = ["A" if row["masked"] else "B"] if with_sets else []
            cells = [_number(row[key], form) for key, form in columns.values()]
            out.add_row(row["name"], *sets, *cells)
    return out


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
