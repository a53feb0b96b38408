"""The site: its order, the reference made from the code, and that reading it asks no
other machine for anything.
"""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import halfmask
from halfmask.cli.main import VERBS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, whose emoji functions and the like are Python names."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda *_: None)


@pytest.fixture
def settings() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)
    return loaded


def pages_of(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [
        page
        for entry in (nav.values() if isinstance(nav, dict) else nav)
        for page in pages_of(entry)
    ]


def test_each_page_is_in_the_navigation_once(settings: dict[str, Any]) -> None:
    docs_hook = pytest.importorskip("docs_hook")
    named = pages_of(settings["nav"])
    there = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert len(named) == len(set(named))
    assert there <= set(named), "pages that nobody finds: name them in mkdocs.yml's nav"
    assert set(named) - there == {docs_hook.CLI_PAGE}


def test_nothing_is_fetched_from_elsewhere(settings: dict[str, Any]) -> None:
    assert settings["theme"]["font"] is False
    assert "extra_javascript" not in settings
    for name in settings["extra_css"]:
        assert (ROOT / "docs" / name).is_file()
        assert "url(" not in (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_landing_page_has_a_slider_over_a_picture_of_two_halves(
    settings: dict[str, Any],
) -> None:
    docs = ROOT / "docs"
    icon = docs / settings["theme"]["logo"]
    for copy in ("web/static/icon.svg", "assets/icon.svg"):  # of the served and written pages
        assert icon.read_bytes() == (ROOT / "halfmask" / copy).read_bytes(), copy
    assert settings["theme"]["favicon"] == settings["theme"]["logo"]
    page = (docs / "index.md").read_text(encoding="utf-8")
    assert page.count("<h1>") == 1
    pictures = re.findall(r'<img src="([^"]+)" alt="[^"]+">', page)
    assert len(pictures) == 2
    assert len(set(pictures)) == 1
    assert re.search(r'<input type="range"[^>]* aria-label="[^"]+" oninput=', page)
    for link in re.findall(r'href="([^"]+)\.html"', page):
        assert (docs / f"{link}.md").is_file(), link
    # The style sheet cuts the halves out: their width and height in the picture.
    style = (docs / "style.css").read_text(encoding="utf-8")
    half, height = re.search(r"aspect-ratio: (\d+) / (\d+)", style).groups()  # type: ignore[union-attr]
    picture = Image.open(docs / pictures[0])
    assert f"width: {100 * picture.width / int(half):.2f}%" in style
    gap = picture.width - 2 * int(half)
    assert 0 < gap < 40
    assert 0 < picture.height - int(height) < 60


def test_the_command_line_page_has_every_verb_and_option() -> None:
    docs_hook = pytest.importorskip("docs_hook")
    page = docs_hook.cli_reference()
    assert re.findall(r"^## (\S+)$", page, re.MULTILINE) == list(VERBS)
    complete = page.split("## complete\n")[1].split("\n## ")[0]
    assert "halfmask complete MODEL DATA [OPTIONS]" in complete
    assert "| `--out` | OUT | required |" in complete
    assert "| `--boxes` | `auto` `tight` `loose` | `auto` |" in complete
    assert "| `--workers` | N | `2` |" in complete
    for row in re.findall(r"^\|.*\|$", page, re.MULTILINE):
        assert len(re.findall(r"(?<!\\)\|", row)) in (3, 5), row


def test_the_readme_picture_is_small_and_credited() -> None:
    figures = ROOT / "docs" / "figures"
    picture = figures / "boxes_to_masks.jpg"
    assert picture.stat().st_size <= 250_000
    width, height = Image.open(picture).size
    assert (width, height <= 525) == (1280, True)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert picture.relative_to(ROOT).as_posix() in readme
    assert "docs/figures/CREDITS.md" in readme
    credits = (figures / "CREDITS.md").read_text(encoding="utf-8")
    for shown in [picture, *figures.glob("*.webp")]:
        assert f"`{shown.name}`" in credits, shown.name


def test_the_readme_is_at_most_90_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


def test_version_and_licence_agree_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == halfmask.__version__
    assert citation["license"] == "Apache-2.0"
    assert f"## {halfmask.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_pre_commit_fetches_nothing_and_runs_what_make_check_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    checked = re.findall(
        r"^\t\$\(BIN\)/(ruff \w+|mypy)",
        (ROOT / "Makefile").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    hooks = [
        re.match(r"\.venv/bin/(ruff \w+|mypy)", h["entry"]) for h in config["repos"][0]["hooks"]
    ]
    assert [h[1] for h in hooks if h] == checked


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path)))
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    fetched = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*stylesheet[^>]*https?://"
    )
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not fetched.search(text), page
        assert "fonts.g" not in text, page
    python = (tmp_path / "reference" / "python.html").read_text(encoding="utf-8")
    for name in ("load", "complete", "Predictor.segment", "Detection.rle"):
        assert "<p>Raises:" not in python
        assert re.search(rf'id="?halfmask\.[\w.]+\.{re.escape(name)}"?', python), name
