"""Layers that stand in for others while a model trains.

BatchNorm over the joint batch of all processes, and depthwise convolutions that a CPU
computes badly in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from halfmask import distributed


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce in both directions: each loss depends on the inputs of all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        ctx.group = group
        out = values.clone()
        dist.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        out = gradients[0].clone()
        dist.all_reduce(out, group=ctx.group)
        return out, None


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d with the mean and variance over all processes of a training step.

    A process without any input takes part. torch's SyncBatchNorm is for GPUs only; this
    one uses plain operations, and serves CPUs. Outside of a step and in eval mode it is
    a BatchNorm2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises float [N, C, H, W]; N may be 0."""
        if not (self.training and distributed.in_step()):
            out: Tensor = super().forward(input)
            return out
        group = distributed.current().group
        x, places = input.float(), (0, 2, 3)
        cells = x.new_tensor([x.numel() // self.num_features])
        sums = _SumOverProcesses.apply(torch.cat([x.sum(places), cells]), group)
        count = sums[-1].detach().clamp_min(1)
        mean = sums[:-1] / count
        centred = x - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum(places), group) / count
        self._follow(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        out = centred * scale[:, None, None]
        return (out + self.bias[:, None, None] if self.affine else out).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Updates the running statistics as torch does."""
        if (
            self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        self.num_batches_tracked.add_(1)
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), rate)


@contextmanager
def shared_norms(model: nn.Module) -> Iterator[None]:
    """Replaces the model's BatchNorms within the block if several processes train it.

    GPUs use torch's SyncBatchNorm, CPUs `SharedBatchNorm2d`.
    """
    members = distributed.current()
    if members.alone:
        yield
        return
    kind = (
        nn.SyncBatchNorm
        if members.device is not None and members.device.type == "cuda"
        else SharedBatchNorm2d
    )
    _exchange(model, nn.BatchNorm2d, kind)
    try:
        yield
    finally:
        _exchange(model, kind, nn.BatchNorm2d)


def _exchange(model: nn.Module, old: type[nn.Module], new: type[Any]) -> None:
    """Replaces the layers of one type by another, with the same parameters and buffers."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is old:
                norm: Any = layer
                other = new(
                    norm.num_features,
                    norm.eps,
                    norm.momentum,
                    norm.affine,
                    norm.track_running_stats,
                )
                other._parameters, other._buffers = norm._parameters, norm._buffers
                other.training = norm.training
                setattr(parent, name, other)


class FullPrecisionDepthwise(nn.Conv2d):
    """A convolution that computes in its weights' precision, under autocast too."""

    def forward(self, input: Tensor) -> Tensor:
        """Returns the convolution of float [N, C, H, W]."""
        with torch.autocast(input.device.type, enabled=False):
            out: Tensor = super().forward(input.to(self.weight.dtype))
            return out


@contextmanager
def depthwise_in_full_precision(model: nn.Module) -> Iterator[None]:
    """Lets depthwise convolutions of stride 2 compute in float32 within the block.

    oneDNN has no bfloat16 kernel for their gradient: it multiplies matrices of one
    channel each, a third of a step of MobileNetV2 on 96 × 96. (torch 2.14,
    AVX512-BF16.) State dicts and copies of the model stay as they are.
    """
    chosen = [
        m for m in model.modules() if type(m) is nn.Conv2d and m.groups > 1 and max(m.stride) > 1
    ]
    for module in chosen:
        module.__class__ = FullPrecisionDepthwise
    try:
        yield
    finally:
        for module in chosen:
            module.__class__ = nn.Conv2d
