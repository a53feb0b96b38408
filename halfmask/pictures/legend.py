"""Colours by what a model was given of each class, a legend of them, and two pictures."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from PIL import Image, ImageDraw

from halfmask.coco.categories import labels_by_name
from halfmask.coco.doctor.groups import MaskGroup, MaskGroups, MasksGiven
from halfmask.errors import InputError
from halfmask.pictures.style import PALETTE, Colour, font

ColourBy = Literal["class", "supervision"]
"""`class`: a colour for each class. `supervision`: green for classes with masks in
training, red for classes with boxes only, as in the paper's figures.
"""
COLOUR_BY: tuple[str, ...] = get_args(ColourBy)

GREEN, YELLOW, RED = PALETTE[2], PALETTE[3], PALETTE[5]
GREY: Colour = (170, 176, 184)
COLOURS: dict[MaskGroup, Colour] = {"no_masks": RED, "few": YELLOW, "many": GREEN}
IN_A, IN_B = "A: masks in training", "B: boxes only"
NOT_RECORDED, NO_CLASS = "masks not recorded", "no class"
UNKNOWN = "class not known to the model"
_ORDER = (GREEN, YELLOW, RED, GREY)
STRIP, INK, PAPER = (24, 26, 29), (214, 217, 221), (255, 255, 255)

Entry = tuple[Colour, str]
"""A colour and what it stands for."""


@dataclass(frozen=True)
class SupervisionColours:
    """The colours of a model's classes by what it was given of them in training.

    Attributes:
        of_label: label → colour; label 0 (no class) is grey.
        entries: of the legend, classes with most masks first.
    """

    of_label: Mapping[int, Colour]
    entries: tuple[Entry, ...]


def supervision_colours(
    categories: Sequence[Mapping[str, Any]],
    given: MasksGiven | None,
    masked: Container[str],
    *,
    name: str = "the model",
) -> SupervisionColours:
    """Chooses a colour for each class: green for set A, red for set B.

    Where the model knows how many masks it was given, a class with few is yellow.
    Classes are matched by name, as `labels_by_name` does; the model was given no masks
    of a class that it does not know.

    Args:
        categories: label i + 1 is categories[i], each with a name.
        given: the masks that the model was given of each class; None: a model without
            a checkpoint.
        masked: names of the classes that had masks in training (set A).
        name: of the model, in errors.
    Raises:
        InputError: the model does not know which classes had masks.
    """
    known = {} if given is None else given.by_name
    if given is None or not any(n is not None or k in masked for k, n in known.items()):
        raise InputError(
            f"cannot colour by supervision: {name} does not know which classes had masks in "
            "training (set A); colour by class, or use a checkpoint that halfmask trained or "
            "imported"
        )
    own = list(given.by_name)
    names = [str(c["name"]) for c in categories]
    found = labels_by_name(names, {known: k for k, known in enumerate(own, 1)})
    names = [own[k - 1] if k else name for k, name in zip(found, names, strict=True)]
    groups = given.groups_of({"id": k, "name": known} for k, known in enumerate(names, 1))
    entries = {
        k: _entry(known, k, groups=groups, masked=masked, own=own)
        for k, known in enumerate(names, 1)
    }
    shown = sorted(set(entries.values()), key=lambda e: (_ORDER.index(e[0]), e[1]))
    return SupervisionColours({0: GREY} | {k: e[0] for k, e in entries.items()}, tuple(shown))


def _entry(
    name: str, label: int, *, groups: MaskGroups | None, masked: Container[str], own: Container[str]
) -> Entry:
    """The colour of a class and what it stands for; sets A and B where no number is known."""
    group = "not_recorded" if groups is None else groups.group_of(label)
    if groups is not None and group != "not_recorded":
        return COLOURS[group], f"{groups.title(group)} in training"
    if name in masked:
        return GREEN, IN_A
    if groups is not None:
        return GREY, NOT_RECORDED
    return (RED, IN_B) if name in own else (GREY, UNKNOWN)


def with_legend(picture: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    """Adds a strip below a picture, with a square of each colour and its meaning.

    Entries that do not fit on a line go on the next; a picture that is narrower than
    an entry gets a margin at its right.
    """
    size = max(12, round(max(picture.size) / 48))
    face, margin = font(size), round(0.7 * size)
    widths = [1.5 * size + face.getlength(text) for _, text in entries]
    width = max(picture.width, round(max(widths, default=0)) + 2 * margin)
    x, line, places = float(margin), 0, []
    for entry in widths:
        if x > margin and x + entry > width - margin:
            x, line = float(margin), line + 1
        places.append((x, size * (0.4 + 1.5 * line)))
        x += entry + 1.2 * size
    out = Image.new("RGB", (width, picture.height + round(size * (1.5 * line + 2.0))), STRIP)
    out.paste(picture, (0, 0))
    draw = ImageDraw.Draw(out)
    for (colour, text), (left, top) in zip(entries, places, strict=True):
        y = picture.height + top
        draw.rectangle((left, y, left + size, y + size), fill=colour)
        draw.text((left + 1.5 * size, y + size / 2), text, fill=INK, font=face, anchor="lm")
    return out


def side_by_side(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Draws pictures beside each other, each below its title.

    Args:
        panels: titles and pictures; a title wider than its picture widens the panel.
    """
    longest = max(max(picture.size) for _, picture in panels)
    size, gap = max(12, round(longest / 40)), max(4, round(longest / 120))
    face, head = font(size), round(1.9 * size)
    lengths = [round(face.getlength(title) + size) for title, _ in panels]
    widths = [max(p.width, n) for (_, p), n in zip(panels, lengths, strict=True)]
    height = head + max(picture.height for _, picture in panels)
    out = Image.new("RGB", (sum(widths) + gap * (len(panels) - 1), height), PAPER)
    draw, x = ImageDraw.Draw(out), 0
    for (title, picture), width in zip(panels, widths, strict=True):
        draw.rectangle((x, 0, x + width - 1, head - 1), fill=STRIP)
        draw.text((x + size / 2, head / 2), title, fill=INK, font=face, anchor="lm")
        out.paste(picture, (x, head))
        x += width + gap
    return out


def attribution_of(image: Mapping[str, object], licenses: list[dict[str, object]]) -> str | None:
    """Names source and licence of a COCO image; None where the file has neither."""
    source = str(image.get("flickr_url") or image.get("coco_url") or "")
    known = {
        entry.get("id"): str(entry.get("url") or entry.get("name") or "") for entry in licenses
    }
    licence = known.get(image.get("license"), "")
    for scheme in ("https://", "http://", "www."):
        source, licence = source.removeprefix(scheme), licence.removeprefix(scheme)
    parts = [f"Photo: {source}"] if source else []
    parts += [f"Licence: {licence.rstrip('/')}"] if licence else []
    return " · ".join([*parts, "drawn on by halfmask"]) if parts else None
