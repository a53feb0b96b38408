"""read_blobs: Detectron's pickles by Python 2 and 3, and nothing that could run."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.errors import InputError
from halfmask.models.backbones.blobs import read_blobs

BLOBS = {
    "conv1_w": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv1_w_momentum": np.ones((2, 3, 2, 2), dtype=np.float32),
    "fc6_b": np.array([1.5, -2.0, 300.0], dtype=np.float32),
}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def same(found: dict[str, Any]) -> None:
    assert set(found) == {"conv1_w", "fc6_b"}
    for name, blob in found.items():
        assert blob.dtype == np.float32
        assert blob.flags.writeable
        np.testing.assert_array_equal(blob, BLOBS[name])


def test_python_2(tmp_path: Path, python2_pickle: Callable[[Any], bytes]) -> None:
    data = python2_pickle({"blobs": BLOBS, "cfg": "MODEL:\n  NUM_CLASSES: 81\n"})
    assert b"numpy.core.multiarray\n_reconstruct" in data
    loaded = pickle.loads(data, encoding="latin1")  # our writer writes what Python reads
    np.testing.assert_array_equal(loaded["blobs"]["conv1_w"], BLOBS["conv1_w"])
    same(read_blobs(written(tmp_path / "m.pkl", data)))


@pytest.mark.parametrize("protocol", range(6))
def test_python_3(tmp_path: Path, protocol: int) -> None:
    same(
        read_blobs(
            written(tmp_path / "m.pkl", pickle.dumps({"blobs": BLOBS, "cfg": "x"}, protocol))
        )
    )


def test_the_older_layout_and_an_ordered_one(tmp_path: Path) -> None:
    same(
        read_blobs(
            written(tmp_path / "a.pkl", pickle.dumps({**BLOBS, "cfg": "x", "gone": None}, 2))
        )
    )
    same(
        read_blobs(
            written(tmp_path / "b.pkl", pickle.dumps(OrderedDict(blobs=OrderedDict(BLOBS)), 2))
        )
    )


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8", ">f8", "<i8", ">i4", "|u1", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_kinds_of_numbers(tmp_path: Path, kind: str, order: Any) -> None:
    array = np.array(np.arange(12).reshape(3, 4) % 5, dtype=kind, order=order)
    for protocol in (2, 5):
        found = read_blobs(written(tmp_path / "m.pkl", pickle.dumps({"a": array}, protocol)))["a"]
        np.testing.assert_array_equal(found, array.astype(np.float32))


class Sly:
    """Pickles to a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Name → pickle that would make the file `ran` if it ran, and what is refused."""
    ran = folder / "ran"
    shell = Sly(os.system, f"touch {ran}")
    line = f"touch {ran}".encode()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    return {
        "call": (pickle.dumps({"blobs": shell}, 2), r"posix\.system"),
        "deep": (pickle.dumps({"blobs": {"a": [({"b": [shell]},)]}}, 4), r"posix\.system"),
        "key": (pickle.dumps({(1, shell): 2}, 2), r"posix\.system"),
        "in a state": (
            b"\x80\x02}U\x01a"
            + array
            + b"(cposix\nsystem\nU"
            + bytes([len(line)])
            + line
            + b"tRbs.",
            r"posix\.system",
        ),
        "eval": (b"c__builtin__\neval\n(S'1'\ntR.", r"__builtin__\.eval"),
        "getattr": (b"cbuiltins\ngetattr\n.", r"builtins\.getattr"),
        "instance": (b"(S'touch'\niposix\nsystem\n.", r"posix\.system"),
        "object": (b"(cos\nsystem\nS'x'\no.", r"os\.system"),
        "dotted": (
            b"\x80\x04\x8c\x05numpy\x8c\x11dtype.__class__.x\x93.",
            r"numpy\.dtype\.__class__\.x",
        ),
        "loads": (b"cnumpy\nload\n(S'x'\ntR.", r"numpy\.load"),
        "scalar of objects": (
            b"cnumpy.core.multiarray\nscalar\n.",
            r"numpy\.core\.multiarray\.scalar",
        ),
        "new": (b"\x80\x02csubprocess\nPopen\n)\x81.", r"subprocess\.Popen"),
        "persistent": (b"Pabc\n.", "outside itself"),
        "module": (b"\x80\x02cos\nsystem\n.", r"os\.system"),
        "torch": (
            b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
            r"torch\.storage\._load_from_bytes",
        ),
    }


@pytest.mark.parametrize("name", list(hostile(Path("/x"))))
def test_hostile_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    data, refused = hostile(tmp_path)[name]
    with pytest.raises(InputError, match=refused) as error:
        read_blobs(written(tmp_path / "bad.pkl", data))
    assert "bad.pkl" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def test_the_hostile_pickle_does_run_in_pickle_itself(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    pickle.loads(hostile(tmp_path)["deep"][0])
    assert (tmp_path / "ran").exists()


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
DTYPE = b"cnumpy\ndtype\n"


def state(shape: bytes, data: bytes, dtype: bytes = DTYPE + b"(U\x02f4tR") -> bytes:
    return (
        b"\x80\x02}U\x01a"
        + RECONSTRUCT
        + b")R(K\x01"
        + shape
        + dtype
        + b"\x89U"
        + bytes([len(data)])
        + data
        + b"tbs."
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (state(b"(K\x03t", b"12345678"), "shape does not fit"),
        (state(b"(J\xff\xff\xff\xfft", b""), "shape does not fit"),
        (state(b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft", b"1234"), "shape does not fit"),
        (state(b"K\x02", b"12345678"), "shape does not fit"),
        (state(b"(K\x02t", b"12345678", DTYPE + b"(U\x02O8tR"), "elements of type 'O8'"),
        (state(b"(K\x02t", b"12345678", DTYPE + b"(NtR"), "elements of type 'NoneType'"),
        (state(b"(K\x02t", b"12345678", NDARRAY), "elements of type"),
        (b"\x80\x02}U\x01a" + NDARRAY + b"(K\x05tRs.", "expected an array"),
        (b"\x80\x02}U\x01a" + NDARRAY + b"s.", "expected an array, found a bare name"),
        (b"\x80\x02}U\x01a" + RECONSTRUCT + b")Rs.", "expected an array"),
        (b"\x80\x02}U\x01a" + DTYPE + b")\x81s.", "expected an array"),
        (b"\x80\x02}U\x01aU\x01bs.", "expected an array, found str"),
        (b"\x80\x02" + DTYPE + b"}U\x01aU\x01bsb.", "cannot|not a pickle"),
        (b"\x80\x02ccollections\nOrderedDict\n}U\x01aU\x01bsb.", "not a pickle"),
        (b"\x80\x02]K\x01a.", "expected a dictionary of blobs"),
        (b"\x80\x02}K\x01K\x02s.", "expected a dictionary of blobs"),
        (b"", "not a pickle"),
        (b"PK\x03\x04 a zip file", "not a pickle|outside"),
        (b"\x80\x02" + b"(" * 5, "not a pickle"),
    ],
)
def test_damaged_pickles(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_blobs(written(tmp_path / "bad.pkl", data))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_blobs(tmp_path / "none.pkl")


GOOD = pickle.dumps({"blobs": {"a": np.ones(3, dtype=np.float32)}}, 2)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_any_damage_is_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    path = written(tmp_path_factory.getbasetemp() / "fuzz.pkl", bytes(data))
    try:
        blobs = read_blobs(path)
    except InputError:
        return
    assert all(isinstance(blob, np.ndarray) for blob in blobs.values())
