"""`split` and `convert` write the same through the index of a file as from memory."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import halfmask
from halfmask.coco import large
from halfmask.coco.index.place import index_path
from halfmask.errors import InputError
from halfmask.formats.registry import WRITERS
from tests.coco.odd_files import ANNOTATION, FORMS, ODD, SOUND, H, W

VERBS = ("split", *WRITERS)


@st.composite
def worlds(draw: Any) -> bytes:
    """COCO files with sound and odd annotations, in several orders of their keys."""
    sound = draw(st.booleans())
    document = {
        "images": [
            {"id": k, "height": H, "width": W, "file_name": f"{k}.jpg", "split": "train"}
            for k in (3, 1, 2)
        ],
        "annotations": draw(st.lists(SOUND if sound else SOUND | ANNOTATION | ODD, max_size=9)),
        "categories": [{"id": k, "name": f"c{k}"} for k in (1, 3, 2)],
        "info": {"version": 1.50, "é": [{}, {"a": []}]},
        "licenses": [],
    }
    keys = draw(st.permutations(list(document)))
    text = json.dumps({key: document[key] for key in keys}, **draw(FORMS))
    return text.encode("utf-8", "surrogatepass")


def written(verb: str, data: Path, out: Path) -> tuple[Any, dict[str, bytes]]:
    """What a verb returns, and the files that it writes; of a refused file, the verb."""
    try:
        if verb == "split":
            done: Any = halfmask.split(data, masked="c1,c3", out=out).to_json()
        else:
            done = halfmask.convert(verb, data, out).to_json()
    except InputError:
        return verb, {}  # the two readers describe damaged text in different words
    files = [out] if out.is_file() else sorted(p for p in out.rglob("*") if p.is_file())
    found = {str(path.relative_to(out.parent)): path.read_bytes() for path in files}
    return json.loads(json.dumps(done).replace(str(out), "OUT")), found


@pytest.mark.parametrize("verb", VERBS)
def test_writes_the_same_as_from_memory(tmp_path_factory: Any, verb: str) -> None:
    @settings(max_examples=30, deadline=None)
    @given(data=worlds())
    def check(data: bytes) -> None:
        folder = tmp_path_factory.mktemp("large")
        path = folder / "data.json"
        path.write_bytes(data)
        out = folder / "memory" / "out"
        expected = written(verb, path, out)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(large, "is_indexed", lambda path: True)
            assert written(verb, path, folder / "index" / "out") == expected
            assert index_path(path).is_file() or not expected[1]

    check()
