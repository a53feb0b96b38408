"""The resume point of a run: everything that the next step depends on, in one file."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.files.atomic import PartFile

RESUME_FORMAT = 1


def write_resume_point(path: Path, content: dict[str, Any]) -> None:
    """Writes a resume point; an interrupted write leaves the earlier one.

    Raises:
        InputError: the file cannot be written (the disk is full).
    """
    part = None
    try:
        part = PartFile(path)
        torch.save({"halfmask_resume": RESUME_FORMAT, **content}, part.file)
        part.flush()
        part.commit()
    except (OSError, RuntimeError) as error:  # torch hides the system's error
        cause = error if isinstance(error, OSError) else error.__context__
        why = (cause.strerror if isinstance(cause, OSError) else None) or "is the disk full?"
        raise InputError(f"{path}: cannot write the resume point: {why}") from error
    finally:
        if part is not None:
            part.drop()


def read_resume_point(path: Path) -> dict[str, Any]:
    """Reads a resume point: tensors and plain values only, so no code can hide in it.

    Raises:
        InputError: the file is damaged, something else, or has another format.
    """
    advice = f"delete {path} to start the run from its beginning"
    damaged = f"{path}: damaged, or no resume point of halfmask"
    try:
        # torch writes a checksum for every part, but does not check it.
        with zipfile.ZipFile(path) as parts:
            bad = parts.testzip()
        content = None if bad else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{damaged} ({type(error).__name__}); {advice}") from error
    if bad:
        raise InputError(f"{damaged} (the checksum of {bad} differs); {advice}")
    if not isinstance(content, dict):
        raise InputError(f"{damaged} (found {type(content).__name__}); {advice}")
    found = content.get("halfmask_resume")
    if type(found) is not int or found != RESUME_FORMAT:
        raise InputError(f"{path}: resume format {found}, expected {RESUME_FORMAT}; {advice}")
    return dict(content)


def random_state() -> dict[str, Any]:
    """Returns the state of all random generators, as tensors and plain values."""
    version, keys, gauss = random.getstate()
    state = np.random.get_state(legacy=True)  # noqa: NPY002 - libraries draw from it
    _, words, position, has_gauss, cached = state
    return {
        "python": [version, torch.tensor(keys, dtype=torch.int64), gauss],
        "numpy": [
            torch.from_numpy(np.asarray(words).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restores the state that `random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys.tolist()), gauss))
    words, position, has_gauss, cached = state["numpy"]
    words = words.numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


class ResumeFile(CheckpointIO):
    """Lets Lightning save and load resume points."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        write_resume_point(Path(path), checkpoint)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_resume_point(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def not_finite(model: nn.Module, *optimisers: torch.optim.Optimizer) -> str | None:
    """Names a tensor that is not finite, among weights, buffers and optimiser state.

    Buffers and state can be infinite while the weights are finite: a huge activation
    passes through BatchNorm as 0 and leaves an infinite variance; an infinite second
    moment makes all further steps of Adam 0.

    Returns:
        For example ``the weights mask_head.conv.weight``; None if all are finite.
    """
    named = list(_numbers(model, *optimisers))
    finite = torch.stack([torch.isfinite(value).all() for _, value in named])
    return None if bool(finite.all()) else named[int(finite.int().argmin())][0]


def _numbers(model: nn.Module, *optimisers: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    names = {}
    for name, weight in model.named_parameters():
        names[id(weight)] = name
        yield f"the weights {name}", weight.detach()
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            yield f"the statistics {name}", buffer
    for optimiser in optimisers:
        for learning, state in optimiser.state.items():
            for key, value in state.items():
                # Step counts are on the CPU, and finite.
                if (
                    isinstance(value, Tensor)
                    and value.is_floating_point()
                    and value.shape == learning.shape
                ):
                    yield f"the optimiser's {key} of {names.get(id(learning), 'a weight')}", value
