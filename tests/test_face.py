"""The Python face: `import halfmask` is light, shows every function, and each takes what its verb takes."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import halfmask
from halfmask.cli.main import VERBS
from halfmask.errors import InputError

HEAVY = {
    "torch",
    "torchvision",
    "lightning",
    "numpy",
    "matplotlib",
    "PIL",
    "hotcoco",
    "scipy",
    "tensorboard",
    "pyarrow",
}
TWINS = sorted(verb.replace("-", "_") for verb in VERBS if verb != "demo")

NOT_OPTIONS = {"progress", "overrides"}
"""Arguments of functions that no verb has as an option, or under another name."""
SCREEN = {"evaluate": {"per_category"}}
"""Options of a verb that only say what it prints."""
ONLY_PYTHON = {"train": {"report", "resume_command"}}
"""Arguments of a function that the command line always sets alike."""


def test_the_face_shows_its_functions() -> None:
    assert {*TWINS, "load", "InputError", "__version__"} <= set(dir(halfmask))
    for name in dir(halfmask):
        assert getattr(halfmask, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        halfmask.trian  # noqa: B018


def test_the_face_imports_nothing_heavy() -> None:
    code = f"import sys, halfmask; dir(halfmask); print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str) -> None:
    """Start-up is guarded by what is loaded, not by seconds."""
    code = f"""
import sys
sys.argv = ["halfmask", *{verb.split()!r}, "--help"]
from halfmask.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", sorted(set(sys.modules) & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize("name", TWINS)
def test_a_function_takes_what_its_verb_takes(name: str) -> None:
    run = importlib.import_module(VERBS[name.replace("_", "-")]).run
    verb = inspect.signature(run).parameters
    function = inspect.signature(getattr(halfmask, name)).parameters
    assert set(verb) - SCREEN.get(name, set()) == (
        set(function) - NOT_OPTIONS - ONLY_PYTHON.get(name, set()) | (set(verb) & NOT_OPTIONS)
    )
    for key in set(verb) & set(function):
        asked, given = verb[key].default, function[key].default
        if asked is not inspect.Parameter.empty and given is not inspect.Parameter.empty:
            assert (asked or None) == (given or None), key


@pytest.mark.parametrize("name", TWINS)
def test_a_function_says_what_it_does_and_raises(name: str) -> None:
    text = inspect.getdoc(getattr(halfmask, name)) or ""
    assert text.split("\n")[0].endswith(".")
    assert "InputError" in text


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("load", {"model": "no such model"}),
        ("load", {"model": 3}),
        ("add_class", {"run": "no such run", "data": "no.json", "out": "o"}),
        ("add_class", {"run": "box-segmenter", "data": "no.json", "out": "o"}),
        ("complete", {"model": "box-segmenter", "data": "no.json", "images": ".", "out": "o.json"}),
        ("convert", {"format": "yolo", "source": "nowhere", "out": "o.json"}),
        ("convert", {"format": "no such format", "source": ".", "out": "o.json"}),
        ("doctor", {"data": "no.json"}),
        ("evaluate", {"model": "box-segmenter", "data": "no.json", "images": "."}),
        ("export", {"model": "no such model", "out": "o"}),
        ("import_weights", {"kind": "no such kind", "source": "a", "out": "b"}),
        ("index", {"data": "no.json"}),
        ("predict", {"model": "box-segmenter", "images": ["no.jpg"], "out": "o"}),
        ("review", {"data": "no.json", "images": "."}),
        ("serve", {"model": "no such model"}),
        ("split", {"data": "no.json", "masked": "voc", "out": "o.json"}),
        ("synth", {"folder": "o", "image_count": 0}),
        ("tighten", {"data": "no.json", "out": "o.json"}),
        ("train", {"recipe": "no such recipe", "out": "o"}),
        ("train", {"recipe": 3, "out": "o"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_input_errors(
    name: str, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        getattr(halfmask, name)(**arguments)
    assert list(tmp_path.iterdir()) == []
