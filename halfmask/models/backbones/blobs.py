"""Reads the pickles of Caffe2's Detectron as data: arrays, text and plain containers.

A pickle is a program. Here none of its names is looked up: stand-ins store the parts of
an array, which become a NumPy array after all of them are checked. Any other name in a
pickle is an error.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.errors import InputError

MOMENTUM = "_momentum"
"""Ending of the optimiser's state, which is not part of the model."""
NUMBERS = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})
"""Types of numbers that are read."""
MOST_SIDES = 8
"""Largest number of an array's dimensions."""

Blobs = dict[str, NDArray[np.float32]]


def read_blobs(path: str | Path) -> Blobs:
    """Returns the blobs of a Detectron model file without momentum.

    Args:
        path: a pickle of `{"blobs": {name: array}, "cfg": text}`, or of the older
            `{name: array}`, by Python 2 or 3.
    Returns:
        Name → float32 array.
    Raises:
        InputError: no such file, not a pickle, another layout, or a name in it that
            belongs neither to an array nor to a plain container.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a Detectron model (model_final.pkl)")
    try:
        with path.open("rb") as file:
            document = _Reader(file, str(path)).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle makes its reader raise nearly anything
        raise InputError(
            f"{path}: not a pickle that can be read ({type(error).__name__}); expected a "
            "Detectron model (model_final.pkl)"
        ) from error
    blobs = document.get("blobs", document) if isinstance(document, dict) else None
    if not isinstance(blobs, dict) or not all(isinstance(name, str) for name in blobs):
        raise InputError(f"{path}: expected a dictionary of blobs by name, found {_kind(document)}")
    return {
        name: _array(blob, f"{path}: {name}")
        for name, blob in blobs.items()
        if not name.endswith(MOMENTUM) and blob is not None
        if not (name == "cfg" and isinstance(blob, str))
    }


class _Reader(pickle._Unpickler):
    """Unpickles without looking up names.

    Latin-1 keeps the bytes of Python 2's strings. This is pickle's reader in Python.
    Its memo is a dictionary; in the reader in C a few bytes can ask for a memo of any
    size.
    """

    def __init__(self, file: Any, where: str) -> None:
        super().__init__(file, encoding="latin1")
        self.where = where

    def find_class(self, module: str, name: str) -> Any:  # pickle's hook
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise InputError(
                f"{self.where}: the pickle asks for {module}.{name}: only arrays and plain "
                "containers are read, so that nothing can run"
            )
        return admitted

    def persistent_load(self, pid: Any) -> Any:
        raise InputError(
            f"{self.where}: the pickle refers to something outside itself; only arrays and "
            "plain containers are read"
        )


class _Parts:
    """Stores the arguments of a call in a pickle, and the state that it sets."""

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Parts):
    """numpy's `_reconstruct`; the state is (version, shape, dtype, Fortran order, bytes)."""


class _Buffer(_Parts):
    """numpy's `_frombuffer`: (bytes, dtype, shape, order)."""


class _Dtype(_Parts):
    """numpy.dtype: (code, …); the state's second item is the byte order."""


class _Encoded(_Parts):
    """`_codecs.encode`: bytes as Python 3 writes them for Python 2, (text, "latin1")."""


class _ArrayType(_Parts):
    """numpy.ndarray, which a pickle names as an argument and must not call."""


_ADMITTED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encoded,
    ("collections", "OrderedDict"): dict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Buffer for core in ("core", "_core")},
}
"""Names that a pickle may use → their stand-ins."""


def _array(blob: Any, where: str) -> NDArray[np.float32]:
    """The array with these parts."""
    if isinstance(blob, _Array) and isinstance(blob.state, tuple) and len(blob.state) == 5:
        _, shape, dtype, fortran, raw = blob.state
        order = "F" if fortran is True else "C"
    elif isinstance(blob, _Buffer) and len(blob.arguments) == 4:
        raw, dtype, shape, order = blob.arguments
    else:
        raise InputError(f"{where}: expected an array, found {_kind(blob)}")
    kind, data = _number_kind(dtype, where), _bytes(raw)
    fits = (
        isinstance(shape, tuple)
        and len(shape) <= MOST_SIDES
        and all(type(n) is int and n >= 0 for n in shape)
    )
    if not fits or data is None or len(data) != math.prod(shape) * kind.itemsize:
        raise InputError(
            f"{where}: the array's shape does not fit its bytes; the file is damaged, copy it again"
        )
    flat = np.frombuffer(data, kind)
    array = flat.reshape(shape[::-1]).T if order == "F" else flat.reshape(shape)
    return np.array(array, dtype=np.float32, order="C")


def _number_kind(dtype: Any, where: str) -> np.dtype[Any]:
    code = dtype.arguments[0] if isinstance(dtype, _Dtype) and dtype.arguments else None
    if not isinstance(code, str) or code not in NUMBERS:
        found = code if isinstance(code, str) else _kind(code)
        raise InputError(
            f"{where}: expected an array of numbers, found elements of type {found!r:.40}"
        )
    big = isinstance(dtype.state, tuple) and len(dtype.state) > 1 and dtype.state[1] == ">"
    return np.dtype((">" if big else "<") + code)


def _bytes(raw: Any) -> bytes | bytearray | None:
    """The bytes of an array, or None if the value holds none."""
    if isinstance(raw, _Encoded):
        text, *codec = raw.arguments or (None,)
        raw = text if codec == ["latin1"] else None
    if isinstance(raw, str):
        try:
            return raw.encode("latin1")
        except UnicodeEncodeError:
            return None
    return raw if isinstance(raw, bytes | bytearray) else None


def _kind(value: Any) -> str:
    return "a bare name" if isinstance(value, type | _Parts) else type(value).__name__
