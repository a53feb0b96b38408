"""The Dockerfile's steps, without a container engine: parsed, and run in a virtual environment."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Step = tuple[str, str]


def steps() -> list[Step]:
    """(instruction, its text), continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def of(instruction: str) -> list[str]:
    return [text for word, text in steps() if word == instruction]


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file or folder of the root into the image."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(path, line.removeprefix("!")):
            kept = line.startswith("!")
    return kept


def test_what_it_copies_exists_and_is_in_the_context() -> None:
    sources = [name for text in of("COPY") for name in text.split()[:-1]]
    assert sources
    for name in sources:
        assert (ROOT / name).exists(), name
        assert in_context(name), name
    assert not in_context("tests")
    assert not in_context(".git")


def test_it_copies_what_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sources = {name for text in of("COPY") for name in text.split()[:-1]}
    assert {project["readme"], *project["license-files"], "halfmask"} <= sources


def test_it_starts_halfmask_as_a_user_without_rights() -> None:
    [command] = map(json.loads, of("ENTRYPOINT"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert command == ["halfmask"]
    assert command[0] in project["scripts"]
    [user] = of("USER")
    assert user not in ("root", "0")
    assert any(f" {user}" in text and text.startswith("useradd") for text in of("RUN"))
    words = [word for word, _ in steps()]
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")


def test_cuda_is_an_argument_and_off() -> None:
    assert "CUDA=0" in of("ARG")


@pytest.mark.slow
def test_its_steps_install_halfmask(tmp_path: Path) -> None:
    """RUN in a new environment and a copy of what COPY names; `useradd` is left out.

    The dependencies are those of this environment: downloading 6 GB takes minutes.
    """
    reached = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", tmp_path, "defusedxml"],
        capture_output=True,
    )
    if reached.returncode:
        pytest.skip("needs a package index")
    work, environment = tmp_path / "context", tmp_path / "venv"
    for text in of("COPY"):
        *sources, target = text.split()
        for name in sources:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            place = work / target / (name if target.endswith("./") else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / name, place)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env = clean | {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "CUDA": "1"}
    env["PYTHONPATH"] = sysconfig.get_path("purelib")
    for text in of("RUN"):
        if not text.startswith("useradd"):
            subprocess.run(["sh", "-ec", text], cwd=work, env=env, check=True)
    command = [str(environment / "bin" / json.loads(of("ENTRYPOINT")[0])[0])]
    for verb in ("--version", "serve --help", "review --help"):
        subprocess.run(command + verb.split(), cwd=tmp_path, env=env, check=True)
