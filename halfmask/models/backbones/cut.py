"""Cuts a classification network into feature maps of stride 2, 4, 8, … by reading its
computation graph.

Nothing here knows a network's name: any convolutional network that torch.fx can trace
and whose maps are the image's size divided by powers of two is cut at the end of each
of its stages.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import NodePathTracer

# Not square, so that a token or channels-last tensor cannot pass for a feature map by
# accident.
PROBE = (224, 288)
LARGEST_STRIDE = 32


@dataclass(frozen=True)
class Cut:
    """A network cut into stages.

    Attributes:
        body: image batch → tuple of feature maps, one for each stride, fine to coarse;
            keeps the network's parameter names.
        channels: stride → channels of its map.
        stages: stride → names of the modules of the body that compute it from the stage
            before.
    """

    body: nn.Module
    channels: dict[int, int]
    stages: dict[int, list[str]]


def cut_network(
    network: nn.Module,
    strides: list[int] | None = None,
    known_ends: Mapping[int, str] | None = None,
    leaves: tuple[type[nn.Module], ...] = (),
) -> Cut:
    """Cuts `network` at the last tensor of each stride; what comes after the last
    wanted stride is dropped.

    Args:
        network: maps float32 [N, 3, H, W] to anything.
        strides: the wanted ones; None for every stride that the network has.
        known_ends: stride → path of the module whose output ends that stage, where the
            network's makers say so; None: found from the graph.
        leaves: modules that are not to be traced into, since what they compute depends
            on the map's size.
    Raises:
        ValueError: the network cannot be traced or has no such maps.
    """
    network.eval()
    tracer = NodePathTracer(
        leaf_modules=[torchvision.ops.StochasticDepth, torchvision.ops.FrozenBatchNorm2d, *leaves],
        autowrap_modules=(math, torchvision.ops),
    )
    try:
        graph = tracer.trace(network)
        probe = _Shapes(fx.GraphModule(copy.deepcopy(network).to("meta"), copy.deepcopy(graph)))
        probe.run(torch.empty(1, 3, *PROBE, device="meta"))
    except Exception as error:  # whatever a foreign forward raises when it is traced
        raise ValueError(f"its computation cannot be traced ({type(error).__name__})") from error
    nodes = list(graph.nodes)
    shapes = [probe.shapes.get(node.name, ()) for node in nodes]
    found = [_stride(shape) for shape in shapes]
    names = {node: path.split(".") for node, path in tracer.node_to_qualname.items()}
    said = dict(zip(nodes, found, strict=True))
    ends = (
        _stage_ends(nodes, found, names)
        if known_ends is None
        else _ends_at(said, names, known_ends)
    )
    wanted = sorted(ends) if strides is None else sorted(strides)
    if len(ends) < 2 or max(ends) != min(ends) << (len(ends) - 1) or not set(wanted) <= set(ends):
        raise ValueError(
            f"it has feature maps of strides {sorted(ends)}, wanted "
            f"{wanted if strides else '2, 4, 8, …'}"
        )
    channels = {s: shapes[nodes.index(ends[s])][1] for s in wanted}
    stages = _stages(nodes, [ends[s] for s in sorted(ends) if s <= wanted[-1]])
    body = _body(network, graph, [ends[s] for s in wanted])
    kept = {name for name, _ in body.named_modules()}
    by_stride = dict(zip([s for s in sorted(ends) if s <= wanted[-1]], stages, strict=True))
    return Cut(
        body, channels, {s: [m for m in modules if m in kept] for s, modules in by_stride.items()}
    )


class _Shapes(fx.Interpreter):
    """Runs a graph and notes the shape of every node's tensor, by the node's name."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:  # torch.fx's hook
        out = super().run_node(n)
        if isinstance(out, Tensor) and n.op not in ("placeholder", "get_attr"):
            self.shapes[n.name] = tuple(out.shape)
        return out


def _stride(shape: tuple[int, ...]) -> int | None:
    """The power of two by which a map of that shape is smaller than the probe image,
    None where it is no such map.
    """
    if len(shape) != 4:
        return None
    for power in range(1, LARGEST_STRIDE.bit_length()):
        if shape[2:] == (PROBE[0] >> power, PROBE[1] >> power):
            return 1 << power
    return None


def _stage_ends(
    nodes: list[fx.Node], strides: list[int | None], names: dict[fx.Node, list[str]]
) -> dict[int, fx.Node]:
    """Stride → the node that ends its stage.

    Only tensors through which everything passes count (a residual branch does not). Of
    these, the stage's end is the last one before the block that halves the map: a
    block's inner tensor, such as the expansion before a strided depthwise convolution,
    shares more of its module path with the halving node than the end of the block
    before does.
    """
    through = _cut_points(nodes)
    ends: dict[int, fx.Node] = {}
    for stride in sorted({s for s in strides if s is not None}):
        candidates = [
            n for n, s, t in zip(nodes, strides, through, strict=True) if t and s == stride
        ]
        if not candidates:
            continue
        halving = next((n for n, s in zip(nodes, strides, strict=True) if s == 2 * stride), None)
        if halving is not None:
            shared = [_shared(names[n], names[halving]) for n in candidates]
            candidates = [
                n for n, depth in zip(candidates, shared, strict=True) if depth == min(shared)
            ]
        ends[stride] = candidates[-1]
    return ends


def _ends_at(
    strides: Mapping[fx.Node, int | None],
    names: dict[fx.Node, list[str]],
    modules: Mapping[int, str],
) -> dict[int, fx.Node]:
    """Stride → the last node within the named module, for strides that this package
    knows. The maker's word is checked.
    """
    ends: dict[int, fx.Node] = {}
    for stride, module in sorted((s, m) for s, m in modules.items() if s <= LARGEST_STRIDE):
        path = module.split(".")
        within = [n for n in strides if n in names and names[n][: len(path)] == path]
        if not within:
            raise ValueError(
                f"it has no module {module}, which should end its stage of stride {stride}"
            )
        if strides[within[-1]] != stride:
            raise ValueError(
                f"its module {module} should end its stage of stride {stride}, but gives no "
                "such map"
            )
        ends[stride] = within[-1]
    return ends


def _cut_points(nodes: list[fx.Node]) -> list[bool]:
    """For each node, whether all that comes later depends on the image through this node alone."""
    place = {node: i for i, node in enumerate(nodes)}
    furthest, out = 0, []
    for i, node in enumerate(nodes):
        out.append(node.op not in ("placeholder", "get_attr", "output") and furthest <= i)
        if node.op != "get_attr":
            furthest = max([furthest, *(place[user] for user in node.users)])
    return out


def _shared(first: list[str], second: list[str]) -> int:
    """How many leading parts two module paths have in common."""
    count = 0
    for a, b in zip(first[:-1], second[:-1], strict=False):
        if a != b:
            break
        count += 1
    return count


def _stages(nodes: list[fx.Node], ends: list[fx.Node]) -> list[list[str]]:
    """Names of the modules (and of bare parameters) that each stage calls."""
    stages: list[list[str]] = [[] for _ in ends]
    current = 0
    for node in nodes:
        if current == len(ends):
            break
        if node.op in ("call_module", "get_attr"):
            stages[current].append(str(node.target))
        if node is ends[current]:
            current += 1
    return stages


def _body(network: nn.Module, graph: fx.Graph, outputs: list[fx.Node]) -> nn.Module:
    for node in [n for n in graph.nodes if n.op == "output"]:
        graph.erase_node(node)
    with graph.inserting_after(list(graph.nodes)[-1]):
        graph.output(tuple(outputs))
    body = fx.GraphModule(network, graph, class_name=type(network).__name__)
    body.graph.eliminate_dead_code()
    body.delete_all_unused_submodules()
    body.recompile()
    return body
