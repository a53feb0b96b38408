"""The resume point of a run: everything that the next step depends on, in one file,
never half written.
"""

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
    """Writes beside, flushes to the disk, renames: an interrupted write leaves the
    earlier point.

    Raises:
        InputError: it cannot be written (the disk is full).
    """
    part = None
    try:
        part = PartFile(path)
        torch.save({"halfmask_resume": RESUME_FORMAT, **content}, part.file)
        part.flush()
        part.commit()
    except (OSError, RuntimeError) as error:  # torch hides the system's error behind one of its own
        cause = error if isinstance(error, OSError) else error.__context__
        why = (cause.strerror if isinstance(cause, OSError) else None) or "is the disk full?"
        raise InputError(f"{path}: cannot write the resume point: {why}") from error
    finally:
        if part is not None:
            part.drop()


def read_resume_point(path: Path) -> dict[str, Any]:
    """Reads what `write_resume_point` wrote; tensors and plain values only, no code can
    hide in it.

    Raises:
        InputError: the file is damaged, is something else, or was written in another
            format.
    """
    mend = f"delete {path} to start the run anew"
    damaged = f"{path}: damaged, or no resume point of halfmask"
    try:
        # torch writes a checksum for every part and does not look at it: one wrong bit
        # would be trained on.
        with zipfile.ZipFile(path) as parts:
            bad = parts.testzip()
        content = None if bad else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its last opcode stumbled on
        raise InputError(f"{damaged} ({type(error).__name__}); {mend}") from error
    if bad:
        raise InputError(f"{damaged} (the checksum of {bad} differs); {mend}")
    if not isinstance(content, dict):
        raise InputError(f"{damaged} (found {type(content).__name__}); {mend}")
    found = content.get("halfmask_resume")
    if type(found) is not int or found != RESUME_FORMAT:
        raise InputError(f"{path}: resume format {found}, expected {RESUME_FORMAT}; {mend}")
    return dict(content)


def random_state() -> dict[str, Any]:
    """The state of every random generator of the process, as tensors and plain values."""
    version, keys, gauss = random.getstate()
    _, words, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002 - whoever draws from it, it is restored
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
    """Sets what `random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys.tolist()), gauss))
    words, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", words.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


class ResumeFile(CheckpointIO):
    """Lets Lightning save and load through the two functions above."""

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
    """What is not finite, in words, None where all is: weights, buffers (BatchNorm's
    statistics), optimisers' state (momentum).

    The last two can be spoiled while the weights are sound: a huge activation passes
    through BatchNorm as 0 and leaves an infinite variance behind; an infinite second
    moment makes Adam's steps 0 for good.
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
                # Counts of steps lie on the CPU, and are finite.
                if (
                    isinstance(value, Tensor)
                    and value.is_floating_point()
                    and value.shape == learning.shape
                ):
                    yield f"the optimiser's {key} of {names.get(id(learning), 'a weight')}", value
