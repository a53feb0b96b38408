"""What the shell offers when a user presses Tab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from halfmask.cli.main import VERBS
from halfmask.formats import FORMATS
from halfmask.formats.convert import VISUAL_GENOME
from halfmask.formats.registry import READERS, WRITERS
from halfmask.recipes import shipped_recipes

PROGRAM = "import sys; sys.argv = ['halfmask']; from halfmask.cli.main import main; main()"


def offered(words: str) -> list[str]:
    """What bash gets for the last word."""
    asks = {"_HALFMASK_COMPLETE": "complete_bash", "COMP_WORDS": words}
    asks["COMP_CWORD"] = str(len(words.split(" ")) - 1)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | asks, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("halfmask ", list(VERBS)),
        ("halfmask comp", ["complete"]),
        ("halfmask --debug train world_t", ["world_transfer", "world_transfer_mlp"]),
        ("halfmask train --debug world_t", ["world_transfer", "world_transfer_mlp"]),
        ("halfmask train ", list(shipped_recipes())),
        ("halfmask train runs/mine", []),  # then the shell offers files
        ("halfmask convert to-v", ["to-voc"]),
        ("halfmask convert visual", ["visual-genome"]),
        ("halfmask evaluate m d --per", ["--per-category"]),
        ("halfmask export m --precision i", ["int8"]),
    ],
)
def test_bash(words: str, expected: list[str]) -> None:
    assert offered(words) == expected


def test_all_formats_are_offered() -> None:
    assert sorted(FORMATS) == sorted([*READERS, *WRITERS, VISUAL_GENOME])


def test_zsh_shows_whole_sentences() -> None:
    asks = {"_HALFMASK_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "halfmask "}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | asks, capture_output=True, text=True
    )
    assert done.stdout.startswith('_arguments \'*: :(("doctor":"Describes a data set')
    assert "..." not in done.stdout


def test_completion_loads_neither_torch_nor_numpy() -> None:
    program = PROGRAM.replace("main()", "\ntry: main()\nfinally: print(*sys.modules)")
    asks = {"_HALFMASK_COMPLETE": "complete_bash", "COMP_WORDS": "halfmask train w"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | asks | {"COMP_CWORD": "2"},
        capture_output=True,
        text=True,
    )
    assert {"world_transfer", "typer"} <= {*done.stdout.split()}
    assert not {"torch", "numpy", "fastapi", "matplotlib"} & {*done.stdout.split()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_accepts_the_script_and_uses_it(tmp_path: Path) -> None:
    """As a user: install the completion, open a new shell, press Tab."""
    program = tmp_path / "bin" / "halfmask"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom halfmask.cli.main import main\nmain()\n"
    )
    program.chmod(0o755)
    env = os.environ | {"HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    use = "COMP_WORDS=(halfmask train world_tr); COMP_CWORD=2; _halfmask_completion halfmask"
    script = (
        "halfmask --install-completion > installed.txt && source .bashrc && "
        f'{use} && echo "${{COMPREPLY[@]}}" && complete -p halfmask'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", f"cd && {script}; true"], env=env, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "world_transfer world_transfer_mlp",
        "complete -o default -F _halfmask_completion halfmask",
    ]
    assert "completion installed" in (tmp_path / "installed.txt").read_text()
