"""The order in which the review page shows objects, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from halfmask.web.review.app import review_server

from .browser import at, on_photo, shows, until
from .conftest import Case, filled, rectangle

pytestmark = pytest.mark.slow
Cases = Callable[..., Case]


def test_the_next_photograph_and_the_next_of_a_class(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    page = visit(served[0])  # by score: 4 (dog, 3.jpg), 2 (dog, 1.jpg), 3 (cät, 2.jpg), 5, 1
    shows(page, "#facts", "annotation 4")
    page.keyboard.press("Shift+N")
    shows(page, "#facts", "annotation 2 . 1.jpg")
    page.keyboard.press("Shift+N")
    shows(page, "#facts", "annotation 3 . 2.jpg")
    page.keyboard.press("Shift+L")
    shows(page, "#facts", "annotation 5")
    page.click("#next-class")
    shows(page, "#facts", "annotation 1")
    page.click("#next-class")
    shows(page, "#news", "No further object of the class cät")
    page.select_option("#sort", "score reverse")
    for annotation in (1, 5, 3, 2):
        shows(page, "#facts", f"annotation {annotation}")
        shows(page, "#list li:first-child", "cät" if annotation != 2 else "dog")
        page.keyboard.press("n")
    shows(page, "#facts", "annotation 4")
    page.keyboard.press("p")
    shows(page, "#facts", "annotation 2")


def test_masks_of_people_are_confirmed(
    visit: Callable[..., Any], case: Cases, open_review: Callable[[Case], Any]
) -> None:
    rows = [
        {
            "id": number,
            "image_id": number,
            "category_id": 5,
            "bbox": [8, 5, 20, 30],
            "iscrowd": 0,
            "area": 600,
            "segmentation": rectangle(8, 5, 20, 30),
        }
        for number in (1, 2)
    ]
    review = open_review(case(rows))
    with review_server(review) as server:
        page = visit(server.address)
        shows(page, "#state", "to check")
        shows(page, "#facts", "drawn by a person")
        shows(page, "#score-text", "–")
        shows(page, "#accept", "Confirm")
        page.keyboard.press("a")
        shows(page, "#progress-text", "1 of 2")
        shows(page, "#facts", "annotation 2")
        page.keyboard.press("r")
        shows(page, "#cover", "Everything is reviewed")
        states = sorted(review.item(position).state for position in (0, 1))
        assert states == ["confirmed", "rejected"]


def test_another_reviewers_change_leaves_strokes_alone(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    address, review, _ = served
    page = visit(address)
    page.keyboard.press("b")
    on_photo(page, (40, 10), (40, 20))
    other = visit(address, "Bob")
    other.evaluate("() => { location.hash = '#4' }")
    shows(other, "#facts", "annotation 4")
    other.keyboard.press("r")
    shows(page, "#news", "Bob rejected this object")
    until(page, "desk.edit.changed && desk.item.version === 0")
    page.keyboard.press("Enter")
    shows(page, "#conflict-text", "Bob decided first.*Your decision .redrawn. was not saved")
    page.click("#overrule")
    shows(page, "#facts", "annotation 2")
    assert review.item(4).state == "redrawn"


def test_another_object_is_opened_by_a_click_on_it(
    visit: Callable[..., Any], case: Cases, open_review: Callable[[Case], Any]
) -> None:
    far = {"segmentation": rectangle(40, 5, 15, 20), "bbox": [40, 5, 15, 20]}
    review = open_review(case([filled(1, 0.2), filled(2, 0.5, **far)]))
    with review_server(review) as server:
        page = visit(server.address)
        shows(page, "#facts", "annotation 1")
        page.keyboard.press("o")
        until(page, "stage.scene.others[0]?.mask")
        page.keyboard.press("f")
        page.mouse.click(*at(page, (47, 12)))
        shows(page, "#facts", "annotation 2")
