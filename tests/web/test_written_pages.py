"""Whether everybody can read the pages that commands write, and the site: axe-core's rules.

The pages scroll, so both sizes of a window are looked at in full.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import halfmask
from halfmask.pictures.report import (
    Bars,
    Compare,
    Headline,
    Link,
    Page,
    ReportSection,
    Strip,
    Table,
    write_report,
)
from tests.browser import needs_axe, serious_faults

from .browser import LOOKS, Look, window_of
from .conftest import Case

pytestmark = [pytest.mark.slow, needs_axe]
ROOT = Path(__file__).parents[2]
SITE = ("index", "start", "review", "integrations")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    out = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(out)))
    return out


def doctor(written: Case, _: Path) -> Path:
    page = written.folder / "doctor.html"
    halfmask.doctor(written.data, html=page)
    return page


def audit(written: Case, model: Path) -> Path:
    page = written.folder / "audit.html"
    halfmask.audit(written.data, images=written.photos, model=str(model), html=page)
    return page


def report(written: Case, _: Path) -> Path:
    picture = Image.fromarray(np.full((30, 40, 3), 90, np.uint8))
    pair = Compare(picture, picture, "cat", [Link("source", "https://example.org/")])
    page = Page(
        title="A run",
        lead="What it learned.",
        headlines=[Headline("51", "%", "IoU", "a note")],
        hero=pair,
        sections=[
            ReportSection(title="Pictures", compares=[pair], strips=[Strip([(picture, "a")], "s")]),
            ReportSection(title="Table", table=Table(["", "AP"], [["x", "1.0"]], "note", [0])),
            ReportSection(title="Plain", table=Table([], [["images", "3"]])),
            *(
                ReportSection(
                    title=f"Bars {n}",
                    bars=Bars(["a", "b"], [(f"cat {k}", "A", [0.5, None]) for k in range(n)], "%"),
                )
                for n in (2, 5)
            ),
        ],
        facts=[("version", "1")],
    )
    return write_report(page, written.folder / "report.html")


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
@pytest.mark.parametrize("write", [doctor, audit, report])
def test_a_page_that_a_command_writes(
    visit: Callable[..., Any],
    case: Callable[..., Case],
    tiny_segmenter: Path,
    write: Callable[[Case, Path], Path],
    look: Look,
) -> None:
    page = visit(write(case(), tiny_segmenter).as_uri(), None, **window_of(look))
    assert serious_faults(page) == {}
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".brand svg").count() == 1
    assert page.locator("th:empty").count() == 0


@pytest.mark.parametrize("look", LOOKS, ids=" ".join)
def test_the_site(visit: Callable[..., Any], site: Path, look: Look) -> None:
    found = {}
    for name in SITE:
        page = visit((site / f"{name}.html").as_uri(), None, **window_of(look))
        found[name] = serious_faults(page)
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name
    assert not any(found.values()), found
