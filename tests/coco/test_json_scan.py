"""The scanner finds what json.loads finds, in whatever pieces the file comes, and
refuses what it refuses.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.coco.records import LISTS
from halfmask.coco.scan import lists as json_scan
from halfmask.coco.scan import state
from halfmask.coco.scan.lists import scan_lists
from halfmask.errors import InputError

TEXTS = st.text(st.sampled_from('a"\\{}[],:é\n'), max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def scanned(path: Path, keys: tuple[str, ...] = LISTS) -> dict[str, list[Any]]:
    """The items by list; checks positions and spans on the way."""
    whole, digest = path.read_bytes(), hashlib.sha256()
    found: dict[str, list[Any]] = {}
    for batch in scan_lists(path, lambda key: key in keys, on_chunk=digest.update):
        items = found.setdefault(batch.key, [])
        assert batch.first == len(items)
        assert len(batch.spans) == len(batch.items)
        for item, (start, end) in zip(batch.items, batch.spans, strict=True):
            if isinstance(item, dict | list):
                assert json.loads(whole[start:end]) == item
            else:
                assert (start, end) == (-1, -1)
        items += batch.items
    assert digest.digest() == hashlib.sha256(whole).digest()
    return found


@settings(max_examples=150, deadline=None)
@given(
    root=st.dictionaries(TEXTS, VALUES, max_size=3),
    lists=st.lists(st.lists(VALUES, max_size=5), min_size=3, max_size=3),
    order=st.permutations(range(3)),
    chunk=st.integers(1, 40),
    form=st.sampled_from([{"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}]),
)
def test_equals_json_whatever_the_pieces(
    tmp_path_factory: Any, root: Any, lists: Any, order: Any, chunk: int, form: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "scan.json"
    names = [LISTS[k] for k in order]
    document = {k: v for k, v in root.items() if k not in LISTS} | dict(
        zip(names, lists, strict=True)
    )
    path.write_text(json.dumps(document, **form), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_scan, "CHUNK", chunk)
        assert scanned(path) == {key: document[key] for key in names if document[key]}


GOOD = '{"info": {"a": "]}"}, "images": [{"id": 1}, {"id": 2}], "n": 1, "annotations": [{"id": 3}, 7], "categories": []}'


@pytest.mark.parametrize("chunk", [1, 7, 4 << 20])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("}, {", "} {"),
        ("}, {", "},, {"),
        ("}, {", "}, ] {"),
        ("}], ", "},], "),
        ("}], ", "}} , "),
        (', "n"', ' "n"'),
        ('"n": 1, ', '"n": 1 '),
        ('"n": 1', '"n": tru'),
        ('"n": 1', '"images": []'),
        ("[]}", "[],}"),
        ("[]}", "[]} x"),
        ("[]}", "[]}{}"),
        ("[]}", "["),
        ("[]}", '["'),
        ('{"info"', '5 {"info"'),
        ('"id": 3', '"id": 3x'),
        ('"id": 3', '"id": "\xff"'),
        ('"id": 1', '"id": '),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(
    tmp_path: Path, chunk: int, old: str, new: str
) -> None:
    path = tmp_path / "bad.json"
    assert old in GOOD
    path.write_bytes(GOOD.replace(old, new, 1).encode("latin-1"))
    with pytest.raises(ValueError):
        json.loads(path.read_bytes().decode()) if new != '"images": []' else int("twice")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_scan, "CHUNK", chunk)
        with pytest.raises(
            InputError, match=r"bad.json: expected a COCO JSON file, .*near byte \d+"
        ):
            scanned(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("[{}]", "found a list"),
        ("{}", "images and annotations and categories are missing; found no keys at all"),
        (
            '{"images": null, "annotations": [], "categories": {}}',
            "images and categories are missing; found 'images'",
        ),
        ('{"a": 1}', "found 'a'"),
        ("7", "ends early"),
        ('"{}"', "ends early"),
        ('{"images": ' + "[" * 100_000, "ends early"),
        ("{1: 2}", "near byte"),
    ],
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        scanned(path)


def test_lists_that_are_not_wanted_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text("\ufeff" + GOOD)
    assert scanned(path, ("images",)) == {"images": [{"id": 1}, {"id": 2}]}


def test_an_endless_item_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.json"
    path.write_text('{"images": [{"a": "' + "x" * 5000)
    monkeypatch.setattr(json_scan, "CHUNK", 100)
    monkeypatch.setattr(state, "LONGEST", 1000)
    with pytest.raises(InputError, match="an item of more than"):
        scanned(path)
