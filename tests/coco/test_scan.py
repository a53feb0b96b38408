"""Items of a COCO file and the bytes they are."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.errors import InputError
from halfmask.web.review import index as scanning
from halfmask.web.review.index import LISTS, Scan

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
DOCUMENTS = st.fixed_dictionaries(
    {key: st.lists(VALUES, max_size=5) for key in sorted(LISTS)},
    optional={"info": VALUES, "ü": VALUES},
)


def read(path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {key: [] for key in LISTS}
    raw, scan = path.read_bytes(), Scan(path)
    for item in scan:
        assert json.loads(raw[item.start : item.end]) == item.value
        found[item.list].append(item.value)
    assert scan.digest == hashlib.sha256(raw).hexdigest()
    return found


@settings(max_examples=40, deadline=None)
@given(
    document=DOCUMENTS,
    block=st.integers(1, 60),
    indent=st.sampled_from([None, 2]),
    ascii_only=st.booleans(),
    order=st.randoms(),
)
def test_every_item_is_found_with_its_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    document: dict[str, Any],
    block: int,
    indent: int | None,
    ascii_only: bool,
    order: Any,
) -> None:
    items = list(document.items())
    order.shuffle(items)
    try:
        text = json.dumps(dict(items), indent=indent, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        return
    path = tmp_path_factory.getbasetemp() / "scan.json"
    path.write_bytes(b"\xef\xbb\xbf" * (block % 2) + text + b"\n " * (block % 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "BLOCK", block)
        assert read(path) == {key: document[key] for key in LISTS}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found something else"),
        ("[]", "found something else"),
        ('{"images": [], "annotations": []}', "categories are not there"),
        ('{"images": [], "images": [], "annotations": [], "categories": []}', "images twice"),
        ('{"images": {}, "annotations": [], "categories": []}', "expected ["),
        ('{"images": [], "categories": [], "annotations": [{"id": 1}, {"id"', "cut short"),
        ('{"images": [], "categories": [], "annotations": [{"id": 1}', "cut short"),
        (
            '{"images": [], "categories": [], "annotations": [{"id": 1,, "a": 2}, {"b": 3}]}'
            + " " * 200,
            "something else",
        ),
        ('{"images": ' + "[" * 100_000, "found something else, or|recursion"),
        ('{"images": [], "categories": [{"name": "\udcff"}], "annotations": []}', "UTF-8"),
        ("{1: 2}", "no text"),
    ],
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        InputError, match=said.replace("[", r"\[") if said == "expected [" else said
    ) as raised:
        list(Scan(path))
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json.*No such file"):
        list(Scan(tmp_path / "absent.json"))
