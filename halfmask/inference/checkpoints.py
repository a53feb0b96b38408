"""Finds and opens the checkpoint that a model's name stands for, here or on the Hub."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import torch

from halfmask.errors import InputError
from halfmask.models.backbones.norm import fold_for_inference
from halfmask.models.base import SegmentationModel
from halfmask.models.build import build_model
from halfmask.models.checkpoint import Checkpoint, file_digest, load_checkpoint, load_weights
from halfmask.models.fixed.baselines import PREFIX, build_baseline
from halfmask.models.fixed.sam import EXAMPLES, build_sam
from halfmask.models.fixed.sam import PREFIXES as SAM_PREFIXES

ASSETS = Path(__file__).parents[1] / "assets"
SHIPPED_NAMES = ("box-segmenter",)
FILE = "model.safetensors"
"""Name of the checkpoint in a run directory and in a repository of the Hub."""
SCHEME = "hf://"


def open_model(model: str | Path) -> tuple[SegmentationModel, Checkpoint | None, str, str]:
    """Returns the network that a name stands for, its checkpoint, its name and digest.

    Args:
        model: as in `halfmask.load`. A rule and SAM have no checkpoint, a rule has no
            digest.
    Raises:
        InputError: there is no such model, or the file is no checkpoint or of another
            version.
    """
    if not isinstance(model, str | Path):
        raise InputError(f"model: expected a name or a path, found {type(model).__name__}")
    name = str(model)
    if name.startswith(PREFIX):
        return build_baseline(name), None, name, ""
    if name.startswith(SAM_PREFIXES):
        network, name, digest = build_sam(name)
        return network, None, name, digest
    path = find_checkpoint(model)
    return *open_checkpoint(path), shown_name(name, path), file_digest(path)


def find_checkpoint(model: str | Path) -> Path:
    """Returns the checkpoint file of a model.

    Args:
        model: a checkpoint file, a run directory, the name of a shipped model, or
            `hf://OWNER/NAME[@REVISION]`.
    Raises:
        InputError: there is none, or the Hub cannot be reached.
    """
    if str(model).startswith(SCHEME):
        return _fetch(str(model))
    path = Path(model)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / FILE).is_file():
            return path / FILE
        raise InputError(f"{path}: a folder without {FILE}; a run has one when its training ends")
    if str(model) not in SHIPPED_NAMES:
        raise InputError(
            f"{model}: no such checkpoint or run directory; shipped models: "
            f"{', '.join(SHIPPED_NAMES)}; rules: {PREFIX}box, {PREFIX}ellipse, {PREFIX}grabcut; "
            f"models of others: {EXAMPLES}"
        )
    shipped = ASSETS / f"{model}.safetensors"
    if not shipped.is_file():
        raise InputError(
            f"{model}: this installation lacks the shipped model {shipped.name}; install the "
            "package again"
        )
    return shipped


def _fetch(name: str) -> Path:
    """Returns the checkpoint of `hf://OWNER/NAME`, from the Hub's local cache if possible."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise InputError(f'{name} needs huggingface_hub: pip install "halfmask[hub]"') from error
    repository, _, revision = name.removeprefix(SCHEME).partition("@")
    try:
        return Path(hf_hub_download(repository, FILE, revision=revision or None))
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{name}: cannot get {FILE} from the Hugging Face Hub: {reason} To fix: check the "
            "name, or download the file where there is a network and name it here"
        ) from error


def shown_name(model: str, path: Path) -> str:
    """Returns a model's name without folders: the run's, the file's, or that on the Hub."""
    if model.startswith(SCHEME):
        return model
    return path.resolve().parent.name if path.name == FILE else path.stem


def open_checkpoint(path: Path) -> tuple[SegmentationModel, Checkpoint]:
    """Returns the network of a checkpoint, ready for inference, and the checkpoint.

    Raises:
        InputError: not a checkpoint, or one of another version.
    """
    with _one_thread_without_collector():
        checkpoint = load_checkpoint(path)
        classes = len(checkpoint.categories) + 1
        stored = sum(tensor.numel() for tensor in checkpoint.state.values())
        network = build_model(checkpoint.recipe.model, classes, pretrained=False, stored=stored)
        load_weights(network, checkpoint.state, path)
        fold_for_inference(network.eval())
    return network, checkpoint


@contextlib.contextmanager
def _one_thread_without_collector() -> Iterator[None]:
    """Switches off threads and the garbage collector while a network is built.

    The many small steps are too short for threads, which would spin while they wait;
    and all objects stay, so that the collector would find nothing.
    """
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(1)
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()
