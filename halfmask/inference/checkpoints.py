"""Finds the checkpoint file that a model's name stands for, here or on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from halfmask.errors import InputError
from halfmask.models.fixed.baselines import PREFIX
from halfmask.models.fixed.sam import EXAMPLES

ASSETS = Path(__file__).parents[1] / "assets"
SHIPPED_NAMES = ("box-segmenter",)
FILE = "model.safetensors"
"""Name of the checkpoint in a run directory and in a repository of the Hub."""
SCHEME = "hf://"


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
