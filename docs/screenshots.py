"""Takes the pictures of docs/review.md.

python docs/screenshots.py needs the extra `dev` and Chromium. It removes the masks of the
shipped photographs, completes them with the shipped model, and opens both pages on them.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

import halfmask
from halfmask.web.review.app import review_server
from halfmask.web.review.review import Review
from halfmask.web.segmenting import Segmenter
from halfmask.web.tryout_app import tryout_server

FIGURES = Path(__file__).parent / "figures"
PHOTOS = Path(halfmask.__file__).parent / "assets" / "photos"
CC_BY = (
    "000000377575.jpg",
    "000000000285.jpg",
    "000000002473.jpg",
    "000000165518.jpg",
    "000000423617.jpg",
    "000000475678.jpg",
)
DOG, SAMPLE = 377575, "4 × car"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def main() -> None:
    with tempfile.TemporaryDirectory() as name, sync_playwright() as started:
        filled = complete(Path(name))
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        review = Review(
            filled,
            Segmenter("box-segmenter", device="cpu"),
            images=PHOTOS,
            journal=filled.with_suffix(".jsonl"),
            out=filled.with_name("reviewed.json"),
        )
        with review_server(review) as server:
            page = browser.new_context(viewport=DESK).new_page()
            begin(page, server.address, dog_in(filled))
            take(page, "review")
            page.keyboard.press("d")
            page.mouse.move(600, 420)
            page.wait_for_timeout(300)
            take(page, "review_redraw")
            page.goto(f"{server.address.rstrip('/')}/grid")
            page.wait_for_selector("body.ready")
            page.wait_for_timeout(1500)
            page.keyboard.press("Shift+ArrowRight")
            page.keyboard.press("Shift+ArrowRight")
            page.wait_for_timeout(300)
            take(page, "review_grid")
            context = browser.new_context(
                viewport=PHONE, has_touch=True, device_scale_factor=2, color_scheme="dark"
            )
            page = context.new_page()
            begin(page, server.address, dog_in(filled))
            take(page, "review_phone", 390)
        try_out(browser)
        review.close()


def try_out(browser: Browser) -> None:
    """Takes the picture of the try-out page: a sample with the masks of its boxes."""
    with tryout_server(Segmenter("box-segmenter", device="cpu")) as server:
        page = browser.new_context(viewport=DESK).new_page()
        page.goto(server.address)
        page.get_by_role("button", name=SAMPLE).click()
        page.get_by_role("button", name="Draw the masks of its").click()
        expect(page.locator("#list .wait")).to_have_count(0, timeout=240_000)
        page.wait_for_timeout(300)
        take(page, "tryout")


def complete(folder: Path) -> Path:
    """Returns the annotations of the photographs, with masks from the shipped model."""
    document = json.loads((PHOTOS / "photos.json").read_text())
    images = [image for image in document["images"] if image["file_name"] in CC_BY]
    ids = {image["id"] for image in images}
    rows = [row for row in document["annotations"] if row["image_id"] in ids]
    for row in rows:
        del row["segmentation"]
    boxes = folder / "boxes.json"
    boxes.write_text(json.dumps(document | {"images": images, "annotations": rows}))
    halfmask.complete("box-segmenter", boxes, images=PHOTOS, out=folder / "masks.json")
    return folder / "masks.json"


def dog_in(filled: Path) -> int:
    """Returns the position of the dog's annotation in the file."""
    rows = json.loads(filled.read_text())["annotations"]
    return next(
        k for k, row in enumerate(rows) if (row["image_id"], row["category_id"]) == (DOG, 18)
    )


def begin(page: Page, address: str, position: int) -> None:
    page.goto(f"{address}#{position}")
    page.fill("#name-input", "Anna")
    page.keyboard.press("Enter")
    page.wait_for_selector("body.ready")
    page.wait_for_timeout(800)


def take(page: Page, name: str, width: int = 1000) -> None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.thumbnail((width, 10_000))
    picture.save(FIGURES / f"{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
