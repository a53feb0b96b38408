"""Frozen BatchNorm that works in the memory of the convolution before it."""

from __future__ import annotations

from torch import Tensor, fx, nn
from torchvision.ops import FrozenBatchNorm2d


class InPlaceFrozenNorm(nn.Module):
    """torchvision's FrozenBatchNorm2d, bit for bit, written over its input, which nobody else may need.

    A convolution's gradient asks for its input, not for its output; two maps less are allocated for each layer.
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
        """float [N, C, H, W], overwritten."""
        scale = (self.weight.reshape(1, -1, 1, 1)) * (self.running_var.reshape(1, -1, 1, 1) + self.eps).rsqrt()
        bias = self.bias.reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale
        return x.mul_(scale).add_(bias)


def norm_in_place(body: nn.Module) -> int:
    """Lets each FrozenBatchNorm2d whose input is a convolution's, and nobody else's, work in place; returns how many.

    Args:
        body: an Encoder's; one that is no fx.GraphModule (`small_resnet` has BatchNorm only) stays as it is.
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
