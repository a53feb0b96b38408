"""What the tests of the pages share: a browser, a served review, and points on its photograph."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from halfmask.web.review.app import review_server
from tests.browser import BROWSER

from .conftest import HEIGHT, WIDTH, Case

DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
TOUCH = {"has_touch": True, "is_mobile": True}
SIZES = [pytest.param({"size": DESK}, id="desk"), pytest.param({"size": PHONE} | TOUCH, id="phone")]
"""Options of `visit`, for a test on both sizes."""
Look = tuple[str, str]
LOOKS: list[Look] = [(size, scheme) for size in ("desk", "phone") for scheme in ("light", "dark")]
MARGIN = 24  # of the photograph on the stage
CLOSEST = 40


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright (pip install 'halfmask[dev]')"
    )
    if BROWSER is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        # CI runs as root, where Chromium's sandbox refuses to start.
        launched = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a window of its own; at the end no page may have complained."""
    complaints: list[str] = []
    contexts = []

    def go(
        address: str, name: str | None = "Anna", size: dict[str, int] = DESK, **options: Any
    ) -> Any:
        # Without motion the picture is at once where the pointer expects it.
        context = chromium.new_context(viewport=size, **{"reduced_motion": "reduce"} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda line: complaints.append(line.text) if "Content Security" in line.text else None,
        )
        page.goto(address)
        if name:
            page.fill("#name-input", name)
            page.keyboard.press("Enter")
            page.wait_for_selector("body.ready")
        return page

    yield go
    for context in contexts:
        context.close()
    assert not complaints


@pytest.fixture
def served(
    case: Callable[..., Case], open_review: Callable[[Case], Any]
) -> Iterator[tuple[str, Any, Case]]:
    written = case()
    review = open_review(written)
    with review_server(review) as server:
        yield server.address, review, written


def window_of(look: Look) -> dict[str, Any]:
    """Returns the options of `visit` for one of LOOKS, in which axe may run."""
    size, scheme = look
    options: dict[str, Any] = {"size": PHONE} | TOUCH if size == "phone" else {"size": DESK}
    # The page's policy allows no other script than its own.
    return options | {"color_scheme": scheme, "bypass_csp": True}


def at(page: Any, point: tuple[float, float]) -> tuple[float, float]:
    """Returns where a point of the photograph is on the screen.

    The try-out page shows the whole 64 × 48 photograph; the review page says what it shows.
    """
    frame = page.locator("#stage").bounding_box()
    if page.locator("body.review").count():
        view = page.evaluate("async () => (await import('/static/desk.js')).stage.view")
        scale, left, top = view["scale"], frame["x"] + view["x"], frame["y"] + view["y"]
    else:
        across, down = frame["width"] - 2 * MARGIN, frame["height"] - 2 * MARGIN
        scale = min(across / WIDTH, down / HEIGHT, CLOSEST)
        left = frame["x"] + (frame["width"] - WIDTH * scale) / 2
        top = frame["y"] + (frame["height"] - HEIGHT * scale) / 2
    return left + point[0] * scale, top + point[1] * scale


def on_photo(page: Any, *points: tuple[float, float], steps: int = 6) -> None:
    """Drags from one point of the photograph to the next."""
    page.keyboard.press("f")  # the whole photograph
    for number, point in enumerate(points):
        page.mouse.move(*at(page, point), steps=steps)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    page.keyboard.press("f")


def press(page: Any, selector: str) -> None:
    """Presses a button, with a finger where the page is touched."""
    button = page.locator(selector)
    if page.evaluate("() => matchMedia('(pointer: coarse)').matches"):
        button.tap()
    else:
        button.click()


def another_rejects(visit: Callable[..., Any], address: str, position: int = 4) -> Any:
    """Lets Bob reject the annotation of a position, whose id it is, and returns his page."""
    page = visit(address, "Bob")
    page.evaluate(f"() => {{ location.hash = '#{position}' }}")
    shows(page, "#facts", f"annotation {position}")
    page.keyboard.press("r")
    return page


def shows(page: Any, selector: str, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_text(re.compile(text))


def until(page: Any, condition: str, seconds: float = 15.0) -> None:
    """Waits until an expression over `desk` and `stage` of the review page is true."""
    state = "const { desk, stage } = await import('/static/desk.js')"
    script = f"async () => {{ {state}; return Boolean({condition}) }}"
    end = time.monotonic() + seconds
    while not page.evaluate(script):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)
