"""Builds a recipe's box segmenter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn

from halfmask.errors import InputError
from halfmask.models.backbones.encoder import Encoder, encoder_of
from halfmask.models.backbones.norm import fold_frozen_norm
from halfmask.models.box_segmenter.border import BorderLook
from halfmask.models.box_segmenter.box_losses import BoxSupervision
from halfmask.models.box_segmenter.box_noise import Jitter
from halfmask.models.box_segmenter.crops import CropReader
from halfmask.models.box_segmenter.decoder import Decoder, HourglassDecoder
from halfmask.models.box_segmenter.losses import CropLossWeights
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.box_segmenter.sampler import CropSampler
from halfmask.models.box_segmenter.settle import Settling
from halfmask.models.class_weights import FixedWeights, build_class_weights
from halfmask.models.heads.predictors import (
    AgnosticPredictor,
    MaskPredictor,
    TransferFunction,
    TransferPredictor,
)
from halfmask.recipes.recipe import BoxSegmenterConfig, Transfer

CLASS_START = 0.1
"""Scale of T's initial last layer: how much a class's vector changes the filter at
first.
"""


def build_box_segmenter(
    config: BoxSegmenterConfig,
    num_classes: int,
    pretrained: bool = True,
    *,
    names: Sequence[str] | None = None,
) -> BoxSegmenter:
    """Builds a box segmenter; the arguments are those of `build_model`.

    Only class conditioning needs `num_classes` and `names`.
    """
    reader = _reader(config)
    encoder = _encoder(config, reader.channels, pretrained)
    coarsest = max(encoder.channels)
    # Twice the stride at least: BatchNorm cannot learn from a map of one cell.
    if config.crop_size < 2 * coarsest or config.crop_size % coarsest:
        raise InputError(
            f"model.crop_size: expected a multiple of {coarsest}, the encoder's coarsest "
            f"stride, from {2 * coarsest} on, found "
            f"{config.crop_size}"
        )
    decoder = _decoder(config, encoder)
    vectors = _class_vectors(
        config.condition,
        encoder.channels[coarsest],
        num_classes,
        pretrained=pretrained,
        names=names,
    )
    predictor = _predictor(config.condition, decoder.out_channels, vectors)
    b = config.from_boxes
    model = BoxSegmenter(
        encoder,
        decoder,
        predictor,
        sampler=_sampler(config, reader),
        class_weights=vectors,
        loss_weights=CropLossWeights(config.dice_weight, config.boundary_weight),
        from_boxes=None if b is None else BoxSupervision(b.projection, b.colour, b.warmup),
        best_iou=config.decision == "best_iou",
    )
    model.settling = Settling() if config.settle else None
    if config.border is not None:
        maps = [encoder.channels[min(encoder.channels)], decoder.out_channels]
        model.border = BorderLook(maps, config.border.width, config.border.blocks)
    return model


def _reader(config: BoxSegmenterConfig) -> CropReader:
    closest = min([config.context, *config.zooms])
    if config.box_reach > 0 and not (config.box_jitter or config.box_noise == "detector"):
        raise InputError(
            "model.box_reach: masks go beyond loose boxes, and no box is made loose: set "
            "box_jitter to about as much, or box_noise to detector"
        )
    if config.box_reach > closest:
        raise InputError(
            f"model.box_reach: masks may go beyond their box by {config.box_reach} of its "
            f"side, but the closest context shows {closest}"
        )
    c = config
    reader = CropReader(
        c.crop_size, c.context, c.mean, std=c.std, mirror=c.mirror, zooms=c.zooms, reach=c.box_reach
    )
    reader.neighbours, reader.clicks = c.neighbours, c.clicks
    return reader


def _decoder(config: BoxSegmenterConfig, encoder: Encoder) -> Decoder | HourglassDecoder:
    widths, most = (
        config.decoder_widths,
        1 if config.decoder == "hourglass" else len(encoder.channels) - 1,
    )
    if not 1 <= len(widths) <= most:
        raise InputError(
            "model.decoder_widths: expected "
            f"{'one number' if most == 1 else f'1 to {most} numbers'} for a decoder: "
            f"{config.decoder}, the "
            f"encoder has maps of strides {list(encoder.channels)}; found {widths}"
        )
    if config.decoder == "hourglass" and len(encoder.channels) < 2:
        raise InputError(
            "model.decoder: hourglass: the encoder has one map alone, of stride "
            f"{next(iter(encoder.channels))}; use unet"
        )
    if config.decoder == "hourglass":
        return HourglassDecoder(encoder.channels, widths[0], config.crop_size)
    return Decoder(encoder.channels, widths)


def _sampler(config: BoxSegmenterConfig, reader: CropReader) -> CropSampler:
    return CropSampler(
        reader,
        Jitter(config.box_jitter, config.crop_jitter, config.box_noise == "detector"),
        config.regions_per_image,
        box_only_per_image=0 if config.from_boxes is None else config.from_boxes.regions_per_image,
        ignore_unknown=config.unknown == "ignore",
        class_balance=config.class_balance,
    )


def _encoder(config: BoxSegmenterConfig, channels: int, pretrained: bool) -> Encoder:
    encoder = encoder_of(config.encoder, pretrained)
    if isinstance(encoder.body, fx.GraphModule):
        fold_frozen_norm(encoder.body)
    _widen_first_convolution(encoder, config.encoder.name, channels)
    return encoder


def _class_vectors(
    condition: Transfer | None,
    looks: int,
    num_classes: int,
    *,
    pretrained: bool,
    names: Sequence[str] | None,
) -> FixedWeights | None:
    """Returns the vectors of a conditioned model.

    Prototypes, of length `looks`, are zeros until `learn_prototypes` has read the
    boxes.
    """
    if condition is None:
        return None
    if condition.input == "prototype":
        return FixedWeights(torch.zeros(num_classes - 1, looks), condition.input_norm)
    if condition.input not in ("random", "embedding"):
        raise InputError(
            "model.condition.input: a box_segmenter has no box head to take class weights "
            "from; expected random, embedding or prototype, "
            f"found {condition.input}"
        )
    weights, _ = build_class_weights(condition, num_classes, 0, pretrained=pretrained, names=names)
    assert isinstance(weights, FixedWeights)
    return weights


def _predictor(
    condition: Transfer | None, channels: int, vectors: FixedWeights | None
) -> MaskPredictor:
    # Its own initial weights are nearly zero. Behind a ReLU all channels would then get
    # the same gradient and become the same, and no logit could fall below the bias.
    # Weights of both signs keep the channels apart.
    if condition is None or vectors is None:
        predictor = AgnosticPredictor(channels)
        nn.init.normal_(predictor.conv.weight, std=channels**-0.5)
        return predictor
    transfer = TransferFunction(
        vectors.vectors.shape[1], channels, condition.layers, activation=condition.activation
    )
    # The same start for every class, the unknown one too: the class's part is learned.
    last = transfer.layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.bias, std=channels**-0.5)
    with torch.no_grad():
        last.weight.mul_(CLASS_START)
    return TransferPredictor(transfer)


def _widen_first_convolution(encoder: Encoder, name: str, channels: int) -> None:
    """Gives the first convolution input channels of zero weights beside RGB.

    The network's initial answers stay the same. Its weights learn even if
    `trainable_stages` freezes the stem, because the new channels must.
    """
    found = [
        (n, m)
        for n, m in encoder.named_modules()
        if isinstance(m, nn.Conv2d) and m.in_channels == 3
    ]
    if not found or found[0][1].groups != 1:
        raise InputError(
            f"model.encoder.name: {name} does not begin with a convolution on RGB; choose "
            "another network"
        )
    path, old = found[0]
    # Of the same class: it may compute TensorFlow's padding in its forward.
    new = type(old)(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        new.weight[:, :3] = old.weight
        new.weight[:, 3:] = 0
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, last = path.rpartition(".")
    setattr(encoder.get_submodule(parent), last, new)
