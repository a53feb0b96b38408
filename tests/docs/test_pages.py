"""Every code block and command of the documentation: it runs, or says why it does not
and at least exists.
"""

import sys
from pathlib import Path

import pytest
import yaml

from halfmask.cli.main import VERBS
from halfmask.recipes.recipe import parse_recipe, shipped_recipes

sys.path.insert(0, str(Path(__file__).parent))
from blocks import (
    ROOT,
    Block,
    blocks_of,
    check_command,
    command_lines,
    halfmask_words,
    parse_python,
    run_block,
)

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ["docs/start.md", "docs/one_page.md", "docs/deploy.md", "docs/reference/python.md"]
RUN += [p.relative_to(ROOT).as_posix() for p in sorted((ROOT / "docs" / "guides").glob("*.md"))]
QUICK = {"docs/guides/write_a_head.md"}
"""Pages without a network to load or to train: run by default."""


WITH_A_BROWSER = {"docs/guides/yolo_to_cvat.md"}
"""tests/docs/test_whole_way.py runs it."""


def _blocks(pages: list[Path]) -> list[Block]:
    return [block for page in pages for block in blocks_of(page)]


COMMANDS = [
    (block.place, words)
    for block in _blocks(PAGES)
    for line in command_lines(block.code)
    if (words := halfmask_words(line)) is not None
]


def test_pages_have_commands() -> None:
    assert len(COMMANDS) > 60
    assert {words[0] for _, words in COMMANDS} >= set(VERBS)


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[f"{p} {w[0]}" for p, w in COMMANDS])
def test_each_command_exists_with_its_options(place: str, words: list[str]) -> None:
    check_command(words)
    if words[0] == "train" and words[1].startswith(("coco_", "world_", "vg3k_", "composites_")):
        assert words[1] in shipped_recipes(), (
            f"{place}: no recipe {words[1]} ships with the package"
        )


@pytest.mark.parametrize(
    "words",
    [["complet", "a", "b"], ["complete", "a", "b", "--imagse", "c"], ["complete", "a"], ["bench"]],
)
def test_a_command_that_does_not_exist_is_found(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|missing"):
        check_command(words)


@pytest.mark.parametrize("page", RUN)
def test_each_block_is_run_or_says_why_not(page: str) -> None:
    blocks = blocks_of(ROOT / page)
    assert any(b.language in ("sh", "python") and not b.reason for b in blocks), (
        f"{page}: nothing on it is run"
    )
    for block in blocks:
        assert block.language in ("sh", "python", "yaml", "text"), (
            f"{block.place}: name the block's language"
        )
        if block.language == "python":
            parse_python(block)
        if block.language == "yaml":
            assert block.title, (
                f'{block.place}: a recipe needs title="FILE", so that commands can use it'
            )
            parse_recipe(yaml.safe_load(block.code), block.place)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parent != ROOT], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_what_is_not_run_says_why(page: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    for block in blocks_of(page):
        if block.language == "python":
            parse_python(block)
        if name not in RUN and block.language in ("", "sh", "python"):
            assert block.reason, (
                f"{block.place}: put <!-- not run: REASON --> before it, or the page into RUN"
            )


def _run_page(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if page != "docs/start.md":  # whose reader makes these two
        names: dict[str, object] = {}
        for block in [b for b in blocks_of(ROOT / "docs/start.md") if not b.reason][:2]:
            run_block(block, folder, names)
    (folder / "examples").symlink_to(ROOT / "examples")
    names = {"__name__": page}
    for block in blocks_of(ROOT / page):
        if not block.reason:
            run_block(block, folder, names)


@pytest.mark.parametrize("page", sorted(QUICK))
def test_quick_pages_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run_page(page, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in RUN if p not in QUICK | WITH_A_BROWSER])
def test_pages_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run_page(page, tmp_path, monkeypatch)
    if page == "docs/start.md":
        assert len(list((tmp_path / "found" / "overlays").iterdir())) == 12


def test_readme_python_is_six_lines_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_segmenter: Path
) -> None:
    """With a small model instead of the shipped one, in a folder that looks like the clone."""
    block = next(b for b in blocks_of(ROOT / "README.md") if b.language == "python")
    assert len([line for line in block.code.splitlines() if line.strip()]) == 6
    (tmp_path / "halfmask").symlink_to(ROOT / "halfmask")
    monkeypatch.chdir(tmp_path)
    code = block.code.replace("box-segmenter", str(tiny_segmenter))
    exec(compile(code, block.place, "exec"), {})
