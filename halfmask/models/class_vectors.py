"""Class vectors from a user's file: word embeddings, text features, random numbers."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from halfmask.errors import InputError
from halfmask.files.regular import check_regular
from halfmask.text import listed

logger = logging.getLogger("halfmask")

NAMED = ".safetensors"
SHOWN = 5
"""How many names a message shows."""


def read_vectors(
    path: Path, num_classes: int, names: Sequence[str] | None = None, *, size: int | None = None
) -> Tensor:
    """Returns the vectors of the foreground classes in label order, float32 [K−1, E].

    Args:
        path: `.npy`, a row for each class in the order of the category ids (K−1 rows,
            or K with a background row of zeros first, as in the paper's files); or
            `.safetensors`, a vector under each class's name.
        num_classes: K, background included.
        names: of the K−1 classes, for a `.safetensors` file. Other vectors are left
            out, with a warning.
        size: E; None: the file's.
    Raises:
        InputError: unreadable, another shape, a class without a vector, or values that
            are not finite.
    """
    rows = _named_rows(path, names) if path.suffix == NAMED else _numbered_rows(path, num_classes)
    if rows.shape[0] != num_classes - 1 or (size is not None and rows.shape[1] != size):
        raise InputError(
            f"{path}: expected class vectors [{num_classes - 1}, "
            f"{'E' if size is None else size}] (foreground classes × embedding_size; a "
            f"row of zeros for the background may stand first), found {list(rows.shape)}"
        )
    vectors = torch.from_numpy(rows.astype(np.float32))
    if not bool(torch.isfinite(vectors).all()):
        raise InputError(f"{path}: class vectors hold values that are not finite; correct the file")
    return vectors


def vector_size(path: Path) -> int:
    """Returns E from the file's header alone. Raises InputError as `read_vectors`."""
    if path.suffix != NAMED:
        return int(_array(path, lazily=True).shape[1])
    with _tensors(path) as file:
        names = file.keys()  # `file` is no mapping and cannot be iterated
        shapes = {name: file.get_slice(name).get_shape() for name in names}
    return _common_size(path, shapes)


def _numbered_rows(path: Path, num_classes: int) -> NDArray[Any]:
    array = _array(path)
    # K rows without a background row would shift every class by one; the paper's zeros
    # mark that row.
    has_background = array.shape[0] == num_classes and not array[0].any()
    return array[1:] if has_background else array


def _array(path: Path, lazily: bool = False) -> NDArray[Any]:
    try:
        # Mapped: the header's size is compared with the file's before memory is used.
        check_regular(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(array, np.ndarray) and not lazily:
            array = np.array(array)
    except Exception as error:  # a damaged header makes NumPy raise nearly anything
        raise InputError(
            f"{path}: class vectors cannot be read ({type(error).__name__}); expected a .npy file "
            "(rows in the order of the category ids) or a .safetensors file (by class name)"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        found = "an archive of several"
    elif array.ndim == 2 and array.dtype.kind in "fiu":
        return array
    else:
        found = f"{array.dtype} {list(array.shape)}"
    raise InputError(
        f"{path}: expected one array of numbers [classes, embedding_size], found {found}"
    )


def _named_rows(path: Path, names: Sequence[str] | None) -> NDArray[Any]:
    if names is None:
        raise InputError(
            f"{path}: vectors by class name need the names of the classes: pass `names` to "
            "build_model"
        )
    with _tensors(path) as file:
        found = list(file.keys())
        missing = [name for name in names if name not in found]
        surplus = [name for name in found if name not in set(names)]
        if missing:
            raise InputError(f"{path}: no vector for {_missing(missing, surplus)}")
        rows = {name: file.get_tensor(name).float().numpy() for name in names}
    _common_size(path, {name: list(row.shape) for name, row in rows.items()})
    if surplus:
        logger.warning(
            "%s: %d vectors belong to no class and are not used: %s",
            path,
            len(surplus),
            listed(surplus, SHOWN),
        )
    return np.stack([rows[name] for name in names])


def _missing(missing: list[str], surplus: list[str]) -> str:
    """Names missing and surplus vectors, and pairs that are probably the same."""
    text = (
        f"{len(missing)} classes: {listed(missing, SHOWN)}; {len(surplus)} vectors are no class's"
    )
    text += f": {listed(surplus, SHOWN)}" if surplus else ""
    folded = {name.casefold(): name for name in surplus}
    near = [
        (m, folded[n])
        for m in missing
        for n in difflib.get_close_matches(m.casefold(), folded, n=1, cutoff=0.6)
    ]
    pairs = [f"{there!r} for {wanted!r}" for wanted, there in near]
    return text + (f"; rename {listed(pairs, SHOWN)}" if pairs else "")


def _common_size(path: Path, shapes: dict[str, list[int]]) -> int:
    first = next(iter(shapes.items()), None)
    if first is None:
        raise InputError(f"{path}: no vector in it; expected one under each class's name")
    size = first[1][0] if len(first[1]) == 1 else 0
    odd = [(name, shape) for name, shape in shapes.items() if shape != [size] or size == 0]
    if odd:
        name, shape = odd[0]
        wanted = f"[{size}] as {first[0]!r} has" if size else "one row of numbers"
        raise InputError(f"{path}: {name!r}: expected {wanted}, found {shape}")
    return size


def _tensors(path: Path) -> Any:
    try:
        check_regular(path)
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: class vectors cannot be read ({type(error).__name__}); expected a "
            ".safetensors file, a vector under each class's name"
        ) from error
