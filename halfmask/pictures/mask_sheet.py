"""A sheet of masks, beside their truth where it is known.

Each cell shows one object, cut out of its photograph. Cells stand in blocks: the best,
median and worst masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.pictures.style import Colour, font

BLOCKS = ("best", "median", "worst")
CELL = 232
"""Side of a cell, pixels."""
COLUMNS, FEWEST_COLUMNS = 8, 4
"""Most cells in a row, and the least width of a sheet in cells, for heading and legend."""
CONTEXT = 0.25
"""Margin shown around the box, as a share of its longer side."""
LEAST = 24
"""Least side of the part of the photograph that is shown, pixels; tiny objects need context."""

MASK: Colour = (255, 46, 150)
TRUTH: Colour = (255, 255, 255)
BOX: Colour = (255, 221, 64)
INK: Colour = (12, 14, 18)
TEXT, FAINT = (34, 38, 44), (104, 112, 122)
FILL, SMOOTH = 0.4, 0.4
FINE = 2
"""Cells are drawn this many times larger, then reduced, which smooths every line."""
SCORE = "score: the model's own estimate of the IoU"
GAP, MARGIN, TITLE, HEADING, CAPTION = 10, 22, 74, 42, 48

Window = tuple[int, int, int, int]
Lines = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One object of a sheet.

    Attributes:
        picture: The output of `mask_cell`.
        name: The name of its class.
        iou: IoU of mask and truth, None where the truth is unknown.
        score: The model's own estimate of the IoU.
        boundary: Boundary IoU of mask and truth, None where it is not measured.
    """

    picture: Image.Image
    name: str
    iou: float | None
    score: float
    boundary: float | None = None

    @property
    def agreement(self) -> str:
        """How well mask and truth agree, as text; empty where the truth is unknown."""
        shown = {"IoU": self.iou, "boundary": self.boundary}
        return ", ".join(f"{name} {v:.2f}" for name, v in shown.items() if v is not None)


def best_median_worst(
    rows: Sequence[int], values: Sequence[float], each: int = 8
) -> dict[str, list[int]]:
    """Chooses rows with the highest, median and lowest values, no row twice.

    Fewer than 3 · `each` rows are divided equally; the best get the first remaining
    row, the worst the second.

    Args:
        rows: Indices into `values` to choose from.
        values: For example each mask's IoU.
        each: Most rows in a block.
    Returns:
        `best` (highest first), `median` (descending) and `worst` (lowest first).
    """
    rows = sorted(rows, key=lambda k: -values[k])
    best, worst, middle = (min(each, (len(rows) + extra) // 3) for extra in (2, 1, 0))
    start = max(best, min((len(rows) - middle) // 2, len(rows) - worst - middle))
    return {
        "best": rows[:best],
        "median": rows[start : start + middle],
        "worst": rows[len(rows) - worst :][::-1],
    }


def mask_cell(
    image: NDArray[np.uint8],
    box: Tensor,
    *,
    mask: MaskCrops,
    truth: MaskCrops | None = None,
    side: int = CELL,
) -> Image.Image:
    """Draws one object: the model's mask, the truth as a white line, and the given box.

    Args:
        image: uint8 [H, W, 3] RGB, the whole photograph.
        box: float32 [4] xyxy, the box that the model was given. It may reach beyond the
            photograph.
        mask: The model's mask, one crop. One without pixels draws nothing.
        truth: The true mask, one crop.
        side: Longer side of the picture, pixels. Small objects are enlarged.
    """
    assert len(mask) == 1, len(mask)
    assert truth is None or len(truth) == 1, truth
    window = _window(box.tolist(), (image.shape[0], image.shape[1]))
    x0, y0, x1, y1 = window
    scale = side / max(x1 - x0, y1 - y0)
    small = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
    size = (small[0] * FINE, small[1] * FINE)
    shown = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1]))
    picture = shown.resize(size, Image.Resampling.BICUBIC)
    starts = (x0, y0, x0, y0)
    corners = [(v - low) * scale * FINE for v, low in zip(box.tolist(), starts, strict=True)]
    drawn = _enlarged(mask, window, size)
    _tint(picture, np.asarray(drawn) > 0, MASK, opacity=FILL)
    _draw_contour(picture, drawn, MASK, reach=4)
    _draw_box(picture, corners)
    if truth is not None:
        _draw_contour(picture, _enlarged(truth, window, size), TRUTH, reach=1)
    return picture.resize(small, Image.Resampling.BOX)


def mask_sheet(
    blocks: Sequence[tuple[str, Sequence[Cell]]], title: str, note: str = ""
) -> Image.Image:
    """Draws blocks of cells below each other, under a title and a legend of colours.

    Args:
        blocks: Heading and cells of each. Blocks without cells are left out; at least
            one has cells.
        title: Says which masks these are.
        note: Says whose masks these are, fainter and on the right.
    """
    filled = [(heading, cells) for heading, cells in blocks if cells]
    assert filled, "a sheet needs a cell"
    columns = min(COLUMNS, max(FEWEST_COLUMNS, *(len(cells) for _, cells in filled)))
    rows = [-(-len(cells) // columns) for _, cells in filled]
    width = 2 * MARGIN + columns * (CELL + GAP) - GAP
    height = TITLE + sum(HEADING + n * (CELL + CAPTION) for n in rows) + MARGIN // 2
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    with_truth = any(cell.iou is not None for _, cells in filled for cell in cells)
    _draw_title(sheet, title, note, with_truth=with_truth)
    y = TITLE
    for (heading, cells), n in zip(filled, rows, strict=True):
        _draw_block(sheet, y, heading, cells=cells, columns=columns)
        y += HEADING + n * (CELL + CAPTION)
    return sheet


def _window(box: Sequence[float], image_size: tuple[int, int]) -> Window:
    """A square around the box with its context, moved onto the photograph and cut to it."""
    height, width = image_size
    side = max((1 + 2 * CONTEXT) * max(box[2] - box[0], box[3] - box[1]), LEAST)
    spans = []
    for low, high, length in ((box[0], box[2], width), (box[1], box[3], height)):
        size = min(max(1, round(side)), length)
        start = min(max(0, round((low + high - size) / 2)), length - size)
        spans.append((start, start + size))
    (x0, x1), (y0, y1) = spans
    return x0, y0, x1, y1


def _enlarged(mask: MaskCrops, window: Window, size: tuple[int, int]) -> Image.Image:
    """The mask in the window's pixels, enlarged without stairs: 255 inside, 0 outside."""
    x0, y0, x1, y1 = window
    canvas = Image.new("L", (x1 - x0, y1 - y0))
    bitmap, (x, y) = mask.bitmaps()[0], mask.offsets[0].tolist()
    if bitmap.numel():
        canvas.paste(Image.fromarray(bitmap.numpy() * np.uint8(255)), (int(x) - x0, int(y) - y0))
    large = canvas.resize(size, Image.Resampling.BICUBIC)
    # Less than half a pixel of the photograph rounds the corners of its pixels and
    # keeps lines of one pixel.
    large = large.filter(ImageFilter.GaussianBlur(SMOOTH * size[0] / (x1 - x0)))
    return large.point(lambda v: 255 if v >= 128 else 0)


def _draw_box(picture: Image.Image, corners: Sequence[float]) -> None:
    draw = ImageDraw.Draw(picture)
    # Whole pixels of the reduced picture make all sides equally bright. Sides at the
    # photograph's edge move inside, or they would be invisible.
    x0, y0, x1, y1 = (FINE * round(v / FINE) for v in corners)
    x0, y0 = max(FINE, x0), max(FINE, y0)
    x1 = max(x0 + FINE, min(picture.width - FINE, x1))
    y1 = max(y0 + FINE, min(picture.height - FINE, y1))
    draw.rectangle((x0 - 1, y0 - 1, x1, y1), outline=INK, width=FINE + 2)
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=BOX, width=FINE)


def _draw_contour(picture: Image.Image, mask: Image.Image, colour: Colour, *, reach: int) -> None:
    """Draws a line `reach` pixels to both sides of the edge, on a darker, wider one."""
    _tint(picture, contour(mask, reach + 1), INK, opacity=0.85)
    _tint(picture, contour(mask, reach), colour, opacity=1.0)


def contour(mask: Image.Image, reach: int) -> Lines:
    """Pixels near the mask's edge. The picture's border is no edge: filters repeat it.

    The mean of a square is 0 or 255 only where all of it is: what its largest and its
    smallest value say, too, at a cost that grows with the square.
    """
    assert reach <= 5, reach  # of larger squares, one pixel's share rounds to nothing
    mean = np.asarray(mask.filter(ImageFilter.BoxBlur(reach)))
    band: Lines = (mean > 0) & (mean < 255)
    return band


def _tint(picture: Image.Image, where: Lines, colour: Colour, *, opacity: float) -> None:
    picture.paste(colour, (0, 0), Image.fromarray((where * opacity * 255).astype(np.uint8)))


def _draw_title(sheet: Image.Image, title: str, note: str, *, with_truth: bool) -> None:
    draw = ImageDraw.Draw(sheet)
    whole = sheet.width - 2 * MARGIN
    fitting = (size for size in range(19, 13, -1) if font(size).getlength(title) <= whole)
    size = next(fitting, 14)
    draw.text((MARGIN, 16), _fitted(title, size, whole), fill=TEXT, font=font(size))
    x = float(MARGIN)
    for sample, text in _legend(with_truth):
        sheet.paste(sample, (round(x), 46))
        x += sample.width + 7
        draw.text((x, 46), text, fill=TEXT, font=font(14))
        x += font(14).getlength(text) + 22
    draw.text((x, 46), SCORE, fill=TEXT, font=font(14))
    x += font(14).getlength(SCORE) + 22
    room = sheet.width - MARGIN - x
    if note and room > 80:
        shown = _fitted(note, 13, room)
        left = sheet.width - MARGIN - font(13).getlength(shown)
        draw.text((left, 47), shown, fill=FAINT, font=font(13))


def _legend(with_truth: bool) -> list[tuple[Image.Image, str]]:
    """A sample of each mark, drawn as in the cells, and its meaning."""
    samples = []
    for kind, text in (("mask", "model's mask"), ("truth", "truth"), ("box", "given box")):
        if kind == "truth" and not with_truth:
            continue
        picture = Image.new("RGB", (32 * FINE, 20 * FINE), (126, 132, 138))
        shape = Image.new("L", picture.size)
        frame = (5 * FINE, 4 * FINE, 27 * FINE, 16 * FINE)
        ImageDraw.Draw(shape).ellipse(frame, fill=255)
        if kind == "mask":
            _tint(picture, np.asarray(shape) > 0, MASK, opacity=FILL)
            _draw_contour(picture, shape, MASK, reach=4)
        elif kind == "truth":
            _draw_contour(picture, shape, TRUTH, reach=1)
        else:
            _draw_box(picture, frame)
        samples.append((picture.resize((32, 20), Image.Resampling.BOX), text))
    return samples


def _draw_block(
    sheet: Image.Image, y: int, heading: str, *, cells: Sequence[Cell], columns: int
) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.line((MARGIN, y + 6, sheet.width - MARGIN, y + 6), fill=(214, 218, 223), width=1)
    draw.text((MARGIN, y + 13), heading, fill=TEXT, font=font(17))
    y += HEADING
    for k, cell in enumerate(cells):
        left, top = MARGIN + k % columns * (CELL + GAP), y + k // columns * (CELL + CAPTION)
        draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=(238, 240, 243))
        spare = CELL - cell.picture.width, CELL - cell.picture.height
        sheet.paste(cell.picture, (left + spare[0] // 2, top + spare[1] // 2))
        draw.text((left, top + CELL + 4), _fitted(cell.name, 14, CELL), fill=TEXT, font=font(14))
        numbers = " · ".join([*filter(None, [cell.agreement]), f"score {cell.score:.2f}"])
        numbers = _fitted(numbers, 12, CELL)
        draw.text((left, top + CELL + 24), numbers, fill=FAINT, font=font(12))


def _fitted(text: str, size: int, width: float) -> str:
    """The text, cut off with … where it is wider than `width` pixels."""
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
