"""Clicks: every one is honoured, wherever it is, and the mask stays within reach."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from halfmask.errors import InputError
from halfmask.inference.refine import Look, refine
from halfmask.masks.crops import MaskCrops
from halfmask.masks.rle import crop_of
from halfmask.web import clicks as clicking
from halfmask.web import schema
from halfmask.web.clicks import Point, area_around, click_points, fitted
from halfmask.web.review.review import Review
from halfmask.web.segmenting import Segmenter

from .conftest import HEIGHT, WIDTH, Case, rectangle

SIZE = (60, 80)
BOX = (20.0, 15.0, 50.0, 45.0)


@dataclass
class Click:
    """A click as the page sends it."""

    x: float
    y: float
    positive: bool


CLICKS = st.lists(
    st.builds(Click, st.floats(0, 79.9), st.floats(0, 59.9), st.booleans()),
    min_size=1,
    max_size=8,
    unique_by=lambda click: (int(click.x), int(click.y)),
)
PROBS = arrays(np.float32, (12, 12), elements=st.floats(0, 1, width=32))
LOOKS = st.lists(PROBS, min_size=1, max_size=3)


def look(probs: Any) -> Look:
    return Look(probs=probs, region=(12.5, 8.0, 57.5, 52.0), quality=0.5)


@settings(max_examples=120, deadline=None)
@given(CLICKS, LOOKS, st.sampled_from([1, 400, 10**6]), st.booleans())
def test_every_click_is_honoured(
    given_clicks: list[Click], maps: list[Any], cells: int, with_mask: bool
) -> None:
    most, clicking.MOST_CELLS = clicking.MOST_CELLS, cells  # coarser grids, too
    try:
        points = click_points(given_clicks, BOX, SIZE)
        area = area_around(BOX, points, SIZE)
        drawn = None
        if with_mask:
            drawn = np.indices((area.height, area.width)).sum(0) % 7 < 4
        mask = fitted([look(m) for m in maps], points, area, drawn=drawn)
    finally:
        clicking.MOST_CELLS = most
    assert mask.shape == (area.height, area.width)
    for point in points:
        if area.holds(point):
            assert mask[point.y - area.y, point.x - area.x] == point.positive
        else:
            assert not point.positive, "a positive click is always within reach"
    reach = [point for point in points if point.positive]
    margin = 0.05 * 30
    assert area.x >= min([20, *(p.x - margin for p in reach)]) - 1
    assert area.x + area.width <= max([50, *(p.x + 1 + margin for p in reach)]) + 1
    assert area.y >= min([15, *(p.y - margin for p in reach)]) - 1
    assert area.y + area.height <= max([45, *(p.y + 1 + margin for p in reach)]) + 1


def test_a_click_takes_what_looks_like_it_along() -> None:
    """Two objects in a box: the model found the left one, the click is on the right one."""
    probs = np.full((12, 12), 0.05, dtype=np.float32)
    probs[3:9, 2:5], probs[3:9, 7:10] = 0.9, 0.3
    found = [look(probs)]
    area = area_around(BOX, [], SIZE)
    before = fitted(found, [Point(25, 30, True)], area)
    both = fitted(found, [Point(25, 30, True), Point(44, 30, True)], area)
    assert before[30 - 15, 25 - 20]
    assert not before[30 - 15, 44 - 20]
    assert both[before].all(), "what was right stays"
    assert (both & ~before).sum() > 30, "a region, not a dot"
    right = fitted(found, [Point(25, 30, False), Point(44, 30, True)], area)
    assert right[22 - 15 : 38 - 15, 44 - 20].any()
    assert not right[30 - 15, 23 - 20 : 27 - 20].any()


def test_a_drawn_mask_changes_about_wrong_clicks_only() -> None:
    probs = np.full((12, 12), 0.5, dtype=np.float32)
    drawn = np.zeros((30, 30), dtype=bool)
    drawn[5:25, 5:25] = True
    area = area_around(BOX, [], SIZE)
    same = fitted([look(probs)], [Point(30, 30, True), Point(21, 16, False)], area, drawn=drawn)
    assert (same == drawn).all()
    less = fitted([look(probs)], [Point(30, 30, False)], area, drawn=drawn)
    changed = np.argwhere(less != drawn)
    assert len(changed)
    assert np.hypot(*(changed - [15, 10]).T).max() <= clicking.SPREAD * 30 + 1


def test_the_look_that_fits_most_clicks_is_the_start() -> None:
    left, right = np.zeros((12, 12), np.float32), np.zeros((12, 12), np.float32)
    left[:, :6], right[:, 6:] = 1, 1
    points = [Point(23, 20, False), Point(24, 40, False), Point(45, 20, True)]
    mask = fitted([look(left), look(right)], points, area_around(BOX, points, SIZE))
    assert mask[:, 20:].all()
    assert not mask[:, :10].any()


@pytest.mark.parametrize(
    ("some", "text"),
    [
        ([Click(80, 5, True)], "outside the photograph"),
        ([Click(79, 59, True)], "too far"),
        ([Click(30.2, 30, True), Click(30.9, 30.5, False)], "contradict"),
    ],
)
def test_impossible_clicks_are_refused(some: list[Click], text: str) -> None:
    with pytest.raises(InputError, match=text):
        click_points(some, (20, 15, 40, 30), SIZE)


def test_the_same_click_twice_is_one() -> None:
    assert len(click_points([Click(30.2, 30, True), Click(30.9, 30.5, True)], BOX, SIZE)) == 1


NEAR = st.lists(
    st.builds(Click, st.floats(0, 54.9), st.floats(0, 47.9), st.booleans()),
    min_size=1,
    max_size=6,
    unique_by=lambda click: (int(click.x), int(click.y)),
)
DRAWN = schema.Runs(**rectangle(8, 9, 12, 14))


@pytest.fixture
def clicked(case: Callable[..., Case], clicked_segmenter: Path) -> Any:
    """A review whose model takes clicks."""
    of = case()
    segmenter = Segmenter(str(clicked_segmenter), device="cpu")
    review = Review(of.data, segmenter, images=of.photos, journal=of.journal, out=of.out)
    yield review
    review.close()


def asked(some: list[Click], *, drawn: bool) -> schema.RefineRequest:
    return schema.RefineRequest(
        box=(5, 5, 20, 30),
        clicks=[schema.Click(**vars(click)) for click in some],
        mask=DRAWN if drawn else None,
    )


def pixels_of(answer: schema.Refined) -> Any:
    out = np.zeros((HEIGHT, WIDTH), dtype=bool)
    crop = crop_of(answer.mask.model_dump(), (HEIGHT, WIDTH))
    assert crop is not None
    bitmap, (x, y) = crop
    out[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    return out


def test_every_click_is_honoured_where_the_model_reads_it(clicked: Review) -> None:
    honoured = 0

    @settings(max_examples=60, deadline=None, database=None)
    @given(NEAR, st.booleans())
    def one(some: list[Click], drawn: bool) -> None:
        nonlocal honoured
        try:
            answer = clicked.refine(0, asked(some, drawn=drawn))
        except InputError:  # no pixel is left
            assert not any(click.positive for click in some)
            return
        assert answer.method == "model"
        mask = pixels_of(answer)
        for click in some:
            assert mask[int(click.y), int(click.x)] == click.positive
        honoured += len(some)

    one()
    assert honoured > 60


def test_the_model_sees_the_clicks_and_the_drawn_mask(clicked: Review) -> None:
    """As `refine` from Python does, with the same pixels."""
    predictor, photo, box = clicked.segmenter.predictor(), clicked.file.photo(0), (5, 5, 25, 35)
    pixels = photo.pixels((0, 0, WIDTH, HEIGHT), (HEIGHT, WIDTH))
    bitmap = np.zeros((30, 20), dtype=bool)
    bitmap[4:18, 3:15] = True
    seen = []
    for clicks, drawn in (([], None), ([(12.5, 12.5, True)], None), ([], (bitmap, (5, 5)))):
        mask = drawn and MaskCrops.from_bitmaps(
            [torch.from_numpy(bitmap)], [(5, 5)], (HEIGHT, WIDTH)
        )
        wanted = refine(predictor, pixels, [box], clicks=[[0, *c] for c in clicks], mask=mask)
        found = clicked.segmenter.refined(photo, box, clicks, drawn=drawn)
        assert np.allclose(found.probs, wanted.mask_probs[0], atol=1e-5)
        seen.append(found.probs)
    assert not np.allclose(seen[0], seen[1], atol=1e-3)
    assert not np.allclose(seen[0], seen[2], atol=1e-3)


def test_the_page_sends_the_drawn_mask_to_the_model(
    clicked: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    whole = clicked.segmenter.refined

    def spied(*some: Any, drawn: Any) -> Look:
        seen.append(drawn)
        return whole(*some, drawn=drawn)

    monkeypatch.setattr(clicked.segmenter, "refined", spied)
    some = [Click(12, 12, True)]
    clicked.refine(0, asked(some, drawn=False))
    answer = clicked.refine_new(0, schema.NewRefineRequest(**asked(some, drawn=True).model_dump()))
    assert seen[0] is None
    bitmap, place = seen[1]
    assert (bitmap.sum(), place) == (12 * 14, (5, 5))
    assert clicked.drafts.mask(answer.draft, ("photo", 0))["clicks"] == 1


def test_a_model_without_clicks_chooses_among_its_looks(
    case: Callable[..., Case], open_review: Callable[[Case], Any]
) -> None:
    answer = open_review(case()).refine(0, asked([Click(12, 12, True)], drawn=True))
    assert answer.method == "looks"
    assert pixels_of(answer)[12, 12]
