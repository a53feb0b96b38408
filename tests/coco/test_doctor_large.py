"""`doctor` says the same of a file that it reads in one pass and of one in memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.scale.annotations_data import write_annotations
from halfmask.coco.doctor.diagnosis import diagnose
from halfmask.coco.doctor.large import pairs
from halfmask.coco.doctor.large.examine import Examined, examine, examine_in_memory
from halfmask.coco.index import decode, spool
from halfmask.coco.reading import conventions
from halfmask.coco.scan import keys, lists
from halfmask.errors import InputError
from tests.coco.odd_files import ANNOTATION, FORMS, ODD, SOUND, H, W, files

NAMES = st.sampled_from(["dog", "Dog", "dog ", "cat", "é\nü"])
AREA = st.sampled_from([0, 5, 29.96, 30, 900.5, -3, None, True, "7", 10**30, 1e300])
EXTRA = st.fixed_dictionaries(
    {},
    optional={
        "area": AREA,
        "iscrowd": st.sampled_from([0, 1, 1, 2, -1, None]),
        "bbox": st.sampled_from([[5, 5, 20, 15], [5, 5.0, 20, 15], [-9, 2, 100, 30], [1, 1, 2, 9]]),
        "segmentation": st.sampled_from([[[6, 6, 24, 6, 24, 19, 6, 18]], [[5, 5, 24, 6, 23, 19]]]),
        "id": st.integers(1, 4),
    },
)
ROW = st.tuples(SOUND | SOUND | SOUND | ANNOTATION, EXTRA).map(lambda pair: pair[0] | pair[1])
TWICE = st.sampled_from(
    [
        ("", ""),
        ('"bbox":', '"image_id": 2, "bbox":'),
        ('"bbox":', '"area": {"a": 1}, "bbox":'),
        ('"id":', '"id" : 1, "i\\u0064":'),
        ('"info":', '"info": 5, "info":'),
        ('"name":', '"name": "x", "name":'),
        ('"b":', '"b": NaN, "b":'),
    ]
)


@st.composite
def worlds(draw: Any) -> bytes:
    """COCO files of few images with all that `doctor` reports."""
    images: list[Any] = [{"id": k, "height": H, "width": W, "file_name": f"{k}"} for k in (3, 1, 2)]
    images += draw(st.lists(st.sampled_from([{"id": 9, "width": 0}, images[0]]), max_size=2))
    rows = draw(st.lists(ROW, max_size=14))
    rows += draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []
    rows += draw(st.lists(ODD, max_size=1))
    document = {
        "images": images,
        "categories": [{"id": k, "name": draw(NAMES)} for k in (1, 3, 2)],
        "annotations": rows,
        "info": {"a": [{"b": 1}, {"b": 2}]},
    }
    keys = draw(st.permutations(list(document)))
    text = json.dumps({key: document[key] for key in keys}, **draw(FORMS))
    return text.replace(*draw(TWICE), draw(st.integers(1, 3))).encode("utf-8", "surrogatepass")


def said(examined: Examined) -> tuple[str, dict[str, int]]:
    diagnosis = diagnose(examined.numbers, examined.findings)
    text = "".join(diagnosis.json_texts())
    assert text == json.dumps(diagnosis.to_json(), indent=1)
    assert [p.kind for p in diagnosis.problems] == [p.kind for p in diagnosis.problems[:]]
    return text, examined.counts


@settings(max_examples=150, deadline=None)
@given(
    data=worlds() | files(),
    chunk=st.sampled_from([64, 300, 1000, 4 << 20]),
    fewest=st.sampled_from([1, 3, 64]),
    compared=st.sampled_from([0, 2, 5, 2000]),
    layouts=st.sampled_from([1, 16]),
)
@example(b'{"images": [], "categories": [], "annotations": []}', 64, 1, 0, 1)
def test_says_the_same_as_in_memory(
    tmp_path_factory: Any, data: bytes, chunk: int, fewest: int, compared: int, layouts: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "doctor.json"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conventions, "_COMPARED", compared)
        try:
            expected = said(examine_in_memory(path, "f.json"))
        except InputError:
            with pytest.raises(InputError):
                examine(path, "f.json")
            return
        patch.setattr(lists, "CHUNK", chunk)
        patch.setattr(spool, "BYTES_A_PART", chunk)
        patch.setattr(decode, "_FEWEST", fewest)
        patch.setattr(keys, "_LAYOUTS", layouts)
        patch.setattr(pairs, "_PAIRS", fewest)
        assert said(examine(path, "f.json")) == expected


def peak_mib(path: Path) -> float:
    """Peak memory of a process that examines a file, with its libraries."""
    code = (
        "import resource, sys; from pathlib import Path; "
        "from halfmask.coco.doctor.large.examine import examine; "
        "examine(Path(sys.argv[1]), 'f.json'); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_memory_hardly_grows_with_the_annotations(tmp_path: Path) -> None:
    """In memory, 200 000 annotations more take half a gigabyte."""
    few, many = tmp_path / "few.json", tmp_path / "many.json"
    write_annotations(few, 200_000)
    write_annotations(many, 400_000)
    assert peak_mib(many) - peak_mib(few) < 100
