"""Whether everybody can use the review page: axe-core's rules, names and keys.

HALFMASK_AXE names axe-core's axe.min.js (npm install axe-core); it is not part of halfmask.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .browser import DESK, PHONE, TOUCH, shows
from .conftest import Case

AXE = Path(os.environ.get("HALFMASK_AXE", ""))
STATES: dict[str, tuple[str, ...]] = {
    "a mask": (),
    "a change": ("b", ".", "d"),
    "clicks": ("c",),
    "a new object": ("i",),
    "look": ("y",),
    "classes": ("l",),
    "history": ("h",),
    "comments": ("t",),
    "help": ("?",),
    "a name": ("Shift+W",),
}
"""Keys that lead to each state of the page."""
WITHOUT_A_KEY = {"look-close", "open-panel", "close-panel", "export-narrow", "step-back"}
"""Buttons whose key is another button's, or Escape."""


@pytest.mark.slow
@pytest.mark.skipif(not AXE.is_file(), reason="needs HALFMASK_AXE, the path of axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
def test_axe_finds_nothing_serious(
    visit: Callable[..., Any], served: tuple[str, Any, Case], phone: bool, scheme: str
) -> None:
    found = {}
    # axe is added to the page by its policy's leave only here.
    options = {"size": PHONE} | TOUCH if phone else {"size": DESK}
    page = visit(served[0], **options, color_scheme=scheme, bypass_csp=True)
    for state, keys in STATES.items():
        page.reload()
        page.wait_for_selector("body.ready")
        for key in keys:
            page.keyboard.press(key)
            page.wait_for_timeout(100)
        page.add_script_tag(path=AXE)
        results = page.evaluate("() => axe.run()")
        for fault in results["violations"]:
            if fault["impact"] in ("serious", "critical"):
                found[state, fault["id"]] = [node["html"][:120] for node in fault["nodes"]]
    assert found == {}


def test_every_button_has_a_name_and_a_key_that_the_help_lists(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    page = visit(served[0])
    buttons = page.evaluate(
        """() => [...document.querySelectorAll('main button, header button, header a')]
        .filter((button) => !button.closest('#list, #recent'))
        .map((button) => [button.id || button.dataset.tool, (button.ariaLabel
          || button.textContent).trim(), button.getAttribute('aria-keyshortcuts') || ''])"""
    )
    assert len(buttons) > 40
    page.keyboard.press("?")
    shows(page, "#help-title", "Help")
    listed = {text.replace("Ctrl", "Control").upper() for text in listed_keys(page)}
    names = {"DELETE": "DEL", "ESCAPE": "ESC"}
    for key, name, shortcuts in buttons:
        assert name, key
        assert shortcuts or key in WITHOUT_A_KEY or key.endswith("-tab"), key
        for shortcut in shortcuts.upper().split():
            assert names.get(shortcut, shortcut) in listed, (key, shortcut)


def listed_keys(page: Any) -> list[str]:
    keys: list[str] = page.locator("#keys kbd").all_inner_texts()
    return keys


@pytest.mark.slow
def test_a_polygon_is_drawn_by_keys_alone(
    visit: Callable[..., Any], served: tuple[str, Any, Case]
) -> None:
    page = visit(served[0])
    page.keyboard.press("g")
    for key in ("Shift+ArrowRight", "Shift+ArrowDown", "Shift+ArrowLeft"):
        page.keyboard.press(key)
        page.keyboard.press(key)
        page.keyboard.press(" ")
    page.keyboard.press("Enter")
    shows(page, "#accept", "Save redrawn")
    page.keyboard.press("Escape")
    page.keyboard.press("i")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press(" ")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press(" ")
    shows(page, "#edit-text", "New dog: The model's mask")
