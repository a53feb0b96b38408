"""A person's browser, and a command that serves a page, in a process of its own.

HALFMASK_AXE names axe-core's axe.min.js (npm install axe-core); it is not part of halfmask.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
AXE = Path(os.environ.get("HALFMASK_AXE", ""))
needs_axe = pytest.mark.skipif(
    not AXE.is_file(), reason="needs HALFMASK_AXE, the path of axe.min.js"
)


def serious_faults(page: Any) -> dict[str, list[str]]:
    """Returns what axe-core's rules find serious or critical: rule → elements."""
    if not page.evaluate("() => 'axe' in window"):
        page.add_script_tag(path=AXE)
    return {
        fault["id"]: [node["html"][:120] for node in fault["nodes"]]
        for fault in page.evaluate("() => axe.run()")["violations"]
        if fault["impact"] in ("serious", "critical")
    }


@contextmanager
def served(words: Sequence[str], folder: Path) -> Iterator[str]:
    """Runs a command as a user has it; gives the address that it prints."""
    command = [sys.executable, "-m", "halfmask", *words, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        found = next(filter(None, (re.match(r"open (http\S+)", line) for line in lines)), None)
        assert found is not None, "the server said no address"
        try:
            yield found[1]
        finally:
            server.terminate()


@contextmanager
def visited(address: str, name: str = "Anna") -> Iterator[Any]:
    """Opens a review page as a reviewer of this name."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(60_000)
        page.goto(address)
        page.fill("#name-input", name)
        page.keyboard.press("Enter")
        page.wait_for_selector("body.ready")
        yield page
        browser.close()
