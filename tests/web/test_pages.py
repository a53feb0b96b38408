"""The pages in a real browser. Skipped where there is none; the first, a whole review,
and two more are fast tests.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.masks.crops import decode
from halfmask.web.review.app import review_server

from .browser import PHONE, at, on_photo, shows
from .conftest import Case, filled

Cases = Callable[..., Case]


def test_a_review_from_the_first_key_to_the_file(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    address, _, written = served
    page = visit(address)
    shows(page, "#name", "dog")  # 4 has the worst score
    shows(page, "#facts", "annotation 4")
    page.keyboard.press("a")
    shows(page, "#facts", "annotation 2")
    page.keyboard.press("r")
    shows(page, "#facts", "annotation 3")
    page.keyboard.press("b")
    on_photo(page, (50, 40), (60, 40))
    shows(page, "#accept", "Save redrawn")
    page.keyboard.press("r")
    shows(page, "#news", "not saved")  # strokes are not lost by a wrong key
    page.keyboard.press("Enter")
    shows(page, "#facts", "annotation 5")
    shows(page, "#progress-text", "3 of 5")
    page.keyboard.press("n")
    shows(page, "#facts", "annotation 1")
    page.keyboard.press("p")
    shows(page, "#facts", "annotation 5")

    page.reload()
    shows(page, "#facts", "annotation 5")
    shows(page, "#progress-text", "3 of 5")
    shows(page, "#reviewers", "Anna3")
    page.keyboard.press("u")
    shows(page, "#facts", "annotation 3")
    shows(page, "#state", "to review")
    shows(page, "#progress-text", "2 of 5")
    page.keyboard.press("b")
    on_photo(page, (50, 40), (60, 40))
    page.keyboard.press("Enter")
    shows(page, "#progress-text", "3 of 5")

    page.click("#export")
    shows(page, "#news", "Written: reviewed.json")
    rows = {row["id"]: row for row in json.loads(written.out.read_text())["annotations"]}
    assert [rows[n]["halfmask"]["state"] for n in (4, 2, 3, 5, 1)] == [
        "accepted",
        "rejected",
        "redrawn",
        "filled",
        "filled",
    ]
    assert rows[3]["halfmask"]["by"] == "Anna"
    bitmap, (x, _) = decode(rows[3]["segmentation"], (48, 64))
    assert (x, rows[3]["area"]) == (7, int(bitmap.sum()))
    assert bitmap.shape[1] > 50  # the stroke reaches far beyond the old mask
    assert rows[3]["area"] > 600


@pytest.mark.slow
def test_box_and_polygon(visit: Callable[..., Any], served: tuple[str, Any, Case]) -> None:
    address, review, _ = served
    page = visit(address)
    page.keyboard.press("x")
    on_photo(page, (10, 10), (30, 34))
    shows(page, "#edit-text", "The model's mask, score")
    page.keyboard.press("a")
    shows(page, "#facts", "annotation 2")
    now = review.decisions.current(4)
    assert now.state == "accepted"
    assert now.mask["box"] == pytest.approx([10, 10, 20, 24], abs=0.6)

    page.keyboard.press("g")
    page.keyboard.press("f")
    for corner in ((40, 4), (60, 4), (60, 20), (40, 20)):
        page.mouse.click(*at(page, corner))
    page.keyboard.press("Enter")
    shows(page, "#edit-text", "Redrawn, not saved")
    page.keyboard.press("Control+z")
    shows(page, "#accept", "Accept")
    for corner in ((40, 4), (60, 4), (60, 20), (40, 20)):
        page.mouse.click(*at(page, corner))
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    shows(page, "#facts", "annotation 3")
    bitmap, (x, y) = decode(review.decisions.current(1).mask["segmentation"], (48, 64))
    corner = bitmap[4 - y : 20 - y, 40 - x : 60 - x]
    assert corner.float().mean() > 0.9  # what the polygon encloses


@pytest.mark.slow
def test_two_reviewers_conflict(visit: Callable[..., Any], served: tuple[str, Any, Case]) -> None:
    address, review, _ = served
    page = visit(address)
    shows(page, "#facts", "annotation 4")
    review.decisions.decide(4, 0, "rejected", by="Bob")
    page.keyboard.press("a")
    shows(
        page,
        "#conflict-text",
        "Bob decided first: the mask is rejected now. Your decision .accepted. was not saved",
    )
    assert review.decisions.current(4).by == "Bob"
    page.click("#overrule")
    shows(page, "#facts", "annotation 2")
    assert review.decisions.current(4).by == "Anna"
    other = visit(address, "Bob")
    shows(other, "#facts", "annotation 1")  # Anna looks at 2; 3 and 5 are fetched for her


@pytest.mark.slow
def test_filters_and_the_end(visit: Callable[..., Any], served: tuple[str, Any, Case]) -> None:
    address, _, _ = served
    page = visit(address)
    page.select_option("#category", "5")
    shows(page, "#selected", "2 selected")
    for expected in ("annotation 2", None):
        page.keyboard.press("a")
        if expected:
            shows(page, "#facts", expected)
    shows(page, "#cover", "No mask fits the filter.*3 masks are still to review")
    page.click("#cover button")
    shows(page, "#facts", "annotation 3")
    for _ in range(3):
        page.keyboard.press("a")
        page.wait_for_timeout(300)
    shows(page, "#cover", "Everything is reviewed")
    page.check("#state-accepted")
    shows(page, "#facts", "accepted by Anna")


def test_photographs_are_shown_as_stored_or_missed(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    address, _, written = served
    pixels, exif = np.zeros((48, 64, 3), dtype=np.uint8), Image.Exif()
    pixels[:, :32] = (250, 20, 20)
    exif[0x0112] = 6
    Image.fromarray(pixels).save(written.photos / "3.jpg", exif=exif, quality=95)
    (written.photos / "1.jpg").unlink()
    page = visit(address)
    shows(page, "#facts", "3.jpg")
    page.keyboard.press("f")
    page.keyboard.press("m")
    shot = Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB")
    middle = [shot.getpixel((int(shot.width * share), shot.height // 2))[0] for share in (0.3, 0.7)]
    assert middle[0] > 200 > 60 > middle[1], "the red half is on the left, as it is stored"
    page.keyboard.press("n")
    shows(page, "#cover", "The photograph cannot be shown.*there is no such file")
    page.keyboard.press("r")  # a decision is possible all the same
    shows(page, "#progress-text", "1 of 5")


def test_the_phone_page_is_touched(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    address, review, _ = served
    page = visit(address, size=PHONE, has_touch=True, is_mobile=True)
    inside = page.evaluate(
        "() => document.documentElement.scrollWidth <= innerWidth && "
        "document.body.scrollHeight <= innerHeight"
    )
    assert inside
    before = page.locator(".actions").bounding_box()
    page.tap("#accept")
    shows(page, "#facts", "annotation 2")
    assert page.locator(".actions").bounding_box() == before  # nothing jumps
    assert review.decisions.current(4).state == "accepted"
    page.tap("[data-tool=brush]")
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[int, int]) -> None:
        sent = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": sent})

    touch("touchStart", (120, 250))
    touch("touchMove", (140, 250))
    touch("touchStart", (140, 250), (250, 300))
    touch("touchMove", (100, 250), (290, 300))
    touch("touchEnd")
    shows(page, "#accept", "Accept")  # two fingers zoom; what the first one painted is gone
    touch("touchStart", (120, 250))
    touch("touchMove", (180, 300))
    touch("touchEnd")
    shows(page, "#accept", "Save redrawn")
    page.tap("#cancel")
    page.tap("#open-panel")
    page.locator("#category").wait_for(state="visible")


@pytest.mark.slow
def test_a_token_in_the_address_opens_the_page_and_leaves_it(
    visit: Callable[..., Any], case: Cases, open_review: Callable[[Case], Any]
) -> None:
    review = open_review(case())
    with review_server(review, token=True) as server:
        page = visit(server.address)
        assert "token" not in page.url
        page.keyboard.press("a")
        shows(page, "#facts", "annotation 2")
        assert review.decisions.current(4).state == "accepted"
        page.context.clear_cookies()
        page.keyboard.press("a")
        shows(page, "#news", "Not saved: open the page by the address that halfmask printed")


@pytest.mark.slow
def test_names_from_the_file_are_text(
    visit: Callable[..., Any], case: Cases, open_review: Callable[[Case], Any]
) -> None:
    evil = "<img src=x onerror=alert(1)>" + "very long " * 30
    written = case([filled(1)], categories=[{"id": 2, "name": evil}])
    with review_server(open_review(written)) as server:
        page = visit(server.address, "<b>Eve</b>")
        shows(page, "#name", re.escape(evil.strip()))
        assert page.locator("img[src=x]").count() == 0
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
