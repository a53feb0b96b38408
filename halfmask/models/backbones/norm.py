"""Frozen BatchNorm: in the memory of the convolution before it, or folded into it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from halfmask.masks.operators import FrozenBatchNorm2d


class InPlaceFrozenNorm(nn.Module):
    """torchvision's FrozenBatchNorm2d, bit for bit, written over its input.

    Nothing else may need that input. A convolution's gradient needs its input only, so
    each layer allocates two maps less.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: FrozenBatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        for name, value in norm.named_buffers():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float [N, C, H, W], in the memory of `x`."""
        scale = (self.weight.reshape(1, -1, 1, 1)) * (
            self.running_var.reshape(1, -1, 1, 1) + self.eps
        ).rsqrt()
        bias = self.bias.reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale
        return x.mul_(scale).add_(bias)


def norm_in_place(body: nn.Module) -> int:
    """Lets FrozenBatchNorm2d work in place if it alone reads a convolution's output.

    Only an fx.GraphModule changes (`small_resnet` has BatchNorm alone). Returns the
    count.
    """
    if not isinstance(body, fx.GraphModule):
        return 0
    modules = dict(body.named_modules())
    changed = 0
    for node in body.graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, FrozenBatchNorm2d):
            continue
        before = node.args[0]
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            parent, _, last = str(node.target).rpartition(".")
            setattr(body.get_submodule(parent), last, InPlaceFrozenNorm(norm))
            changed += 1
    return changed


def fold_frozen_norm(body: fx.GraphModule) -> int:
    """Folds FrozenBatchNorm2d into learning convolutions; returns the count.

    The function stays the same. A MobileNet trains a third faster on a CPU (memory
    bounds it), and the biases, which frozen norm holds still, learn. Frozen
    convolutions stay.
    """
    return _fold_graph(body, (FrozenBatchNorm2d,), learning=True)


def fold_for_inference(model: nn.Module) -> int:
    """Folds each norm into the convolution before it; returns the count.

    For a model in evaluation mode that does not learn again. The function stays the
    same, but for rounding; a box segmenter is a tenth faster on a CPU.
    """
    graphs = [m for m in model.modules() if isinstance(m, fx.GraphModule)]
    folded = sum(
        _fold_graph(body, (FrozenBatchNorm2d, InPlaceFrozenNorm, nn.BatchNorm2d)) for body in graphs
    )
    for block in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
        for i, (conv, norm) in enumerate(zip(list(block), list(block)[1:], strict=False)):
            if (
                isinstance(conv, nn.Conv2d)
                and isinstance(norm, nn.BatchNorm2d)
                and not norm.training
            ):
                block[i], block[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
                folded += 1
    return folded


def _fold_graph(
    body: fx.GraphModule, kinds: tuple[type[nn.Module], ...], learning: bool = False
) -> int:
    """Folds norms of these kinds, if `learning` only into learning convolutions."""
    modules = dict(body.named_modules())
    calls = Counter(str(node.target) for node in body.graph.nodes if node.op == "call_module")
    folded = 0
    for node in list(body.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, kinds) or (
            isinstance(norm, nn.BatchNorm2d) and not _is_fixed(norm)
        ):
            continue
        before = node.args[0]
        conv = modules.get(str(before.target)) if before.op == "call_module" else None
        if (
            not isinstance(conv, nn.Conv2d)
            or len(before.users) > 1
            or calls[str(before.target)] > 1
        ):
            continue
        if isinstance(conv.weight, nn.Parameter) or not learning:
            _fold(conv, norm)
            node.replace_all_uses_with(before)
            body.graph.erase_node(node)
            folded += 1
    body.delete_all_unused_submodules()
    body.recompile()
    return folded


def _is_fixed(norm: nn.BatchNorm2d) -> bool:
    return not norm.training and norm.affine and norm.track_running_stats


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: Any) -> None:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = conv.bias if conv.bias is not None else torch.zeros_like(scale)
    conv.weight.mul_(scale[:, None, None, None])
    bias = (bias - norm.running_mean) * scale + norm.bias
    if "bias" in conv._buffers:  # of a frozen stage
        conv.bias = bias
    else:
        conv.bias = nn.Parameter(bias)
