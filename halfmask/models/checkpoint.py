"""Checkpoints: weights, recipe, classes and masked classes in one safetensors file.

One entry of the file's header, `halfmask`, holds all but the weights, as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from halfmask._version import __version__
from halfmask.coco.doctor.groups import MasksGiven
from halfmask.errors import InputError
from halfmask.files.atomic import path_beside
from halfmask.models.box_segmenter.clicks import CHANNELS
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.text import listed

FORMAT_VERSION = 1
LONGEST_HEADER = 100_000_000
"""safetensors' own limit, in bytes."""
MENTIONED = 3
"""How many keys an error names."""
QUALITY = "quality_score."
"""Prefix of the quality scores' keys. Older files lack some scores: these are unfitted."""
CROP_CHANNELS = 4, 6
"""Input channels of a box segmenter without clicks."""


class Category(TypedDict):
    """A class of the model.

    Label i + 1 is the i-th of `Checkpoint.categories`; label 0 is background.
    """

    id: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model, without the code that builds it.

    `build_model(recipe.model, len(categories) + 1)` builds it.

    Attributes:
        state: the model's state dict, float32.
        recipe: of its training.
        categories: the classes in the order of the labels.
        masked: ids of the classes that had masks in training (set A).
        mask_counts: category id → masks that the model was given in training, those of
            the checkpoint that it started from included. Not recorded: no number.
        version: the halfmask that wrote it.
    """

    state: dict[str, Tensor]
    recipe: Recipe
    categories: list[Category]
    masked: list[int]
    mask_counts: dict[int, int] = field(default_factory=dict)
    version: str = __version__

    @property
    def masks_given(self) -> MasksGiven:
        """The masks that the model was given of each class, by its name."""
        counts = {c["name"]: self.mask_counts.get(c["id"]) for c in self.categories}
        return MasksGiven(counts, self.recipe.data.masked_threshold)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, half: bool = False) -> None:
    """Writes a checkpoint; a reader never sees half a file.

    Args:
        half: store floating point weights in 16 bits; they are read back as float32.
    Raises:
        InputError: a weight is not finite, or too large for 16 bits; or the file cannot
            be written.
    """
    path = Path(path)
    state = {name: _packed(tensor, half) for name, tensor in checkpoint.state.items()}
    _check_finite(state, f"{path} is not written" + (" in 16 bits" if half else ""))
    header = {
        "format": FORMAT_VERSION,
        "version": checkpoint.version,
        "recipe": checkpoint.recipe.model_dump(mode="json"),
        "categories": checkpoint.categories,
        "masked": sorted(checkpoint.masked),
        "mask_counts": {str(k): v for k, v in sorted(checkpoint.mask_counts.items())},
        # A reader turns these back: tensors that were float32 before `half`.
        "half": sorted(k for k, t in checkpoint.state.items() if half and t.dtype == torch.float32),
    }
    try:
        with path_beside(path) as beside:
            # One entry only: safetensors writes several in random order, and the same
            # model must be the same bytes.
            save_file(state, beside, metadata={"halfmask": json.dumps(header)})
            # safetensors makes the file readable by its owner only; a model is shared.
            beside.chmod(0o644)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot write here: {error}") from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU.

    Raises:
        InputError: no such file, no safetensors file, cut short, not written by
            halfmask, another format version, weights that are not finite, or a recipe
            that this version does not know.
    """
    path = Path(path)
    header, state = _read(path)
    try:
        half, masked = set(header["half"]), [int(i) for i in header["masked"]]
        categories: list[Category] = [
            {"id": c["id"], "name": c["name"]} for c in header["categories"]
        ]
        counts = {int(k): int(v) for k, v in header["mask_counts"].items()}
        version, recipe = str(header["version"]), dict(header["recipe"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: its halfmask header is damaged ({type(error).__name__}: {error}); write "
            "the checkpoint again"
        ) from error
    fault = _fault_of_classes(categories, masked, counts)
    if fault:
        raise InputError(
            f"{path}: its halfmask header is damaged ({fault}); write the checkpoint again"
        )
    state = {name: tensor.float() if name in half else tensor for name, tensor in state.items()}
    _check_finite(state, str(path))
    return Checkpoint(
        state=state,
        recipe=parse_recipe(recipe, str(path)),
        categories=categories,
        masked=masked,
        mask_counts=counts,
        version=version,
    )


def _fault_of_classes(categories: list[Category], masked: list[int], counts: dict[int, int]) -> str:
    ids = [category["id"] for category in categories]
    if not all(type(c["id"]) is int and isinstance(c["name"], str) for c in categories):
        return "a class without a whole number as id or without a name"
    if len(set(ids)) < len(ids):
        return "two classes with the same id"
    if not {*masked, *counts} <= set(ids):
        return "masks of a class that is not in its list"
    return "a negative number of masks" if any(n < 0 for n in counts.values()) else ""


def load_weights(model: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Copies every weight into a model that was built for them.

    Raises:
        InputError: a key is missing or unknown, or a shape or kind of number differs.
            The model is then unchanged, and `where`, the file's name, is in the
            message.
    """
    own = model.state_dict()
    fitted = {k.rpartition(".")[0] for k in state if k.startswith(QUALITY)}
    missing = [k for k in own if k not in state and not _is_counter(k)]
    missing = [k for k in missing if not k.startswith(QUALITY) or k.rpartition(".")[0] in fitted]
    unknown = [k for k in state if k not in own]
    if missing or unknown:
        fault = f"has {listed(unknown, MENTIONED)}, which the model does not know"
        fault = f"lacks {listed(missing, MENTIONED)}" if missing else fault
        raise InputError(
            f"{where}: {fault}: the file belongs to another model than its recipe builds"
        )
    for key, tensor in state.items():
        if tensor.shape != own[key].shape:
            raise InputError(
                f"{where}: {key}: expected shape {list(own[key].shape)}, found {list(tensor.shape)}"
            )
        if tensor.is_floating_point() != own[key].is_floating_point():
            raise InputError(f"{where}: {key}: expected {own[key].dtype}, found {tensor.dtype}")
    model.load_state_dict(dict(state), strict=False)


def load_fitting_weights(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Copies the weights whose name and shape the model knows, from another run, say.

    Fixed class vectors (the model's own recipe decides) and quality scores (fitted to
    another run's masks) are not copied. Returns the model's keys that keep their own
    values, except `num_batches_tracked`.
    """
    own = model.state_dict()
    # A model of the same weights may take clicks now: channels that start at zero.
    known = {k: _with_clicks(t, own[k]) for k, t in state.items() if k in own}
    fitting = {
        k: t
        for k, t in known.items()
        if own[k].shape == t.shape
        and not k.endswith("class_weights.vectors")
        and not k.startswith(QUALITY)
    }
    model.load_state_dict(fitting, strict=False)
    return [k for k in own if k not in fitting and not _is_counter(k)]


def _with_clicks(tensor: Tensor, own: Tensor) -> Tensor:
    """Adds channels of zeros to a crop's first convolution that had none for clicks."""
    plain = tensor.dim() == own.dim() == 4 and tensor.shape[1] in CROP_CHANNELS
    wider = plain and own.shape[1] == tensor.shape[1] + CHANNELS
    same = tensor.shape[:1] + tensor.shape[2:] == own.shape[:1] + own.shape[2:]
    return F.pad(tensor, (0, 0, 0, 0, 0, CHANNELS)) if wider and same else tensor


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def file_digest(path: str | Path) -> str:
    """Returns the first 12 hexadecimal digits of the file's SHA-256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; expected a halfmask checkpoint (model.safetensors of a run)"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = _header((file.metadata() or {}).get("halfmask"), path)
            names = file.keys()  # `file` is no mapping and cannot be iterated
            return header, {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise InputError(f"{path}: {_fault(path)}") from error


def _fault(path: Path) -> str:
    """Describes the fault of a file that safetensors refuses.

    A good file is 8 bytes of length, a JSON header of that length, then the weights.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        is_ours = length < LONGEST_HEADER and file.read(1) in (b"{", b"")
    if is_ours:
        return f"the file is cut short or damaged ({path.stat().st_size} bytes); copy it again"
    return "not a safetensors file; expected a halfmask checkpoint (model.safetensors of a run)"


def _header(text: str | None, path: Path) -> dict[str, Any]:
    if text is None:
        raise InputError(
            f"{path}: a safetensors file that halfmask did not write: it names no recipe and "
            "no classes; weights of a backbone go into the recipe (`weights:`)"
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: its halfmask header is not JSON; write the checkpoint again"
        ) from error
    found = header.get("format") if isinstance(header, dict) else None
    if found != FORMAT_VERSION:
        wrote = header.get("version", "unknown") if isinstance(header, dict) else "unknown"
        raise InputError(
            f"{path}: checkpoint format {found}, expected {FORMAT_VERSION}: written by "
            f"halfmask {wrote}, this is {__version__}; "
            "use that version, or train again"
        )
    return dict(header)


def _packed(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu()
    if half and tensor.dtype == torch.float32:
        tensor = tensor.half()
    # A copy: safetensors refuses shared memory and channels_last strides.
    return tensor.clone(memory_format=torch.contiguous_format)


def _check_finite(state: Mapping[str, Tensor], where: str) -> None:
    bad = [
        k for k, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())
    ]
    if bad:
        raise InputError(
            f"{where}: {listed(bad, MENTIONED)} holds values that are not finite; use an earlier "
            "checkpoint of the run"
        )
