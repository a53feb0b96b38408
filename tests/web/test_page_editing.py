"""Editing annotations on the review page in a real browser, on a desk and on a phone."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from halfmask.masks.crops import decode
from halfmask.web.review.app import review_server

from .browser import PHONE, SIZES, another_rejects, at, on_photo, press, shows, until
from .conftest import HEIGHT, WIDTH, Case, filled

pytestmark = pytest.mark.slow
Cases = Callable[..., Case]
DOG, CAT = 5, 2


def touch(page: Any, point: tuple[float, float]) -> None:
    """Clicks or taps a point of the whole photograph."""
    where = at(page, point)
    if page.evaluate("() => matchMedia('(pointer: coarse)').matches"):
        page.touchscreen.tap(*where)
    else:
        page.mouse.click(*where)


def choose_class(page: Any, text: str) -> None:
    page.fill("#class-search", text)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("options", SIZES)
def test_an_object_is_added(
    visit: Callable[..., Any], served: tuple[str, Any, Case], options: dict[str, Any]
) -> None:
    address, review, written = served
    page = visit(address, **options)
    press(page, "[data-tool=add]")
    shows(page, "#edit-text", "New dog: drag a box")
    press(page, "#class")
    choose_class(page, "cä")
    shows(page, "#edit-text", "New cät")
    for left, right in ((34, 50), (50, 62)):  # the class sticks
        on_photo(page, (left, 6), (right, 30))
        shows(page, "#edit-text", "New cät: The model's mask")
        press(page, "#accept")
        shows(page, "#news", "Added: cät")
        shows(page, "#edit-text", "New cät: drag a box")
    press(page, "#cancel")
    shows(page, "#name", "^dog$")
    review.export()
    rows = json.loads(written.out.read_text())["annotations"]
    added = rows[6:]
    assert [(row["image_id"], row["category_id"]) for row in added] == [(3, CAT), (3, CAT)]
    assert added[0]["halfmask"]["by"] == "Anna"
    page.keyboard.press("Control+z")
    shows(page, "#news", "Undone: adding")
    review.export()
    assert len(json.loads(written.out.read_text())["annotations"]) == 7


@pytest.mark.parametrize("options", SIZES)
def test_a_class_is_changed(
    visit: Callable[..., Any], served: tuple[str, Any, Case], options: dict[str, Any]
) -> None:
    address, review, _ = served
    page = visit(address, **options)
    press(page, "#class")
    choose_class(page, "ca")  # nothing begins so; the name has an umlaut
    shows(page, "#class-none", "no such class")
    choose_class(page, "cä")
    shows(page, "#name", "^cät$")
    shows(page, "#news", "Class: cät")
    assert review.item(4).category.id == CAT
    page.keyboard.press("h")
    shows(page, "#history-list", "Anna set the class")
    if options["size"] == PHONE:
        press(page, "#close-panel")
    press(page, "#undo")
    shows(page, "#name", "^dog$")
    page.keyboard.press("1")  # the last class that was used
    shows(page, "#name", "^cät$")
    press(page, "#accept")
    shows(page, "#facts", "annotation 2")
    assert review.item(4).state == "accepted"


@pytest.mark.parametrize("options", SIZES)
def test_a_vertex_is_moved_and_saved(
    visit: Callable[..., Any], served: tuple[str, Any, Case], options: dict[str, Any]
) -> None:
    address, review, written = served
    page = visit(address, **options)
    press(page, "[data-tool=vertices]")
    on_photo(page, (28, 35), (45, 45))  # the lower right corner
    shows(page, "#accept", "Save redrawn")
    press(page, "#accept")
    shows(page, "#facts", "annotation 2")
    assert review.item(4).state == "redrawn"
    review.export()
    row = {row["id"]: row for row in json.loads(written.out.read_text())["annotations"]}[4]
    bitmap, (x, y) = decode(row["segmentation"], (HEIGHT, WIDTH))
    assert bitmap[40 - y, 38 - x]
    left, top, width, height = row["bbox"]  # the box moved with the mask
    assert left + width >= x + bitmap.shape[1]
    assert top + height >= y + bitmap.shape[0]


@pytest.mark.parametrize("options", SIZES)
def test_clicks_refine_a_mask(
    visit: Callable[..., Any], served: tuple[str, Any, Case], options: dict[str, Any]
) -> None:
    address, review, _ = served
    page = visit(address, **options)
    press(page, "[data-tool=click]")
    page.keyboard.press("f")
    touch(page, (14.5, 12.5))
    shows(page, "#edit-text", "The model's mask")
    press(page, "#sign")
    shows(page, "#sign", "Outside")
    touch(page, (24.5, 30.5))
    touch(page, (14.5, 20.5))  # before the model has answered
    touch(page, (14.5, 20.5))  # a click on a point removes it
    signs = "desk.edit.state.clicks.map((click) => click.positive).join()"
    until(page, f"!desk.edit.asked && {signs} === 'true,false'")
    press(page, "#accept")
    shows(page, "#facts", "annotation 2")
    assert review.item(4).state == "accepted"
    bitmap, (x, y) = decode(review.item(4).mask.model_dump(), (HEIGHT, WIDTH))
    assert bitmap[12 - y, 14 - x]
    outside = not (0 <= 30 - y < bitmap.shape[0] and 0 <= 24 - x < bitmap.shape[1])
    assert outside or not bitmap[30 - y, 24 - x]


def test_a_box_follows_the_mask_that_was_made_for_another_object(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    address, review, _ = served
    page = visit(address)
    page.keyboard.press("x")
    on_photo(page, (40, 8), (60, 30))
    shows(page, "#edit-text", "The model's mask")
    page.keyboard.press("Enter")
    shows(page, "#facts", "annotation 2")
    assert review.item(4).box == pytest.approx((40, 8, 20, 22), abs=1.5)
    page.keyboard.press("x")
    on_photo(page, (16, 5), (16, 12))  # the upper side of 6, 5, 20, 30
    page.keyboard.press("Enter")
    shows(page, "#news", "Box saved")
    shows(page, "#facts", "the mask is of an earlier box.*annotation 2")
    assert review.item(1).box == pytest.approx((6, 12, 20, 23), abs=0.6)
    assert review.item(1).box_alone


def test_parts_are_split_and_merged_again(
    visit: Callable[..., Any], case: Cases, open_review: Callable[[Case], Any]
) -> None:
    two = {"size": [HEIGHT, WIDTH], "counts": columns((5, 13), (25, 33))}
    written = case([filled(1, segmentation=two, bbox=[5, 5, 28, 10], area=160)])
    review = open_review(written)
    with review_server(review) as server:
        page = visit(server.address)
        shows(page, "#facts", "2 parts")
        page.keyboard.press("k")
        shows(page, "#news", "Split into 2 objects")
        until(page, "desk.item.parts === 1")
        page.keyboard.press("j")
        until(page, "stage.scene.others[0]?.mask")
        page.keyboard.press("]")  # the other object
        page.keyboard.press("Enter")
        shows(page, "#news", "Merged")
        shows(page, "#facts", "2 parts")
        for what in ("merging", "splitting"):
            page.keyboard.press("Control+z")
            shows(page, "#news", f"Undone: {what}")
        assert review.item(0).parts == 2


def columns(*spans: tuple[int, int]) -> list[int]:
    """Returns runs of rows 5 to 14 in these columns of the photograph."""
    on = [any(a <= x < b for a, b in spans) for x in range(WIDTH)]
    bits = [on[x] and 5 <= y < 15 for x in range(WIDTH) for y in range(HEIGHT)]
    counts, last, run = [], False, 0
    for bit in bits:
        if bit == last:
            run += 1
        else:
            counts.append(run)
            last, run = bit, 1
    return [*counts, run]


def test_comments_history_and_what_others_do(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    address, _, _ = served
    page = visit(address)
    page.keyboard.press("t")
    page.fill("#comment-text", "Is the <tail> part of it?")
    page.keyboard.press("Control+Enter")
    shows(page, "#comment-list", "Anna.*Is the <tail> part of it.*Resolve")
    shows(page, "#comment-count", "1")
    page.click("#comment-list button")
    shows(page, "#comment-list", "Open again")
    shows(page, "#comment-count", "^$")
    another_rejects(visit, address)
    shows(page, "#state", "rejected")  # without a key of Anna's
    shows(page, "#facts", "rejected by Bob")
    page.click("#history-tab")
    shows(page, "#history-list", "Bob rejected it.*Anna commented")


def test_an_undo_that_another_reviewer_blocks_is_asked_about(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    address, review, _ = served
    page = visit(address)
    page.keyboard.press("a")
    shows(page, "#facts", "annotation 2")
    other = another_rejects(visit, address)
    other.wait_for_timeout(500)
    page.keyboard.press("u")
    shows(page, "#conflict-text", "Bob changed annotation 4 since")
    page.click("#leave")
    assert review.item(4).state == "rejected"


@contextmanager
def command(written: Case, model: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs halfmask review until the block ends, then kills it without a warning."""
    line = [sys.executable, "-m", "halfmask", "review", str(written.data), str(model)]
    line += ["--images", str(written.photos), "--port", str(port), "--out", str(written.out)]
    with subprocess.Popen(line) as server:
        try:
            wait_for(server, port)
            yield server
        finally:
            server.send_signal(signal.SIGKILL)


def wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server ended before it served")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("options", SIZES)
def test_ten_steps_are_undone_and_redone_over_a_kill_and_a_restart(
    visit: Callable[..., Any], case: Cases, tiny_segmenter: Path, options: dict[str, Any]
) -> None:
    written, port = case(), free_port()
    address = f"http://127.0.0.1:{port}/#4"
    with command(written, tiny_segmenter, port):
        page = visit(address, **options)
        shows(page, "#facts", "annotation 4")
        for number in range(8):  # the class of annotation 4, there and back
            press(page, "#class")
            choose_class(page, "cät" if number % 2 == 0 else "dog")
            shows(page, "#name", "^cät$" if number % 2 == 0 else "^dog$")
        for expected in ("annotation 2", "annotation 3"):
            press(page, "#accept")
            shows(page, "#facts", expected)
    journal = written.journal.read_bytes()
    with command(written, tiny_segmenter, port):  # after kill -9
        page.reload()
        page.wait_for_selector("body.ready")
        states = steps(page, "#undo", ["accepting"] * 2 + ["the change of class"] * 8)
        assert states[-1] == ("dog", "to review", "0 of 5")
        steps(page, "#redo", ["the change of class"] * 5, "Done again")
    with command(written, tiny_segmenter, port):
        page.reload()
        page.wait_for_selector("body.ready")
        redone = steps(page, "#redo", ["the change of class"] * 3 + ["accepting"] * 2, "Done again")
        assert redone[-1][2] == "2 of 5"
        press(page, "#redo")
        shows(page, "#news", "Nothing to redo")
    assert written.journal.read_bytes().startswith(journal)  # only ever appended to


def steps(page: Any, button: str, words: list[str], done: str = "Undone") -> list[tuple[str, ...]]:
    """Presses undo or redo once for each word; returns name, state and progress after each."""
    seen = []
    for word in words:
        page.evaluate("() => { document.querySelector('#news').textContent = '' }")
        press(page, button)
        shows(page, "#news", re.escape(f"{done}: {word}"))
        page.wait_for_function("() => !document.body.classList.contains('busy')")
        texts = [page.inner_text(f"#{name}") for name in ("name", "state", "progress-text")]
        seen.append(tuple(texts))
    return seen


@pytest.mark.parametrize("options", SIZES)
def test_everything_is_accepted_through_the_page(
    visit: Callable[..., Any], served: tuple[str, Any, Case], options: dict[str, Any]
) -> None:
    address, _, written = served
    page = visit(address, **options)
    for left in range(4, -1, -1):
        press(page, "#accept")
        shows(page, "#progress-text", f"{5 - left} of 5")
        page.wait_for_function("() => !document.body.classList.contains('busy')")
    shows(page, "#cover", "Everything is reviewed.*5 accepted")
    press(page, "#cover button")
    shows(page, "#news", "Written: reviewed.json .5 accepted")
    rows = json.loads(written.out.read_text())["annotations"]
    states = [row["halfmask"]["state"] for row in rows if "halfmask" in row]
    assert states == ["accepted"] * 5
