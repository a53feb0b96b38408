"""A checkpoint on the Hugging Face Hub, `hf://OWNER/NAME` or
`hf://OWNER/NAME@REVISION`, as a file here.
"""

from __future__ import annotations

from pathlib import Path

from halfmask.errors import InputError

SCHEME = "hf://"
FILE = "model.safetensors"


def is_on_hub(model: str | Path) -> bool:
    """Whether MODEL names a repository of the Hub."""
    return isinstance(model, str) and model.startswith(SCHEME)


def fetch_checkpoint(name: str) -> Path:
    """The checkpoint of `hf://OWNER/NAME`, from the Hub's cache on this machine where
    it is there already.

    Raises:
        InputError: huggingface_hub is not installed (extra `hub`), no such repository,
            no checkpoint in it, or no network.
    """
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
            f"{name}: no {FILE} to be had from the Hugging Face Hub: {reason} Mend: check the "
            "name, or fetch the file where there is a "
            "network and name it here"
        ) from error
