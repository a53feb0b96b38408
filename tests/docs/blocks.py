"""The fenced blocks of a page, and how a reader would run them."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main

from halfmask.cli.main import app

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) "
    r"-->\n)?^```(?P<language>\w*)(?P<info>[^\n]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the file, relative to the repository.
        line: of its fence.
        language: of its fence: sh, python, yaml, text or none.
        title: a file's name, where the block is a file's text.
        reason: why it is not run; empty where it is.
    """

    page: str
    line: int
    language: str
    title: str
    reason: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match["info"])
        line = text[: match.start("language")].count("\n") + 1
        name = page.relative_to(ROOT).as_posix()
        found.append(
            Block(
                name,
                line,
                match["language"],
                title[1] if title else "",
                match["reason"] or "",
                match["code"],
            )
        )
    return found


def command_lines(code: str) -> list[str]:
    """The lines of a shell block, continued lines joined, comments and empty lines left out."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def halfmask_words(line: str) -> list[str] | None:
    """The words behind `halfmask` where a line is such a call, without comment,
    redirection and what follows; else None.
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    while words and re.fullmatch(r"\w+=\S*", words[0]):  # VARIABLE=value before the command
        words = words[1:]
    if len(words) < 2 or words[0] != "halfmask":
        return None
    ends = [k for k, word in enumerate(words) if word in ("&", "|", ">", "&&", ";")]
    return words[1 : ends[0]] if ends else words[1:]


def check_command(words: list[str]) -> None:
    """Raises where a verb, an option or a value that has fixed choices does not exist,
    or an argument is missing.
    """
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if words == ["--version"]:
        return
    assert words[0] in commands, f"halfmask {words[0]}: no such verb"
    elided = "…" in words
    given = [word for word in words[1:] if word != "…"]
    commands[words[0]].make_context(words[0], given, resilient_parsing=elided)


def run_block(block: Block, folder: Path, names: dict[str, Any]) -> None:
    """Runs a block in `folder`, which is the current one, as a reader would; `names`
    are the page's Python names so far.
    """
    if block.title:
        (folder / block.title).write_text(block.code, encoding="utf-8")
    elif block.language == "python":
        exec(compile(block.code, block.place, "exec"), names)  # the page's own code
    elif block.language == "sh":
        for line in command_lines(block.code):
            _run_line(line, block, folder)


def _run_line(line: str, block: Block, folder: Path) -> None:
    words = halfmask_words(line)
    if words is None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            ["bash", "-ec", line], cwd=folder, check=True, env={**os.environ, "PATH": path}
        )
        return
    code = app(args=words, standalone_mode=False)  # in this process: torch is loaded once
    assert code in (None, 0), f"{block.place}: `{line}` ended with {code}"


def parse_python(block: Block) -> None:
    """Raises SyntaxError."""
    ast.parse(block.code, block.place)
