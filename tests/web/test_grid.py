"""The grid of the review: its order, its entries, and the pictures of objects."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from halfmask.pictures.style import colour_of
from halfmask.web.review.app import review_app
from halfmask.web.review.grid import routes
from halfmask.web.review.grid.thumbs import shape_of, thumbnail, window_around

from .conftest import HEIGHT, WIDTH, Case, rectangle

Ask = Callable[..., TestClient]


@pytest.fixture
def ask(case: Callable[..., Case], open_review: Callable[[Case], Any]) -> Ask:
    def start() -> TestClient:
        return TestClient(review_app(open_review(case())))

    return start


def test_the_page_is_served(ask: Ask) -> None:
    found = ask().get("/grid")
    assert found.status_code == 200
    assert found.headers["content-type"].startswith("text/html")
    assert "/static/grid.js" in found.text


def test_the_order_has_all_positions_and_their_versions(ask: Ask) -> None:
    client = ask()
    order = client.get("/api/grid/order").json()
    assert order == {"positions": [4, 1, 3, 5, 0], "versions": [0] * 5, "left_out": 0}
    client.post("/api/items/3/decision", json={"version": 0, "state": "accepted", "by": "A"})
    turned = client.get("/api/grid/order", params={"reverse": True, "low": 0.5}).json()
    assert turned == {"positions": [0, 5, 3], "versions": [0, 0, 1], "left_out": 0}
    accepted = client.get("/api/grid/order", params={"state": "accepted", "sort": "file"}).json()
    assert accepted["positions"] == [3]
    assert client.get("/api/grid/order", params={"colour": "red"}).status_code == 422


def test_what_is_beyond_the_most_is_counted(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MOST_ORDERED", 2)
    order = ask().get("/api/grid/order").json()
    assert (order["positions"], order["left_out"]) == ([4, 1], 3)


def test_entries_come_as_asked(ask: Ask) -> None:
    client = ask()
    found = client.get("/api/grid/entries", params={"position": [5, 4, 10**6]}).json()["items"]
    queued = client.get("/api/queue").json()["items"]
    assert found == [next(e for e in queued if e["position"] == p) for p in (5, 4)]
    assert client.get("/api/grid/entries").status_code == 422
    assert client.get("/api/grid/entries", params={"position": [0] * 201}).status_code == 422


def test_a_picture_shows_the_current_mask(ask: Ask) -> None:
    client = ask()
    before = client.get("/api/items/0/thumb", params={"side": 96})
    assert before.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(before.content)) as picture:
        assert picture.size == (96, 96)
    runs = rectangle(8, 8, 12, 12)
    drawn = {"version": 0, "state": "redrawn", "by": "A", "mask": runs}
    assert client.post("/api/items/0/decision", json=drawn).status_code == 200
    assert client.get("/api/items/0/thumb", params={"side": 96}).content != before.content
    assert client.get("/api/items/99/thumb").status_code == 404
    assert client.get("/api/items/0/thumb", params={"side": 4000}).status_code == 422


def test_a_photograph_that_is_gone_has_no_picture(
    case: Callable[..., Case], open_review: Callable[[Case], Any]
) -> None:
    written = case()
    client = TestClient(review_app(open_review(written)))
    (written.photos / "1.jpg").unlink()
    found = client.get("/api/items/0/thumb")
    assert found.status_code == 404
    assert "1.jpg" in found.json()["detail"]


SIDES = st.integers(1, 3000)
PLACES = st.floats(-50, 3000, allow_nan=False)


@given(size=st.tuples(SIDES, SIDES), box=st.tuples(PLACES, PLACES, SIDES, SIDES))
def test_a_window_lies_in_the_photograph(
    size: tuple[int, int], box: tuple[float, float, int, int]
) -> None:
    left, top, right, bottom = window_around(box, size)
    assert 0 <= left < right <= size[1]
    assert 0 <= top < bottom <= size[0]
    height, width = shape_of((left, top, right, bottom), 160)
    assert max(height, width) == 160
    assert min(height, width) >= 1


def test_the_contour_lies_on_the_mask_border() -> None:
    window, colour = (0, 0, 48, 48), colour_of(1)
    pixels = np.full((240, 240, 3), 90, dtype=np.uint8)
    data = thumbnail(
        pixels, window, size=(HEIGHT, WIDTH), mask=rectangle(10, 10, 20, 20), colour=colour
    )
    with Image.open(io.BytesIO(data)) as picture:
        shown = np.asarray(picture).astype(int)
    far = np.abs(shown - 90).max(axis=2)
    near = np.abs(shown - np.array(colour)).max(axis=2)
    assert far[:40].max() < 12  # outside nothing is drawn
    assert (near[60:140, 49:51].min(axis=1) < 60).all()  # the left border: 10 × 5 pixels
    assert 12 < far[100, 100] < near[50, 100] + 200  # inside it is tinted
    assert near[100, 100] > 60  # and not opaque
    plain = thumbnail(pixels, window, size=(HEIGHT, WIDTH), mask=None, colour=colour)
    with Image.open(io.BytesIO(plain)) as picture:
        assert np.abs(np.asarray(picture).astype(int) - 90).max() < 4
