"""From a YOLO folder with partial polygons to reviewed masks in YOLO and CVAT, by the
guide's own commands, with a person's browser.
"""

import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.browser import BROWSER, served, visited

sys.path.insert(0, str(Path(__file__).parent))
from blocks import ROOT, blocks_of, command_lines, halfmask_words, run_block

PAGE = ROOT / "docs" / "guides" / "yolo_to_cvat.md"
playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright (pip install 'halfmask[dev]')"
)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium (apt-get install chromium)")
def test_the_guide_from_its_first_line_to_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "guide"}
    for block in blocks_of(PAGE):
        if not block.reason:
            run_block(block, tmp_path, names)
            continue
        (line,) = command_lines(block.code)
        words = halfmask_words(line)
        assert words is not None
        with served(words, tmp_path) as address:
            review(address)

    before, after = labels(tmp_path / "dataset"), labels(tmp_path / "dataset_masks")
    assert before.keys() == after.keys()
    assert {n: len(rows) for n, rows in before.items()} == {
        n: len(rows) for n, rows in after.items()
    }
    drawn = [row for rows in before.values() for row in rows if is_polygon(row)]
    boxes = sum(len(rows) for rows in before.values()) - len(drawn)
    assert len(drawn) > 5, "the folder has polygons and boxes"
    assert boxes > 20
    left = [row for rows in after.values() for row in rows if not is_polygon(row)]
    assert len(left) == 1, "what was rejected is a box again, and everything else has a polygon"

    reviewed = json.loads((tmp_path / "dataset_filled" / "halfmask.reviewed.json").read_text())[
        "annotations"
    ]
    states = [a["halfmask"]["state"] for a in reviewed if "halfmask" in a]
    assert {s: states.count(s) for s in set(states)} == {
        "accepted": 2,
        "rejected": 1,
        "filled": boxes - 3,
    }
    shapes = list(ET.parse(tmp_path / "masks.xml").getroot().iter())
    noted = [s.text for s in shapes if s.tag == "attribute" and s.get("name") == "halfmask_state"]
    assert noted.count("accepted") >= 2
    assert "filled" in noted


def review(address: str) -> None:
    """Accepts the two worst masks, and rejects the third."""
    with visited(address) as page:
        for number, key in enumerate("aar"):
            seen = page.locator("#facts").text_content()
            page.keyboard.press(key)
            wanted = re.compile(f"{number + 1} of")
            playwright.expect(page.locator("#progress-text")).to_have_text(wanted, timeout=30_000)
            playwright.expect(page.locator("#facts")).not_to_have_text(
                seen, timeout=30_000
            )  # no mask is judged unseen


def labels(folder: Path) -> dict[str, list[str]]:
    return {
        p.relative_to(folder).as_posix(): p.read_text().splitlines()
        for p in sorted(folder.rglob("labels/**/*.txt"))
    }


def is_polygon(row: str) -> bool:
    return len(row.split()) > 6
