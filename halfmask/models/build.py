"""Builds models from recipes: the one place that turns configuration into modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from halfmask.errors import InputError
from halfmask.models.base import SegmentationModel
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.class_vectors import vector_size
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.recipes.recipe import BoxSegmenterConfig, MaskRCNN, expand


def build_model(
    config: MaskRCNN | BoxSegmenterConfig,
    num_classes: int,
    pretrained: bool = True,
    *,
    names: Sequence[str] | None = None,
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
    Raises:
        InputError: the recipe's numbers or files do not fit each other.
    """
    if num_classes < 2:
        raise InputError(
            f"model: expected at least one class besides background, found {num_classes - 1}"
        )
    model: SegmentationModel = _BUILDERS[config.kind](config, num_classes, pretrained, names=names)
    return model


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
