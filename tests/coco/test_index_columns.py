"""The index of many annotations at once is, byte by byte, the one of each alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.coco.index import build, decode, spool
from halfmask.coco.index.decode import Decoded, decode_records
from halfmask.coco.index.format import Source
from halfmask.coco.index.images import IndexImages
from halfmask.coco.index.rows import AnnotationRows
from halfmask.coco.reading import conventions
from halfmask.coco.scan import lists
from halfmask.coco.scan.lists import scan_lists
from halfmask.errors import InputError
from tests.coco.odd_files import RLE, RUNS, H, W, files


def one_by_one(key: str, text: bytes, spans: Any, *, is_guess: bool) -> None:
    """Leaves everything to Python's JSON reader and to the rules for one annotation."""


def index_of(path: Path, out: Path, many: bool) -> bytes | str:
    """The bytes of the index, or the words with which the file is refused."""
    with pytest.MonkeyPatch.context() as patch:
        if not many:
            patch.setattr(spool, "decode_records", one_by_one)
        try:
            build.write_index(path, out, Source.of(path))
        except InputError as error:
            return str(error)
        return out.read_bytes()


@settings(max_examples=60, deadline=None)
@given(
    data=files(),
    chunk=st.sampled_from([64, 300, 1000, 4 << 20]),
    fewest=st.sampled_from([1, 3, 64]),
    compared=st.sampled_from([0, 2, 5, 2000]),
)
def test_equals_the_index_of_each_alone(
    tmp_path_factory: Any, data: bytes, chunk: int, fewest: int, compared: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "columns.json"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "CHUNK", chunk)
        patch.setattr(decode, "_FEWEST", fewest)
        patch.setattr(conventions, "_COMPARED", compared)
        many = index_of(path, folder / "many.arrow", many=True)
        assert many == index_of(path, folder / "each.arrow", many=False)


def sound_file(path: Path, rows: int) -> None:
    """Annotations as COCO and halfmask write them: polygons, RLE, crowds, notes, boxes."""
    polygon = [[5, 6, 25.5, 6, 25.5, 30.25, 5, 30]]
    kinds: list[dict[str, Any]] = [
        {"segmentation": polygon, "bbox": [5, 6, 30, 24]},
        {"segmentation": RLE, "bbox": [5, 6, 7, 9]},
        {"segmentation": {"size": [H, W], "counts": RUNS}, "iscrowd": 1},
        {"segmentation": RLE, "halfmask": {"state": "filled", "score": 0.5, "of": {"a": []}}},
        {"attributes": {"occluded": False, "rotation": 0.0}},
        {"segmentation": [[*polygon[0], 4, 12], [1, 1, 9, 1, 9, 9]], "caption": 'a "b", {c} é'},
        {"segmentation": []},
    ]
    base = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30.5, 20], "iscrowd": 0}
    annotations = [base | {"id": k + 1} | kinds[k % len(kinds)] for k in range(rows)]
    document = {
        "images": [{"id": 1, "height": H, "width": W, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "c"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


@pytest.mark.parametrize("chunk", [700, 4 << 20])
def test_what_is_as_in_coco_is_never_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    path = tmp_path / "a.json"
    sound_file(path, 70)
    expected = index_of(path, tmp_path / "each.arrow", many=False)
    monkeypatch.setattr(lists, "CHUNK", chunk)
    monkeypatch.setattr(AnnotationRows, "_row", None)
    monkeypatch.setattr(IndexImages, "_add_each", None)
    assert index_of(path, tmp_path / "many.arrow", many=True) == expected


@pytest.mark.parametrize(
    "odd",
    [
        '{"id": 1, "score": NaN}',
        '{"id": 1, "score": -Infinity}',
        '{"id": 1, "id": 2}',
        '{"id": 1.0}',
        '{"id": 1, "iscrowd": true}',
        '{"id": 1, "note": "\\ud800"}',
        '{"id": 1, "n": ' + "9" * 4400 + "}",
        '{"id": 1} {"id": 2}',
        '{"id": 1}, 5, {"id": 2}',
        '{"id": 1},, {"id": 2}',
        '{"id": 1, "a": [{"b": 1}, {"c": 2}]}',
        '{"id": 1, "a": "}, {"}',
        '{"id": 1, "a": "\\"}, {"}',
        '{"id": 1, "a": "x\t"}',
        '{"id": 1, "a": ' + "[" * 300 + "]" * 300 + "}",
    ],
)
def test_text_that_readers_take_in_different_ways(tmp_path: Path, odd: str) -> None:
    """Arrow accepts some of these, and Python does not, or reads something else."""
    text = f' {{"id": 7}}, {{"id": 8}}, {odd}, {{"id": 9}}]'
    expected: list[Any] | None
    try:
        expected = json.loads(f"[{text}")
    except ValueError:
        expected = None
    path = tmp_path / "a.json"
    path.write_text(f'{{"images": [], "categories": [], "annotations": [{text}}}')
    found: list[Any] = []
    try:
        for batch in scan_lists(path, lambda key: key == "annotations", decode=decode_records):
            decoded = batch.decoded
            items = batch.items
            if isinstance(decoded, Decoded):
                items = [decoded.item(k) for k in range(len(decoded.spans))]
                for group in decoded.groups:
                    rows = [items[k] for k in group.rows.tolist()]
                    assert group.table.column("id").to_pylist() == [row["id"] for row in rows]
            assert batch.first == len(found)
            found += items
    except InputError:
        assert expected is None
    else:
        assert expected is not None
        assert repr(found) == repr(expected)
