"""The order in which the review page shows objects, in a real browser."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.web.review.app import review_server

from .browser import another_rejects, at, on_photo, shows, until
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
    another_rejects(visit, address)
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


def test_quick_presses_of_undo_are_all_counted(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    address, review, _ = served
    page = visit(address)
    for annotation in (4, 2, 3):
        shows(page, "#facts", f"annotation {annotation}")
        page.keyboard.press("a")
    shows(page, "#facts", "annotation 5")
    for _ in range(3):
        page.keyboard.press("Control+z")
    shows(page, "#progress-text", "0 of 5")
    shows(page, "#facts", "annotation 4")
    assert [review.item(position).state for position in (4, 1, 3)] == ["filled"] * 3


def test_a_large_photograph_is_sharp_where_it_is_zoomed(
    visit: Callable[..., Any], case: Cases, open_review: Callable[[Case], Any]
) -> None:
    size = {"width": 9000, "height": 3000}
    box = {"bbox": [6000, 1500, 60, 40], "segmentation": [[6010, 1510, 6050, 1510, 6050, 1535]]}
    written = case([filled(1, **box)], images=[{"id": 1, "file_name": "1.jpg", **size}])
    pixels = np.zeros((3000, 9000, 3), dtype=np.uint8)
    pixels[::2] = 255  # lines of one pixel, grey in a smaller copy
    Image.fromarray(pixels).save(written.photos / "1.jpg", quality=95)
    with review_server(open_review(written)) as server:
        page = visit(server.address)
        until(page, "[...stage.layer.tiles.values()].some((tile) => tile.picture)")
        page.locator("#minimap").wait_for(state="visible")
        page.keyboard.press("m")
        page.wait_for_timeout(200)
        shot = Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("L")
        column = np.asarray(shot)[300:500, 200].astype(int)
        assert column.max() - column.min() > 200  # black and white lines
        middle = page.locator("#minimap").bounding_box()
        page.mouse.click(middle["x"] + 10, middle["y"] + 10)
        until(page, "stage.inSight[0] < 1000")


def test_peoples_masks_come_by_doubt_while_the_model_looks(
    visit: Callable[..., Any], case: Cases, open_review: Callable[[Case], Any]
) -> None:
    rows = [filled(number, image=number, bbox=[8, 5, 22, 32]) for number in (1, 2, 3)]
    for row in rows:
        del row["halfmask"]
    review = open_review(case(rows))
    with review_server(review) as server:
        page = visit(server.address)
        shows(page, "#facts", "annotation 1 ")
        assert page.input_value("#sort") == "disagreement"
        assert page.is_hidden("#looked-at")
        review.doubts.start()
        page.reload()
        page.wait_for_selector("body.ready")
        shows(page, "#looked-at", "3 of 3 looked at by the model$")
        shown = page.inner_text("#facts")
        review.queue.order_by("disagreement", np.array([0.1, 0.2, 0.9]))
        page.reload()
        page.wait_for_selector("body.ready")
        assert page.inner_text("#facts") == shown, "the address names the mask"
        page.keyboard.press("Shift+X")
        shows(page, "#facts", "annotation 3 ")
        shows(page, "#list li:nth-child(2) .figures", "20")
        review.queue.order_by("disagreement", np.array([0.1, 0.95, 0.9]))
        page.keyboard.press("n")
        shows(page, "#facts", "annotation 2 ")
        page.keyboard.press("n")
        shows(page, "#facts", "annotation 1 ")
        page.keyboard.press("p")
        shows(page, "#facts", "annotation 2 ")
