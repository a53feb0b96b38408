"""The sheet of masks beside their truth: every mark is there, whatever the object's
size and place.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from halfmask.masks.crops import MaskCrops
from halfmask.pictures.mask_sheet import (
    BOX,
    CAPTION,
    CELL,
    GAP,
    HEADING,
    MASK,
    TRUTH,
    Cell,
    contour,
    mask_cell,
    mask_sheet,
)


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def block(size: tuple[int, int], x: int, y: int, width: int, height: int) -> MaskCrops:
    return MaskCrops.from_bitmaps([torch.ones(height, width, dtype=torch.uint8)], [(x, y)], size)


def nothing(size: tuple[int, int]) -> MaskCrops:
    return MaskCrops.from_bitmaps([torch.zeros(0, 0, dtype=torch.uint8)], [(0, 0)], size)


def count(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    """Pixels of about this colour."""
    return int((np.abs(np.asarray(picture, dtype=int) - colour).max(2) < 25).sum())


def test_mask_truth_and_box_each_have_their_colour() -> None:
    size = (300, 400)
    picture = mask_cell(
        grey(*size),
        torch.tensor([100.0, 100, 200, 180]),
        mask=block(size, 104, 104, 60, 70),
        truth=block(size, 140, 110, 56, 60),
    )
    assert picture.size == (CELL, CELL)
    assert min(count(picture, colour) for colour in (MASK, TRUTH, BOX)) > 150
    pixels = np.asarray(picture, dtype=int)
    scale = CELL / 150
    inside = pixels[round((140 - 65) * scale), round((120 - 75) * scale)]
    np.testing.assert_allclose(inside, 0.6 * 128 + 0.4 * np.array(MASK), atol=3)
    assert (pixels[2, 2] == 128).all(), "a quarter of the box's side around it is left as it was"


def test_nothing_drawn_leaves_the_truth_and_no_truth_the_mask() -> None:
    size, box = (300, 400), torch.tensor([100.0, 100, 200, 180])
    missed = mask_cell(grey(*size), box, mask=nothing(size), truth=block(size, 110, 110, 50, 50))
    assert count(missed, MASK) == 0
    assert count(missed, TRUTH) > 100
    extra = mask_cell(grey(*size), box, mask=block(size, 110, 110, 50, 50), truth=nothing(size))
    assert count(extra, TRUTH) == 0
    assert count(extra, MASK) > 100


def test_the_edge_of_the_photograph_is_no_contour() -> None:
    size = (300, 300)
    picture = mask_cell(
        grey(*size),
        torch.tensor([0.0, 0, 300, 300]),
        mask=block(size, 0, 0, 300, 300),
        truth=block(size, 0, 0, 300, 300),
    )
    assert count(picture, MASK) == count(picture, TRUTH) == 0
    assert count(picture, BOX) > 4 * CELL - 50, "the given box is seen there all the same"


@pytest.mark.parametrize(
    ("size", "box", "shown"),
    [
        ((1000, 1000), [500.0, 500, 503, 502], (CELL, CELL)),  # a speck
        ((1000, 1000), [10.0, 500, 990, 504], (CELL, CELL)),  # thin and long
        ((60, 600), [100.0, 0, 500, 60], (CELL, 23)),  # a photograph narrower than the window
        ((1, 1), [0.0, 0, 1, 1], (CELL, CELL)),
        (
            (400, 400),
            [-30.0, -20, 100, 90],
            (CELL, CELL),
        ),  # a loosened box that leaves the photograph
        ((400, 400), [350.0, 350, 420, 430], (CELL, CELL)),
    ],
)
def test_any_size_and_place(
    size: tuple[int, int], box: list[float], shown: tuple[int, int]
) -> None:
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    truth = block(size, x0, y0, min(size[1], int(box[2])) - x0, min(size[0], int(box[3])) - y0)
    assert mask_cell(grey(*size), torch.tensor(box), mask=truth, truth=truth).size == shown
    picture = mask_cell(grey(*size), torch.tensor(box), mask=nothing(size), truth=nothing(size))
    assert picture.size == shown
    assert count(picture, BOX) > 10


def cells(n: int, name: str = "cup") -> list[Cell]:
    return [
        Cell(picture=Image.new("RGB", (CELL, CELL), (0, 90 + k, 0)), name=name, iou=0.9, score=0.8)
        for k in range(n)
    ]


def test_blocks_below_each_other_eight_in_a_row() -> None:
    sheet = mask_sheet(
        [("best", cells(8)), ("median", cells(8)), ("worst", cells(3))], "a title", "a model"
    )
    pixels = np.asarray(sheet)
    green = (pixels[:, :, 0] == 0) & (pixels[:, :, 2] == 0)
    rows = np.flatnonzero(green.sum(1) > CELL // 2)
    starts = rows[np.flatnonzero(np.diff(rows, prepend=-9) > 1)]
    assert np.diff(starts).tolist() == [CELL + CAPTION + HEADING] * 2
    assert [int(green[y + 5].sum()) // CELL for y in starts] == [8, 8, 3]
    assert sheet.width > 8 * (CELL + GAP)


def test_blocks_without_cells_are_left_out_and_one_cell_is_a_sheet() -> None:
    one = mask_sheet(
        [("best", cells(1)), ("median", []), ("worst", [])],
        "a title that is far too long " * 9,
        "m" * 400,
    )
    assert one.height < 2 * CELL
    assert one.width > 4 * CELL, "heading and legend have room"
    with pytest.raises(AssertionError):
        mask_sheet([("best", []), ("median", [])], "t")


def test_headings_captions_and_legend_are_written() -> None:
    def of(
        heading: str = "best", name: str = "cup", title: str = "t", note: str = ""
    ) -> np.ndarray:
        return np.asarray(mask_sheet([(heading, cells(2, name))], title, note))

    plain = of()
    for changed in (
        of(heading="worst"),
        of(name="a wine glass " * 12),
        of(title="u"),
        of(note="model"),
    ):
        assert changed.shape == plain.shape
        assert (changed != plain).any()
    legend = Image.fromarray(plain[:74])
    assert min(count(legend, colour) for colour in (MASK, BOX)) > 10


def test_the_legend_says_what_a_score_is(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [("best", cells(2))]
    said = np.asarray(mask_sheet(blocks, "t"))
    monkeypatch.setattr("halfmask.pictures.mask_sheet.SCORE", "")
    silent = np.asarray(mask_sheet(blocks, "t"))
    rows = np.flatnonzero((said != silent).any((1, 2)))
    assert 40 < rows.min() <= rows.max() < 74


@pytest.mark.parametrize("reach", range(1, 6))
def test_a_contour_is_where_the_largest_and_the_smallest_value_differ(reach: int) -> None:
    rng = np.random.default_rng(reach)
    masks = [rng.random((90, 70)) < share for share in (0.001, 0.02, 0.5, 0.98, 0.999)]
    masks += [np.zeros((90, 70)) > 0, np.indices((90, 70)).sum(0) < 60]
    for inside in masks:
        mask = Image.fromarray(inside * np.uint8(255))
        most, least = (
            np.asarray(mask.filter(kind(2 * reach + 1)))
            for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter)
        )
        np.testing.assert_array_equal(contour(mask, reach), most != least)
