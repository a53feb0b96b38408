"""Builds models from recipes: the one place that turns configuration into modules."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as modules

from halfmask.errors import InputError
from halfmask.models.base import SegmentationModel
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.class_vectors import vector_size
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.recipes.recipe import BoxSegmenterConfig, MaskRCNN, expand

MOST_WEIGHTS = 2_000_000_000
"""Weights of a model while it is built, in numbers: 8 GB in float32."""
CUT_WEIGHTS = 200_000_000
"""Weights that a backbone has before its last layers are cut off."""


def build_model(
    config: MaskRCNN | BoxSegmenterConfig,
    num_classes: int,
    pretrained: bool = True,
    *,
    names: Sequence[str] | None = None,
    stored: int | None = None,
) -> SegmentationModel:
    """Builds the model that a recipe describes.

    Args:
        config: the recipe's `model`.
        num_classes: K, background included.
        pretrained: load backbone weights and class vectors from the recipe's files.
            With False no file and no network is read: a checkpoint with all weights
            follows.
        names: of the K−1 foreground classes in the order of the labels; only a file of
            vectors by class name needs them.
        stored: numbers in the checkpoint that follows. A recipe that builds a much
            larger model does not belong to it, and is refused while it is built.
    Raises:
        InputError: the recipe's numbers or files do not fit each other, or the model
            has more weights than `MOST_WEIGHTS`.
    """
    if num_classes < 2:
        raise InputError(
            f"model: expected at least one class besides background, found {num_classes - 1}"
        )
    most = MOST_WEIGHTS if stored is None else min(MOST_WEIGHTS, 2 * stored + CUT_WEIGHTS)
    with _at_most(most):
        model: SegmentationModel = _BUILDERS[config.kind](
            config, num_classes, pretrained, names=names
        )
    return model


@contextmanager
def _at_most(most: int) -> Iterator[None]:
    """Counts the weights that this thread's modules get, and stops at too many."""
    thread, count = threading.get_ident(), 0

    def add(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal count
        if threading.get_ident() == thread and tensor is not None:
            count += tensor.numel()
            if count > most:
                raise InputError(
                    f"model: the recipe asks for more than {most / 1e9:.2g} billion weights; "
                    "lower its widths and sizes, or it is not the recipe of this file"
                )

    hook = modules.register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def with_embedding_size(config: MaskRCNN | BoxSegmenterConfig) -> MaskRCNN | BoxSegmenterConfig:
    """Fills in the length of a recipe's class vectors from their file.

    A checkpoint can then be built without the file. Raises InputError if the file
    cannot be read.
    """
    transfer = config.mask_head.transfer if config.kind == "mask_rcnn" else config.condition
    if transfer is None or transfer.embedding is None or transfer.embedding_size is not None:
        return config
    known = transfer.model_copy(update={"embedding_size": vector_size(expand(transfer.embedding))})
    if config.kind == "mask_rcnn":
        return config.model_copy(
            update={"mask_head": config.mask_head.model_copy(update={"transfer": known})}
        )
    return config.model_copy(update={"condition": known})


_BUILDERS: dict[str, Callable[..., Any]] = {
    "mask_rcnn": build_mask_rcnn,
    "box_segmenter": build_box_segmenter,
}
