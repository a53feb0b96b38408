"""The index of many annotations at once is, byte by byte, the one of each alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
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
from halfmask.masks.rle import rle_of

H, W = 40, 60


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


def bitmap(seed: int) -> Any:
    return np.random.default_rng(seed).random((9, 7)) < 0.4


RLE = rle_of(bitmap(0), (5, 6), (H, W))
RUNS = [100, 4, H * W - 104]
NUMBERS = st.integers(-5, 70) | st.floats(-5, 70) | st.floats(0, 40).map(lambda v: round(v, 2))
INSIDE = st.floats(0, H).map(lambda v: round(v, 2)) | st.integers(0, H)
BOX = st.tuples(INSIDE, INSIDE, INSIDE, INSIDE).map(list)
ODD: Any = st.sampled_from(
    [None, True, False, "7", "x", 7.0, 1.5, -1, 0, 10**18, 10**25, 1e300, [], {}, [[]], "", [1]]
)
SQUARE = st.tuples(INSIDE, INSIDE).map(
    lambda p: [p[0], p[1], p[0] + 9, p[1], p[0] + 9, p[1] + 9, p[0], p[1] + 9]
)
POLYGON = st.lists(INSIDE, min_size=6, max_size=14) | st.lists(NUMBERS, min_size=0, max_size=10)
PLAIN = st.lists(POLYGON | SQUARE, min_size=1, max_size=3)
COMPRESSED = st.integers(0, 9).map(lambda k: rle_of(bitmap(k), (k, 2 * k), (H, W)))
BROKEN = st.sampled_from(
    [
        RLE | {"size": [H, W + 1]},
        RLE | {"size": [float(H), W]},
        RLE | {"counts": RLE["counts"][:-1]},
        RLE | {"counts": RLE["counts"] + "0"},
        RLE | {"counts": ""},
        RLE | {"counts": "é"},
        RLE | {"counts": "~" + RLE["counts"]},
        RLE | {"counts": f"b'{RLE['counts']}'"},
        RLE | {"counts": None},
        RLE | {"all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]},
        {"counts": RUNS},
        {"size": [H, W], "counts": [*RUNS, 1]},
        {"size": [H, W], "counts": [-1, 1, H * W]},
        {"size": [H, W], "counts": [H * W]},
        {"size": [H, W], "counts": [H * W - 1.0, 1]},
        [RLE, RLE],
        [RLE, [1, 1, 9, 1, 9, 9]],
        [[[1, 1], [9, 1], [9, 9]]],
        [1, 1, 9, 1, 9, 9],
        [{"x": 1, "y": 1}, {"x": 9, "y": 1}, {"x": 9, "y": 9}],
        [None],
        [[1, 1, 9, None, 9, 9]],
        [[1, 1, 9, "1", 9, 9]],
        [[1, 1, 9, 1e308, 9, 9]],
        [[0, 0, 9, 0, 9, 9], [0, 0, 1]],
        "[[1, 1, 9, 1, 9, 9]]",
    ]
)
MASK = (
    PLAIN
    | COMPRESSED
    | BROKEN
    | ODD
    | st.just({"size": [H, W], "counts": RUNS})
    | st.just({"size": [H, W], "counts": [0, H * W]})
)
NOTE = ODD | st.sampled_from(
    [
        {"state": "filled", "score": 0.5},
        {"state": "accepted"},
        {"state": "rejected"},
        {"state": "redrawn"},
        {"state": "other"},
        {"state": None},
        {"state": 3},
        {"box": [1, 2, 3, 4]},
        {"state": "filled", "box": [1, 2, 3, 4]},
    ]
)
TURNED = ODD | st.sampled_from(
    [{"rotation": 0}, {"rotation": 30.5}, {"rotation": "1"}, {"occluded": False, "rotation": 0.0}]
)
ANNOTATION = st.fixed_dictionaries(
    {
        "id": st.integers(1, 99) | st.integers(1, 10**6) | ODD,
        "image_id": st.integers(1, 5) | ODD,
        "category_id": st.integers(1, 4) | ODD,
        "bbox": BOX | st.lists(NUMBERS, min_size=4, max_size=4) | ODD,
    },
    optional={
        "segmentation": MASK,
        "iscrowd": st.integers(0, 1) | ODD,
        "halfmask": NOTE,
        "attributes": TURNED,
        "caption": st.sampled_from(['a}, {"b', "]]", "\\", 'é"', "NaN", "\ud800", [{}, {}], {}]),
    },
)
SOUND = st.fixed_dictionaries(
    {
        "id": st.integers(1, 10**6),
        "image_id": st.integers(1, 3),
        "category_id": st.integers(1, 3),
        "bbox": st.tuples(INSIDE, INSIDE, st.floats(1, 20), st.floats(1, 20)).map(list),
    },
    optional={
        "segmentation": PLAIN | COMPRESSED,
        "iscrowd": st.integers(0, 1),
        "halfmask": st.sampled_from([{"state": "filled"}, {"state": "rejected"}]),
    },
)
IMAGE = st.fixed_dictionaries(
    {"id": st.integers(1, 5), "height": st.just(H), "width": st.just(W)},
    optional={"file_name": st.sampled_from(["a.jpg", "é.jpg", "", 5, None])},
)
FORMS = st.sampled_from(
    [{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False, "indent": 4}]
)


@st.composite
def files(draw: Any) -> bytes:
    """COCO files with sound and odd records, some with damaged bytes."""
    sound = draw(st.booleans())
    images = [{"id": k, "height": H, "width": W, "file_name": f"{k}.jpg"} for k in (1, 2, 3)]
    images += [] if sound else draw(st.lists(IMAGE | ODD, max_size=3))
    rows = draw(st.lists(SOUND if sound else SOUND | ANNOTATION, max_size=12))
    rows += [] if sound else draw(st.lists(ODD, max_size=1))
    document = {
        "images": images,
        "categories": [{"id": k, "name": f"c{k}"} for k in (1, 2, 3)],
        "annotations": rows,
        "info": {"a": [{"b": 1}, {"b": 2}]},
    }
    keys = draw(st.permutations(list(document)))
    text = json.dumps({key: document[key] for key in keys}, **draw(FORMS))
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from(DAMAGE))
    return bytes(data)


DAMAGE = [b"", b",", b"}", b"{", b"[", b"]", b'"', b"\0", b"\xff", b"NaN", b"-", b"1", b"\\", b"."]


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
