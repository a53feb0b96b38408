"""Which folders `train` takes over: those that a killed run left, and no other."""

from pathlib import Path

import pytest

from halfmask.files.kinds import RUN

RECIPE = "stages:\n- name: masks\n"


def written(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RECIPE if path.name == "recipe.yaml" else "{}")
    return folder


def test_a_first_training_that_was_killed_before_its_recipe(tmp_path: Path) -> None:
    for name in ("hidden", "teacher"):
        (tmp_path / name).mkdir()
        assert RUN.fits(tmp_path)


def test_a_run_that_was_killed_between_its_first_training_and_its_own(tmp_path: Path) -> None:
    files = ("hidden/recipe.yaml", "hidden/model.safetensors", "quality.json", "reliability.png")
    assert RUN.fits(written(tmp_path, *files))


@pytest.mark.parametrize(
    "files",
    [
        ("quality.json",),
        ("hidden/notes.txt",),
        ("teacher/recipe.yaml", "quality.json"),
        ("hidden/recipe.yaml", "notes.txt"),
        ("hidden/hidden/notes.txt",),
    ],
)
def test_a_folder_with_other_files_is_no_run(tmp_path: Path, files: tuple[str, ...]) -> None:
    assert not RUN.fits(written(tmp_path, *files))


def test_a_link_is_no_run(tmp_path: Path) -> None:
    other = written(tmp_path / "elsewhere", "recipe.yaml")
    run = tmp_path / "run"
    run.mkdir()
    (run / "hidden").symlink_to(other)
    assert not RUN.fits(run)
