"""The try-out page in a real browser, from the sample photographs to the downloads."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import halfmask
from halfmask.masks.crops import decode
from halfmask.masks.rle import overlap
from halfmask.web import tryout_app as module
from halfmask.web.segmenting import Segmenter
from halfmask.web.tryout_app import tryout_server
from halfmask.web.uploads import Uploads
from tests.browser import needs_axe, serious_faults

from .browser import DESK, LOOKS, PHONE, TOUCH, Look, on_photo, shows, window_of

pytestmark = pytest.mark.slow
SIZE = (48, 64)


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Uploads:
    made = Uploads()
    monkeypatch.setattr(module, "Uploads", lambda: made)
    return made


@pytest.fixture
def address(uploads: Uploads, tiny_segmenter: Path) -> Iterator[str]:
    with tryout_server(Segmenter(str(tiny_segmenter), device="cpu")) as server:
        yield server.address


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def open_photo(page: Any, photo: Path) -> None:
    page.set_input_files("#chosen", photo)
    page.locator("#drop").wait_for(state="hidden")
    page.locator("#tools [data-tool=box][aria-checked=true]").wait_for()


def draw(page: Any, name: str, *corners: tuple[float, float]) -> None:
    page.fill("#category", name)
    page.keyboard.press("Enter")  # back to the picture
    on_photo(page, *corners)


def drawn(page: Any, count: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#list > li")).to_have_count(count)
    expect(page.locator("#list .wait")).to_have_count(0, timeout=20_000)


def saved(page: Any, button: str, folder: Path) -> Path:
    with page.expect_download() as waiting:
        page.click(f"#{button}")
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_boxes_become_masks_and_files(
    visit: Callable[..., Any], address: str, photo: Path, tmp_path: Path, phone: bool
) -> None:
    page = visit(address, None, **({"size": PHONE} | TOUCH if phone else {"size": DESK}))
    open_photo(page, photo)
    assert page.locator("#classes option").count() == 3  # of the model
    draw(page, "DOG", (10, 10), (40, 40))
    draw(page, "my own", (30, 5), (60, 30))
    draw(page, "", (5, 5), (30, 40))
    drawn(page, 3)
    shows(page, "#list", "dog 1.*my own 2.*object 3")
    assert page.locator("#classes option").count() == 4
    document = json.loads(saved(page, "save-coco", tmp_path).read_text())
    assert document["categories"] == [
        {"id": 5, "name": "dog"},
        {"id": 8, "name": "my own"},
        {"id": 9, "name": "object"},
    ]
    rows = document["annotations"]
    assert [row["category_id"] for row in rows] == [5, 8, 9]
    for row in rows:
        assert row["area"] == int(decode(row["segmentation"], SIZE)[0].sum())
    with zipfile.ZipFile(saved(page, "save-yolo", tmp_path)) as archive:
        assert archive.read("images/train/photo.png") == photo.read_bytes()
        archive.extractall(tmp_path / "yolo")
    halfmask.convert("yolo", tmp_path / "yolo", tmp_path / "back.json")
    back = json.loads((tmp_path / "back.json").read_text())
    names = {category["id"]: category["name"] for category in back["categories"]}
    assert list(names.values()) == ["cat", "dog", "tree", "my own", "object"]
    assert [names[row["category_id"]] for row in back["annotations"]] == ["dog", "my own", "object"]
    for row, same in zip(rows, back["annotations"], strict=True):
        assert overlap(row["segmentation"], same["segmentation"], SIZE) == 1.0
    assert Image.open(saved(page, "save-overlay", tmp_path)).size == (64, 48)
    page.locator("#list button[aria-pressed=false]").first.click()
    shows(page, "#save-cutout", "Cut-out of one")
    cutout = np.asarray(Image.open(saved(page, "save-cutout", tmp_path)))
    bitmap, (x, y) = decode(rows[0]["segmentation"], SIZE)
    left, top = int(rows[0]["bbox"][0]), int(rows[0]["bbox"][1])
    seen = np.zeros(SIZE, dtype=bool)
    seen[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap.numpy()
    frame = seen[top : top + cutout.shape[0], left : left + cutout.shape[1]]
    assert np.array_equal(cutout[..., 3] > 0, frame)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_a_sample_brings_its_boxes(visit: Callable[..., Any], address: str, tmp_path: Path) -> None:
    page = visit(address, None)
    page.locator("#samples button").first.click()
    page.get_by_role("button", name="Draw the masks of its 2 boxes").click()
    drawn(page, 2)
    shows(page, "#list", "dog .*fire hydrant ")
    document = json.loads(saved(page, "save-coco", tmp_path).read_text())
    assert document["licenses"][0]["name"] == "CC BY 2.0"
    [image] = document["images"]
    assert (image["license"], image["flickr_url"].split("?")[0]) == (
        1,
        "https://www.flickr.com/photo.gne",
    )
    overlay = Image.open(saved(page, "save-overlay", tmp_path))
    assert overlay.height > image["height"]  # a strip below names the source


def test_boxes_are_typed_renamed_and_removed(
    visit: Callable[..., Any], address: str, photo: Path, tmp_path: Path
) -> None:
    page = visit(address, None)
    open_photo(page, photo)
    page.click(".typed summary")
    for text, fault in {
        "1 2 three": "Line 1: expected four numbers",
        "1 1 20 20\n5 5 0 9": "Line 2: width and height must be more than 0",
        "100 1 20 20": "outside the photograph, which has 64 × 48 pixels",
        "7 0.5 0.5 0.2 0.2": "class number 7, but the model has classes 0 to 2",
        "": "no box yet",
    }.items():
        page.fill("#typed", text)
        page.click("#typed-form button")
        shows(page, "#typed-fault", fault)
    page.fill("#typed", "5 5 30 30 tree\n1 0.5 0.5 0.5 0.5")
    page.click("#typed-form button")
    drawn(page, 2)
    shows(page, "#list", "tree 1.*dog 2")
    page.locator("#list button[aria-pressed]").first.click()
    page.fill("#list input", "cat")
    page.keyboard.press("Enter")
    page.locator("#stage").focus()
    shows(page, "#list", "cat 1.*dog 2")
    page.locator("#list .wait").wait_for(state="detached")
    page.keyboard.press("Delete")
    shows(page, "#list", "dog 1")
    [row] = json.loads(saved(page, "save-coco", tmp_path).read_text())["annotations"]
    assert row["bbox"] == [16, 12, 32, 24]


def test_a_photograph_that_is_gone_is_sent_again(
    visit: Callable[..., Any], address: str, photo: Path, uploads: Uploads, tmp_path: Path
) -> None:
    page = visit(address, None)
    open_photo(page, photo)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url.split("/api/")[-1]))
    uploads._held.clear()
    draw(page, "dog", (10, 10), (40, 40))
    drawn(page, 1)
    shows(page, "#list", "dog 1.*%")
    assert sent.count("photos") == 1
    uploads._held.clear()
    with zipfile.ZipFile(saved(page, "save-yolo", tmp_path)) as archive:
        assert "labels/train/photo.txt" in archive.namelist()


def test_faults_are_told_in_words(
    visit: Callable[..., Any], address: str, photo: Path, tmp_path: Path
) -> None:
    page = visit(address, None)
    broken = {"name": "cut.jpg", "mimeType": "image/jpeg", "buffer": b"\xff\xd8\xff"}
    page.set_input_files("#chosen", broken)
    shows(page, "#news", "cut.jpg cannot be opened as a photograph. Use a JPEG, PNG or WebP")
    for kind, data, words in (
        ("text/plain", b"words", "notes is not a photograph"),
        ("image/png", b"", "notes is empty"),
    ):
        page.set_input_files("#chosen", {"name": "notes", "mimeType": kind, "buffer": data})
        shows(page, "#news", words)
    large = tmp_path / "large.png"
    large.write_bytes(bytes((1 << 25) + 1))
    page.set_input_files("#chosen", large)
    shows(page, "#news", "large.png has 34 MB; at most 33 MB can be sent")
    open_photo(page, photo)
    answers = [(503, {"detail": "busy"}), (507, {"detail": "something is wrong"})]

    def answer(route: Any) -> None:
        if not answers:
            return route.continue_()
        status, body = answers.pop(0)
        return route.fulfill(status=status, json=body)

    page.route("**/segment", answer)
    draw(page, "dog", (10, 10), (40, 40))  # busy is asked again, another fault is told
    shows(page, "#list .fault", "something is wrong")
    page.get_by_role("button", name="Try again").click()
    page.locator("#list .fault").wait_for(state="detached")
    shows(page, "#list", "dog 1.*%")
    page.set_input_files("#chosen", photo)
    shows(page, "#replace-text", "The mask of photo.png will be gone")
    page.get_by_role("button", name="Stay here").click()
    shows(page, "#list", "dog 1")


def test_a_detector_finds_the_objects(
    visit: Callable[..., Any], tiny_segmenter: Path, tiny_detector: Path, photo: Path
) -> None:
    segmenter = Segmenter(str(tiny_segmenter), str(tiny_detector), device="cpu")
    with tryout_server(segmenter) as server:
        page = visit(server.address, None)
        open_photo(page, photo)
        page.locator("#cover").wait_for(state="hidden")
        page.fill("#least", "0")
        page.keyboard.press("Enter")
        page.locator("#list > li").first.wait_for()
        found = page.locator("#list > li").count()
        draw(page, "tree", (10, 10), (40, 40))
        drawn(page, found + 1)
        page.fill("#least", "1")
        page.click("#detect")  # boxes that were drawn by hand stay
        shows(page, "#news", "Nothing was found")
        shows(page, "#list", "tree 1")


@needs_axe
@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_axe_finds_nothing_serious(
    visit: Callable[..., Any], address: str, photo: Path, look: Look
) -> None:
    page = visit(address, None, **window_of(look))
    page.locator("#samples img").first.wait_for()
    found = {"empty": serious_faults(page)}
    open_photo(page, photo)
    found["a photograph"] = serious_faults(page)
    draw(page, "dog", (10, 10), (40, 40))
    drawn(page, 1)
    page.click(".typed summary")
    page.click("#typed-form button")
    found["a mask"] = serious_faults(page)
    page.keyboard.press("Escape")
    page.locator("#stage").focus()
    page.keyboard.press("?")
    found["help"] = serious_faults(page)
    assert not any(found.values()), found
