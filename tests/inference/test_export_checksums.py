"""An export says by itself whether its files are what was written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.errors import InputError
from halfmask.files.kinds import EXPORT
from halfmask.inference.export.checksums import check_export, digest_of, sealed


def write(folder: Path) -> Path:
    """A folder with the names of an export; checksums do not depend on what a graph is."""
    folder.mkdir(exist_ok=True)
    for name in ("segment", "detect"):
        (folder / f"{name}.onnx").write_bytes(name.encode() * 9)
    files = {path.name: digest_of(path) for path in folder.glob("*.onnx")}
    report = {"categories": [{"name": 'ä "sha256": "'}], "opset": 18, "graphs": {}, "files": files}
    (folder / "model.json").write_text(sealed(report), encoding="utf-8")
    return folder


def test_an_export_as_it_was_written(tmp_path: Path) -> None:
    report = check_export(write(tmp_path))
    assert report == json.loads((tmp_path / "model.json").read_text())
    assert set(report["files"]) == {"segment.onnx", "detect.onnx"}
    EXPORT.check(tmp_path, "--out")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_each_flipped_bit_is_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write(tmp_path_factory.getbasetemp() / "flipped")
    path = folder / data.draw(st.sampled_from(["model.json", "segment.onnx", "detect.onnx"]))
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[place // 8] ^= 1 << place % 8
    path.write_bytes(whole)
    with pytest.raises(InputError, match=path.name if path.suffix == ".onnx" else "model.json"):
        check_export(folder)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "detect.onnx").unlink(), "detect.onnx cannot be read"),
        (lambda f: (f / "other.onnx").write_bytes(b"x"), "other.onnx is not of this export"),
        (lambda f: (f / "model.json").unlink(), "model.json: cannot be read"),
        (lambda f: (f / "model.json").write_text('{"opset": 18}'), "without checksums"),
        (lambda f: (f / "model.json").write_text(""), "without checksums"),
    ],
)
def test_what_is_missing_or_not_of_it_is_named(
    harm: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path)
    harm(folder)
    with pytest.raises(InputError, match=message):
        check_export(folder)
