"""What a model sees of a photograph, and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfmask.web import surroundings
from halfmask.web.surroundings import DETECTED_SIDE, WINDOW_PIXELS, Whole, view_of, whole_view

SIDES = st.integers(1, 30_000)
PLACE = st.floats(-1000, 40_000)


@given(st.tuples(SIDES, SIDES), PLACE, PLACE, st.floats(0.1, 30_000), st.floats(0.1, 30_000))
def test_a_view_is_bounded_and_leads_back(
    photo: tuple[int, int], x: float, y: float, width: float, height: float
) -> None:
    box = (x, y, x + width, y + height)
    for view in (view_of(box, photo), whole_view(photo)):
        x0, y0, x1, y1 = view.window
        assert 0 <= x0 < x1 <= photo[1]
        assert 0 <= y0 < y1 <= photo[0]
        assert view.outside(view.inside(box)) == pytest.approx(box, abs=1e-3)
        assert view.size[0] <= y1 - y0
        assert view.size[1] <= x1 - x0
    assert max(whole_view(photo).size) <= DETECTED_SIDE
    seen = view_of(box, photo).size
    # Rounding may add half a row; a side is at least one pixel.
    assert seen[0] * seen[1] <= max(WINDOW_PIXELS + max(seen), max(photo))


@pytest.mark.parametrize("box", [(math.nan, 1, 2, 3), (1, 1, math.inf, 9), (9e9, 9e9, 9e10, 9e10)])
def test_a_malformed_box_sees_the_whole_photograph(box: tuple[float, ...]) -> None:
    assert view_of((box[0], box[1], box[2], box[3]), (3000, 4000)).window == (0, 0, 4000, 3000)


def test_what_is_found_in_a_smaller_copy_of_a_part_is_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surroundings, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(surroundings, "WINDOW_PIXELS", 10_000)
    photograph = np.zeros((600, 800, 3), np.uint8)
    photograph[400:500, 600:700] = 255
    box = (600.0, 400.0, 700.0, 500.0)
    view = view_of(box, (600, 800))
    assert view.window == (500, 300, 800, 600)
    assert view.size == (100, 100)
    seen = Whole(photograph).pixels(view.window, view.size)
    rows, columns = np.nonzero(seen[..., 0] > 127)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert found == pytest.approx(view.inside(box), abs=0.51)
    assert view.outside(tuple(map(float, found))) == pytest.approx(box, abs=2)  # type: ignore[arg-type]


def test_a_drawn_mask_is_shown_as_the_view_shows_the_photograph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = view_of((10, 10, 50, 40), (600, 800))
    bitmap = np.zeros((30, 40), dtype=bool)
    bitmap[5:25, 10:30] = True
    assert view.mask_inside(bitmap, (10, 10)).dense()[0, 15:35, 20:40].all()
    assert int(view.mask_inside(bitmap, (10, 10)).dense().sum()) == 400
    monkeypatch.setattr(surroundings, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(surroundings, "WINDOW_PIXELS", 10_000)
    view = view_of((300, 200, 500, 400), (600, 800))
    full = np.ones((200, 200), dtype=bool)
    small = view.mask_inside(full, (300, 200)).dense()[0]
    assert tuple(small.shape) == view.size
    x0, y0, x1, y1 = (round(v) for v in view.inside((300, 200, 500, 400)))
    assert small[y0:y1, x0:x1].all()
    assert int(small.sum()) == (x1 - x0) * (y1 - y0)
    beyond = view.mask_inside(np.ones((900, 1200), dtype=bool), (-100, -100)).dense()
    assert beyond.all()
