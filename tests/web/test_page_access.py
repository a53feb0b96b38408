"""Whether everybody can use the review and its grid: axe-core's rules, names and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser import needs_axe, serious_faults

from .browser import LOOKS, Look, shows, window_of
from .conftest import Case

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
"""Keys, or buttons, that lead to each state of the page."""
GRID_STATES: dict[str, tuple[str, ...]] = {
    "masks": (),
    "selected": ("Shift+ArrowRight",),
    "accept above": ("t",),
    "class": ("Control+a", "c"),
    "delete": ("Control+a", "Delete"),
    "help": ("?",),
    "statistics": ("#statistics",),
}
WITHOUT_A_KEY = {"look-close", "open-panel", "close-panel", "export-narrow", "step-back"}
"""Buttons whose key is another button's, or Escape."""


@needs_axe
@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
@pytest.mark.parametrize(
    ("path", "states"), [("", STATES), ("grid", GRID_STATES)], ids=["one", "grid"]
)
def test_axe_finds_nothing_serious(
    visit: Callable[..., Any],
    served: tuple[str, Any, Case],
    path: str,
    states: dict[str, tuple[str, ...]],
    look: Look,
) -> None:
    found = {}
    page = visit(f"{served[0].rstrip('/')}/{path}", **window_of(look))
    for state, keys in states.items():
        page.reload()
        page.wait_for_selector("body.ready")
        for key in keys:
            if key.startswith("#"):
                page.dispatch_event(key, "click")  # a phone has it in the panel
            else:
                page.keyboard.press(key)
            page.wait_for_timeout(200)
        found[state] = serious_faults(page)
    assert not any(found.values()), found


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
