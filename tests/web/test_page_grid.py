"""The grid page in a real browser, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from halfmask.web.review.app import review_server
from halfmask.web.schema import DoubtsView

from .browser import PHONE, SIZES, press, shows
from .conftest import Case, filled, rectangle

pytestmark = pytest.mark.slow
MANY = 240


@pytest.fixture
def many(case: Callable[..., Case], open_review: Callable[[Case], Any]) -> Any:
    rows = [
        filled(
            n,
            0.95 if n > MANY - 200 else 0.2,
            image=1 + n % 3,
            category=5 if n % 2 else 2,
            bbox=[n % 40, 5, 20, 30],
            segmentation=rectangle(n % 40, 5, 20, 30),
        )
        for n in range(1, MANY + 1)
    ]
    review = open_review(case(rows))
    with review_server(review) as server:
        yield server.address.rstrip("/") + "/grid", review


def states(review: Any) -> dict[str, int]:
    return {state: n for state, n in review.all_states().items() if n}


def tile(index: int) -> str:
    return f"#tile-{index}"


@pytest.mark.parametrize("options", SIZES)
def test_200_are_accepted_in_one_step_and_undone(
    visit: Callable[..., Any], many: tuple[str, Any], options: dict[str, Any]
) -> None:
    address, review = many
    page = visit(address, **options)
    shows(page, "#shown", "^240 masks$")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".tile").count() < 100  # only those near the window exist
    press(page, "#above")
    shows(page, "#above-text", r"This accepts 200 masks\. About \d")
    press(page, "#above-go")
    shows(page, "#news", "^200 masks accepted")
    shows(page, "#progress-text", "^200 of 240$")
    assert states(review) == {"filled": 40, "accepted": 200}
    press(page, "#undo")
    shows(page, "#news", "^Undone: accept of 200 masks")
    shows(page, "#progress-text", "^0 of 240$")
    assert states(review) == {"filled": 240}
    page.keyboard.press("Control+Shift+Z")
    shows(page, "#progress-text", "^200 of 240$")
    page.keyboard.press("Control+z")
    shows(page, "#progress-text", "^0 of 240$")


@pytest.mark.parametrize("options", SIZES)
def test_some_are_selected_rejected_and_undone(
    visit: Callable[..., Any], many: tuple[str, Any], options: dict[str, Any]
) -> None:
    address, review = many
    page = visit(address, **options)
    page.locator(f"{tile(1)} img").wait_for()
    press(page, tile(0))
    if options["size"] == PHONE:
        press(page, tile(1))
        press(page, tile(2))
        press(page, tile(2))  # a second tap leaves it
        press(page, tile(2))
    else:
        page.locator(tile(2)).click(modifiers=["Shift"])
    shows(page, "#picked", "^3 selected$")
    press(page, "#reject")
    shows(page, "#news", "^3 masks rejected")
    page.locator(f"{tile(2)}.rejected").wait_for()
    assert "rejected" in page.locator(tile(2)).get_attribute("aria-label")
    press(page, "#set-class")
    page.fill("#class-search", "dog")
    page.keyboard.press("Enter")
    shows(page, "#news", "given another class")
    press(page, "#delete")
    press(page, "#delete-go")
    shows(page, "#shown", "^237 masks$")
    assert states(review)["filled"] == 237
    for _ in range(3):  # one after the other, however fast they come
        press(page, "#undo")
    page.wait_for_selector("body:not(.working)")
    shows(page, "#shown", "^240 masks$")
    assert states(review) == {"filled": 240}


def test_a_frame_and_the_keyboard_select(visit: Callable[..., Any], many: tuple[str, Any]) -> None:
    address, review = many
    page = visit(address)
    page.locator(f"{tile(0)} img").wait_for()
    first, last = (page.locator(tile(k)).bounding_box() for k in (0, 8))
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + 30, last["y"] + 30, steps=5)
    page.mouse.up()
    columns = page.evaluate("async () => (await import('/static/grid-list.js')).grid.columns")
    shows(page, "#picked", f"^{2 * (8 % columns + 1)} selected$")
    page.keyboard.press("Escape")
    shows(page, "#picked", "^Nothing selected$")
    for key in ("Home", " ", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    shows(page, "#picked", f"^{columns + 2} selected$")
    page.keyboard.press("End")
    page.locator(f"{tile(MANY - 1)}.now img").wait_for()
    page.select_option("#category", label="dog (120)")
    shows(page, "#shown", "^120 masks$")
    page.locator("#scroller").focus()
    page.keyboard.press("Control+a")
    shows(page, "#picked", "^120 selected$")
    page.keyboard.press("a")
    shows(page, "#news", "^120 masks accepted")
    assert states(review) == {"filled": 120, "accepted": 120}
    press(page, "#statistics")
    row = page.locator("#statistics-body tr", has_text="dog")
    assert row.locator("td").nth(3).inner_text() == "120"


def test_another_reviewers_change_is_named_and_skipped(
    visit: Callable[..., Any], many: tuple[str, Any]
) -> None:
    address, review = many
    page = visit(address)
    page.locator(f"{tile(0)} img").wait_for()
    page.keyboard.press("Control+a")
    page.keyboard.press("r")
    shows(page, "#news", "^240 masks rejected")
    review.batch.run("accept", "Bob", [0], versions=None, category=None)
    page.keyboard.press("Control+z")
    shows(page, "#skip-text", "^Bob changed annotation 1 since")
    press(page, "#skip-go")
    shows(page, "#news", "^Undone: reject of 239 masks; 1 stay")
    assert states(review) == {"filled": 239, "accepted": 1}


@pytest.mark.parametrize("options", SIZES)
def test_new_scores_wait_for_a_press(
    visit: Callable[..., Any],
    case: Callable[..., Case],
    open_review: Callable[[Case], Any],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    rows = [filled(number, image=1 + number % 3) for number in range(1, 7)]
    for row in rows:
        del row["halfmask"]
    review = open_review(case(rows))
    looks: dict[str, Any] = {"state": "looking", "total": 6, "skipped": 0, "fault": ""}

    def look(turn: int, looked_at: int, *doubts: float, **more: Any) -> None:
        review.queue.order_by("disagreement", np.array(doubts, dtype=np.float32))
        now = DoubtsView(**looks | {"turn": turn, "looked_at": looked_at} | more)
        monkeypatch.setattr(review.doubts, "view", lambda: now)

    look(1, 1, *[np.nan] * 6)
    with review_server(review) as server:
        page = visit(server.address.rstrip("/") + "/grid", **options)
        assert labels(page) == [1, 2, 3, 4, 5, 6]
        assert page.is_hidden("#again")
        press(page, tile(1))
        look(2, 5, 0.1, 0.2, 0.3, 0.4, 0.5, np.nan)
        shows(page, "#again", "^4 more looked at: sort again$")
        assert labels(page) == [1, 2, 3, 4, 5, 6], "nothing moves by itself"
        press(page, "#reject")
        page.locator(f"{tile(1)}.rejected").wait_for()
        assert labels(page) == [1, 2, 3, 4, 5, 6], "nor after an action"
        look(3, 6, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, state="done")
        shows(page, "#again", "^5 more looked at: sort again$")
        press(page, "#again")
        shows(page, tile(0), "60 %")
        assert labels(page) == [6, 5, 4, 3, 2, 1]
        assert page.is_hidden("#again")
        shows(page, "#picked", "^1 selected$")
        assert page.locator(tile(4)).get_attribute("aria-selected") == "true"


def labels(page: Any) -> list[int]:
    """Returns the ids of the annotations in their order on the page."""
    grid = "(await import('/static/grid-list.js')).grid"
    positions: list[int] = page.evaluate(f"async () => {grid}.positions")
    return [position + 1 for position in positions]
