"""Changes of a mask on the review page before they are saved, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from halfmask.web.review.app import review_server

from .browser import TOUCH, at, on_photo, shows
from .conftest import HEIGHT, WIDTH, Case, filled

MASK = """async () => {
  const { desk } = await import('/static/desk.js');
  const { x, y, width, height, pixels } = desk.edit.mask;
  return { x, y, width, height, pixels: [...pixels] };
}"""
BITMAPS = """async (cases) => {
  const bitmap = await import('/static/bitmap.js');
  const { rings, simplified, distance } = await import('/static/outline.js');
  return cases.map(({ pixels, width, height }) => {
    const p = Uint8Array.from(pixels), again = new Uint8Array(p.length);
    const found = rings(p, width, height);
    bitmap.fillRings(again, width, height, found);
    const far = found.flatMap((ring) => {
      const kept = simplified(ring, 1.5).map((i) => ring[i]);
      const to = (point) => kept.map((a, i) => distance(point, a, kept[(i + 1) % kept.length]));
      return ring.map((point) => Math.min(...to(point)));
    });
    const { labels, areas } = bitmap.parts(p, width, height);
    const change = (name) => [...bitmap[name](p, width, height)];
    return {
      grown: change('grown'), shrunk: change('shrunk'), smoothed: change('smoothed'),
      again: [...again], farthest: Math.max(0, ...far), labels: [...labels], areas,
    };
  });
}"""


def mask_of(page: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Returns the edited mask over the whole photograph."""
    found = page.evaluate(MASK)
    assert (found["x"], found["y"], found["width"], found["height"]) == (0, 0, WIDTH, HEIGHT)
    return np.array(found["pixels"], dtype=np.uint8).reshape(HEIGHT, WIDTH)


def test_strokes_are_undone_and_redone_one_by_one(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    page = visit(served[0])
    first = mask_of(page)
    page.keyboard.press("b")
    areas = [int(first.sum())]
    for x in (40, 50):
        on_photo(page, (x, 8), (x, 20))
        areas.append(int(mask_of(page).sum()))
    assert areas[0] < areas[1] < areas[2]
    for key, left in (
        ("Control+z", 1),
        ("Control+Shift+z", 2),  # once removed both
        ("Control+z", 1),
        ("Control+z", 0),
        ("Control+y", 1),
        ("Control+y", 2),
        ("Control+z", 1),
    ):
        page.keyboard.press(key)
        assert int(mask_of(page).sum()) == areas[left], key
    on_photo(page, (60, 8), (60, 12))  # a new stroke: nothing is left to redo
    assert page.is_disabled("#step-forward")
    for _ in range(2):
        page.click("#step-back")
    assert np.array_equal(mask_of(page), first)
    shows(page, "#accept", "Accept")


def test_a_bitmap_changes_as_its_neighbourhoods_say(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    rng = np.random.default_rng(5)
    cases = []
    for _ in range(60):
        height, width = rng.integers(1, 19, 2).tolist()
        cases.append((rng.random((height, width)) < rng.random()).astype(int))
    sent = [
        {"pixels": case.ravel().tolist(), "width": case.shape[1], "height": case.shape[0]}
        for case in cases
    ]
    for case, found in zip(cases, visit(served[0]).evaluate(BITMAPS, sent), strict=True):
        set_1, counted_1 = neighbours(case, 1)
        set_2, counted_2 = neighbours(case, 2)
        expected = {
            "grown": set_1 > 0,
            "shrunk": set_1 == counted_1,
            "smoothed": 2 * set_2 > counted_2,
            "again": case,  # rings enclose exactly the pixels
        }
        for name, bitmap in expected.items():
            assert found[name] == bitmap.astype(int).ravel().tolist(), name
        assert found["farthest"] <= 1.5
        labels = np.array(found["labels"]).reshape(case.shape)
        assert np.bincount(labels.ravel(), minlength=1)[1:].tolist() == found["areas"]
        assert found["areas"] == sorted(found["areas"], reverse=True)
        assert np.array_equal(labels > 0, case > 0)
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):  # neighbours are of one part
            shifted = np.zeros_like(labels)
            rows, columns = labels.shape
            part = labels[dy:, max(0, dx) : columns + min(0, dx)]
            shifted[: rows - dy, max(0, -dx) : columns - max(0, dx)] = part
            both = (labels > 0) & (shifted > 0)
            assert np.array_equal(labels[both], shifted[both])


def neighbours(bitmap: Any, reach: int) -> tuple[Any, Any]:
    """Returns how many pixels around each are set, and how many there are."""
    height, width = bitmap.shape
    on, counted = np.zeros_like(bitmap), np.zeros_like(bitmap)
    for y in range(height):
        for x in range(width):
            around = bitmap[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            on[y, x], counted[y, x] = around.sum(), around.size
    return on, counted


@pytest.mark.slow
def test_corners_change_the_outline_near_them_only(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    page = visit(served[0])
    before = mask_of(page)  # a rectangle from (8, 5) to (28, 35)
    page.keyboard.press("f")
    page.keyboard.press("d")
    drag(page, (28, 35), (40, 42))
    moved = mask_of(page)
    assert moved[38, 36] == 1
    assert before[38, 36] == 0
    assert np.array_equal(moved[:20, :20], before[:20, :20])
    drag(page, (18, 5), (18, 1))  # the upper side's middle: a new corner
    assert mask_of(page)[3, 18] == 1
    page.keyboard.press("Delete")  # the chosen corner is the new one
    assert np.array_equal(mask_of(page), moved)
    page.keyboard.down("Alt")
    page.mouse.click(*at(page, (40, 42)))
    page.keyboard.up("Alt")
    triangle = mask_of(page)
    assert triangle.sum() == pytest.approx(before.sum() / 2, rel=0.1)
    page.keyboard.press("]")
    page.keyboard.press("Shift+ArrowRight")
    assert mask_of(page).sum() != triangle.sum()
    for _ in range(5):
        page.keyboard.press("Control+z")
    assert np.array_equal(mask_of(page), before)


def drag(page: Any, *points: tuple[float, float]) -> None:
    """Drags over the photograph, which is shown as a whole already."""
    page.mouse.move(*at(page, points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*at(page, point), steps=6)
    page.mouse.up()


@pytest.mark.slow
def test_grow_shrink_smooth_and_a_box_by_keys(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    page = visit(served[0])
    first = mask_of(page)
    page.keyboard.press(".")
    assert mask_of(page).sum() == 22 * 32
    page.keyboard.press(",")
    assert np.array_equal(mask_of(page), first)
    page.keyboard.press("/")
    assert 0 < first.sum() - mask_of(page).sum() <= 12  # the corners
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    shows(page, "#edit-text", "Box moved")
    shows(page, "#accept", "Save box")
    box = "async () => (await import('/static/desk.js')).desk.edit.box"
    assert page.evaluate(box) == [9, 5, 20, 31]
    page.keyboard.press("s")
    shows(page, "#edit-text", "The model's mask, score")
    page.keyboard.press("Control+z")
    shows(page, "#edit-text", "Box moved")
    page.keyboard.press("Escape")
    assert page.evaluate(box) == [8, 5, 20, 30]


@pytest.mark.slow
def test_the_view_changes_and_stays_changed(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    page = visit(served[0])
    page.keyboard.press("w")
    page.keyboard.press("}")
    page.keyboard.press("y")
    page.locator("#brightness").press("ArrowRight")
    page.keyboard.press("z")
    page.locator("#minimap").wait_for(state="visible")
    page.reload()
    page.wait_for_selector("body.ready")
    looks = page.evaluate(
        "async () => { const { stage } = await import('/static/desk.js');"
        "return [stage.contourOnly, stage.ground.style.filter, document.querySelector('#opacity')"
        ".value] }"
    )
    assert looks == [True, "brightness(101%) contrast(100%)", "53"]
    page.locator("#minimap").wait_for(state="visible")
    page.keyboard.press("0")
    page.locator("#minimap").wait_for(state="hidden")


@pytest.mark.slow
def test_the_list_has_as_many_rows_as_fit(
    visit: Callable[..., Any], case: Callable[..., Case], open_review: Callable[[Case], Any]
) -> None:
    from halfmask.web.review.app import review_server

    from .conftest import filled

    written = case([filled(n, n / 100) for n in range(1, 61)])
    with review_server(open_review(written)) as server:
        page = visit(server.address)
        counts = []
        for height in (700, 1100):
            page.set_viewport_size({"width": 1280, "height": height})
            page.wait_for_timeout(500)
            room = page.locator("#list").bounding_box()["height"]
            rows = page.locator("#list li")
            counts.append(rows.count())
            last = rows.last.bounding_box()
            bottom = page.locator("#list").bounding_box()["y"] + room
            assert bottom - 34 <= last["y"] + last["height"] <= bottom + 1
        assert counts[1] > counts[0] + 8


FREE = """async () => {
  const { stage } = await import('/static/desk.js');
  const { scale, x, y } = stage.view, [left, top, width, height] = stage.focus;
  const frame = stage.canvas.getBoundingClientRect();
  const upper = document.getElementById('tools').getBoundingClientRect().bottom - frame.top;
  const bars = [...document.querySelectorAll('#edit:not([hidden]), .zoom')]
    .map((bar) => bar.getBoundingClientRect().top - frame.top);
  return [y + top * scale - upper, Math.min(...bars) - y - (top + height) * scale];
}"""
"""Room between the object and the buttons above and below it, CSS pixels."""


@pytest.mark.slow
def test_on_a_phone_the_object_stays_above_the_strip_of_a_tool(
    visit: Callable[..., Any], case: Callable[..., Case], open_review: Callable[[Case], Any]
) -> None:
    box = [8, 2, 50, 44]  # nearly the whole photograph
    with review_server(open_review(case([filled(1, bbox=box)]))) as server:
        page = visit(server.address, size={"width": 390, "height": 600}, **TOUCH)
        shows(page, "#facts", "annotation 1")
        before = page.evaluate("async () => (await import('/static/desk.js')).stage.view")
        for tool in ("b", "d", "c", "x"):
            page.keyboard.press(tool)
            assert min(page.evaluate(FREE)) > 0, tool
        page.keyboard.press("Escape")
        page.keyboard.press(".")
        shows(page, "#edit-text", "Redrawn")
        assert min(page.evaluate(FREE)) > 0, "a change without a tool"
        page.keyboard.press("Escape")
        assert page.evaluate("async () => (await import('/static/desk.js')).stage.view") == before
        page.keyboard.press("-")
        page.evaluate(
            "async (far) => (await import('/static/desk.js')).stage.pan(0, far)",
            page.evaluate(FREE)[1] - 30,
        )
        page.keyboard.press("b")
        assert page.evaluate(FREE)[1] > 0, "also where the reviewer moved it"
