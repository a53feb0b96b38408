"""Class vectors from a user's file: word embeddings, CLIP text features, random numbers."""

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

logger = logging.getLogger("halfmask")

NAMED = ".safetensors"
SHOWN = 5
"""How many names a message gives before it counts the rest."""


def read_vectors(
    path: Path, num_classes: int, names: Sequence[str] | None = None, size: int | None = None
) -> Tensor:
    """The vectors of the foreground classes, in the order of the labels.

    Args:
        path: `.npy`, a row for each class in the order of the category ids (K−1 rows,
            or K with the background's first, which then has to be zeros as in the
            paper's files), or `.safetensors`, a vector under each class's name, in any
            order.
        num_classes: K, background included.
        names: of the K−1 classes, for a `.safetensors` file. Vectors of other names are
            left out, with a warning.
        size: E; None: as the file has it.
    Returns:
        float32 [K−1, E].
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
        raise InputError(f"{path}: class vectors hold values that are not finite; mend the file")
    return vectors


def vector_size(path: Path) -> int:
    """E, the length of a file's vectors, without reading them all. Raises InputError as
    `read_vectors` does.
    """
    if path.suffix != NAMED:
        return int(_array(path, lazily=True).shape[1])
    with _tensors(path) as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    return _common_size(path, shapes)


def _numbered_rows(path: Path, num_classes: int) -> NDArray[Any]:
    array = _array(path)
    # K rows whose first is not the background's would shift every class by one: told
    # apart by the paper's zeros.
    has_background = array.shape[0] == num_classes and not array[0].any()
    return array[1:] if has_background else array


def _array(path: Path, lazily: bool = False) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r" if lazily else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        kinds = "expected a .npy file (rows in the order of the category ids) or a .safetensors file (by class name)"
        raise InputError(
            f"{path}: class vectors cannot be read ({type(error).__name__}); {kinds}"
        ) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        what = (
            f"{array.dtype} {list(array.shape)}"
            if isinstance(array, np.ndarray)
            else "an archive of several"
        )
        raise InputError(
            f"{path}: expected one array of numbers [classes, embedding_size], found {what}"
        )
    return array


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
            "%s: %d vectors are no class's and are left out: %s", path, len(surplus), _some(surplus)
        )
    return np.stack([rows[name] for name in names])


def _missing(missing: list[str], surplus: list[str]) -> str:
    """What is missing, what is there instead, and which of the two are probably the same."""
    text = f"{len(missing)} classes: {_some(missing)}; {len(surplus)} vectors are no class's"
    text += f": {_some(surplus)}" if surplus else ""
    folded = {name.casefold(): name for name in surplus}
    near = [
        (m, folded[n])
        for m in missing
        for n in difflib.get_close_matches(m.casefold(), folded, n=1, cutoff=0.6)
    ]
    pairs = [f"{there!r} for {wanted!r}" for wanted, there in near]
    return text + (f"; rename {_some(pairs)}" if pairs else "")


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
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: class vectors cannot be read ({type(error).__name__}); expected a "
            ".safetensors file, a vector under each class's name"
        ) from error


def _some(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
