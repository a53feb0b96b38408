"""Loads models of transformers from a folder or from the Hugging Face Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from logging import ERROR
from pathlib import Path
from typing import Any, NamedTuple

from halfmask.errors import InputError

DIGITS = 12

ClassesOf = Callable[[str | None], tuple[str, str]]
"""Model type of a configuration → transformers' classes of the model and its processor.

It raises InputError for a type that it does not take.
"""


class Pretrained(NamedTuple):
    """A model with its processor.

    Attributes:
        network: the model, float32.
        processor: prepares its input and reads its output.
        name: without folders of this machine.
        digest: of a folder's weights, else the revision on the Hub.
        kind: the model type of its configuration.
    """

    network: Any
    processor: Any
    name: str
    digest: str
    kind: str | None


def load_pretrained(name: str, classes_of: ClassesOf) -> Pretrained:
    """Loads the model of a name such as `sam2:facebook/sam2.1-hiera-tiny@REVISION`.

    Args:
        name: what users write: a family, a colon, and a folder that `save_pretrained`
            wrote, or a model of the Hub.
        classes_of: chooses the classes that load it.
    Raises:
        InputError: transformers is not installed (extra `sam`), the model is neither a
            folder nor on the Hub, of another type, or incomplete.
    """
    family, _, where = name.partition(":")
    folder = Path(where)
    if folder.is_dir():
        network, processor, kind = _loaded(name, where, None, classes_of=classes_of)
        shown = f"{family}:{folder.resolve().name}"
        return Pretrained(network, processor, shown, _digest(folder), kind)
    where, _, revision = where.partition("@")
    network, processor, kind = _loaded(name, where, revision or None, classes_of=classes_of)
    pinned = str(getattr(network.config, "_commit_hash", None) or revision)
    return Pretrained(network, processor, f"{family}:{where}", pinned[:DIGITS], kind)


def _loaded(
    name: str, where: str, revision: str | None, *, classes_of: ClassesOf
) -> tuple[Any, Any, str | None]:
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise InputError(f'{name} needs transformers: pip install "halfmask[sam]"') from error
    loud, model = logging.get_verbosity(), "the model"
    # A video model's surplus weights are no fault; missing ones are refused below.
    logging.set_verbosity(ERROR)
    try:
        config = transformers.PretrainedConfig.get_config_dict(where, revision=revision)[0]
        kind = config.get("model_type")
        model, processor = classes_of(kind)
        options: dict[str, Any] = {"revision": revision, "use_safetensors": True}  # never a pickle
        network, found = getattr(transformers, model).from_pretrained(
            where, output_loading_info=True, **options
        )
        prepared = getattr(transformers, processor).from_pretrained(where, revision=revision)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise InputError(_why(name, where, model, error=error)) from error
    finally:
        logging.set_verbosity(loud)
    if found["missing_keys"]:
        some = ", ".join(sorted(found["missing_keys"])[:3])
        raise InputError(f"{name}: its weights lack {some}; fetch them again")
    return network.float(), prepared, kind


def _why(name: str, where: str, model: str, *, error: Exception) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    reason = reason or type(error).__name__
    if Path(where).is_dir():
        return f"{name}: no folder that transformers' {model}.save_pretrained wrote: {reason}"
    return (
        f"{name}: neither a folder here nor a model of the Hugging Face Hub: {reason} "
        "To fix: check the name, or fetch it where there "
        f"is a network (`hf download {where} --local-dir FOLDER`) and say "
        f"{name.partition(':')[0]}:FOLDER"
    )


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:DIGITS]
