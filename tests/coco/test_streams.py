"""Large files piece by piece: items in, annotations out, and nothing half written."""

import json
from pathlib import Path
from typing import Any

import pytest

from halfmask.coco.stream import CocoStream
from halfmask.errors import InputError
from halfmask.formats.json_stream import stream_items

ITEMS: list[Any] = [{"a": 1, "b": [1.5, None, "ü\n"]}, 3, [], {"c": {}}]


@pytest.mark.parametrize("indent", [None, 2])
def test_items_are_json_s(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "list.json"
    path.write_text("\n " + json.dumps(ITEMS, indent=indent))
    read: list[int] = []
    found = list(stream_items(path, progress=read.append))
    assert found == ITEMS
    assert isinstance(found[0]["b"][0], float)
    assert 0 < sum(read) <= path.stat().st_size
    path.write_text(json.dumps({"images": [{"id": 4}, {"id": 9}], "other": [{"id": 5}]}))
    assert list(stream_items(path, "images.item.id")) == [4, 9]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": []}', "expected a JSON list, found a JSON object"),
        (b"", "expected a JSON list, found something else"),
        (b"PK\x03\x04", "found something else"),
        (b'[{"a": 1}, {"b"', "cut short"),
        (b"[1, 2", "cut short"),
        (b"[1, nonsense]", "not JSON"),
        (b'["\xff\xfe"]', r"not JSON|UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_list(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "list.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        list(stream_items(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("head", [{}, {"info": {"x": "ü"}, "categories": [{"id": 1, "name": "a"}]}])
def test_what_is_written_is_the_document(tmp_path: Path, rows: int, head: dict[str, Any]) -> None:
    path = tmp_path / "new" / "out.json"
    images, annotations = (
        [{"id": i} for i in range(rows)],
        [{"id": i, "bbox": [0.1, 2, 3, 4]} for i in range(rows)],
    )
    with CocoStream(path, head, images) as stream:
        for row in annotations:
            stream.add(row)
        assert not path.exists()
    assert json.loads(path.read_text(encoding="utf-8")) == {
        **head,
        "images": images,
        "annotations": annotations,
    }
    assert [p.name for p in path.parent.iterdir()] == ["out.json"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")

    def fail() -> None:
        with CocoStream(path, {}, []) as stream:
            stream.add({"id": 1})
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    with pytest.raises(InputError, match="cannot write here"):
        CocoStream(path / "below.json", {}, [])
