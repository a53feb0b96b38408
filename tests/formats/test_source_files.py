"""File names stay below their folder; files and folders appear completely or not at all."""

from pathlib import Path

import pytest

from halfmask.errors import InputError
from halfmask.files.atomic import new_file
from halfmask.files.folders import new_folder
from halfmask.formats.source_files import leads_out


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../../b",
        "/a",
        "\\a",
        "..\\a",
        "C:\\a",
        "c:a",
        "a\x00b",
        "a\nb",
        "\ud800",
        "\\\\host\\a",
    ],
)
def test_names_that_lead_out(name: str) -> None:
    assert leads_out(name)


@pytest.mark.parametrize(
    "name", ["a", "a.jpg", "a/b.jpg", "a\\b.jpg", "..a", "a..b/c", "ü ß.png", "./a"]
)
def test_names_that_do_not(name: str) -> None:
    assert not leads_out(name)


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    for make in (new_folder, new_file):
        with pytest.raises(ValueError, match="no"), make(tmp_path / "out"):
            raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_outputs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for make in (new_folder, new_file):
        with (
            pytest.raises(InputError, match="cannot write here"),
            make(tmp_path / "file" / "below"),
        ):
            pass
    with pytest.raises(InputError, match="already exists"), new_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "mine"
