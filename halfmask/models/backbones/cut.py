"""Cuts a classification network into feature maps of stride 2, 4, 8, … by its graph.

The code knows no network by name. It cuts any convolutional network that torch.fx can
trace and whose maps have the image's size divided by powers of two.
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
            with the network's parameter names.
        channels: stride → channels of its map.
        stages: stride → names of the body's modules that compute it from the stage
            before.
    """

    body: nn.Module
    channels: dict[int, int]
    stages: dict[int, list[str]]


def cut_network(
    network: nn.Module,
    strides: list[int] | None = None,
    known_ends: Mapping[int, str] | None = None,
    *,
    leaves: tuple[type[nn.Module], ...] = (),
) -> Cut:
    """Cuts `network` at the last tensor of each stride; later layers are dropped.

    Args:
        network: takes float32 [N, 3, H, W].
        strides: the wanted ones; None: all that the network has.
        known_ends: stride → module whose output ends that stage; None: found in the
            graph.
        leaves: modules not to trace into: their computation depends on the map's size.
    Raises:
        ValueError: the network cannot be traced, or has no such maps.
    """
    network.eval()
    graph, shapes, names = _traced(network, leaves)
    nodes = list(graph.nodes)
    found = [_stride(shape) for shape in shapes]
    if known_ends is None:
        ends = _stage_ends(nodes, found, names)
    else:
        ends = _ends_at(dict(zip(nodes, found, strict=True)), names, known_ends)
    wanted = sorted(ends) if strides is None else sorted(strides)
    if len(ends) < 2 or max(ends) != min(ends) << (len(ends) - 1) or not set(wanted) <= set(ends):
        raise ValueError(
            f"it has feature maps of strides {sorted(ends)}, wanted "
            f"{wanted if strides else '2, 4, 8, …'}"
        )
    channels = {s: shapes[nodes.index(ends[s])][1] for s in wanted}
    kept_strides = [s for s in sorted(ends) if s <= wanted[-1]]
    stages = _stages(nodes, [ends[s] for s in kept_strides])
    body = _body(network, graph, [ends[s] for s in wanted])
    kept = {name for name, _ in body.named_modules()}
    rows = zip(kept_strides, stages, strict=True)
    return Cut(body, channels, {s: [m for m in modules if m in kept] for s, modules in rows})


def _traced(
    network: nn.Module, leaves: tuple[type[nn.Module], ...]
) -> tuple[fx.Graph, list[tuple[int, ...]], dict[fx.Node, list[str]]]:
    """Returns the graph, the shape of each node's tensor, and the nodes' module paths."""
    tracer = NodePathTracer(
        leaf_modules=[torchvision.ops.StochasticDepth, torchvision.ops.FrozenBatchNorm2d, *leaves],
        autowrap_modules=(math, torchvision.ops),
    )
    try:
        graph = tracer.trace(network)
        # Tensors without values ("meta") would import torch's compiler, which takes
        # longer than these pixels.
        probe = _Shapes(fx.GraphModule(network, copy.deepcopy(graph)))
        with torch.no_grad():
            probe.run(torch.zeros(1, 3, *PROBE))
    except Exception as error:  # a foreign forward may raise anything when traced
        raise ValueError(f"its computation cannot be traced ({type(error).__name__})") from error
    shapes = [probe.shapes.get(node.name, ()) for node in graph.nodes]
    names = {node: path.split(".") for node, path in tracer.node_to_qualname.items()}
    return graph, shapes, names


class _Shapes(fx.Interpreter):
    """Runs a graph and records the shape of every node's tensor, by the node's name."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:  # torch.fx's hook
        out = super().run_node(n)
        if isinstance(out, Tensor) and n.op not in ("placeholder", "get_attr"):
            self.shapes[n.name] = tuple(out.shape)
        return out


def _stride(shape: tuple[int, ...]) -> int | None:
    """Returns the factor by which a map is smaller than the probe image, or None."""
    if len(shape) != 4:
        return None
    for power in range(1, LARGEST_STRIDE.bit_length()):
        if shape[2:] == (PROBE[0] >> power, PROBE[1] >> power):
            return 1 << power
    return None


def _stage_ends(
    nodes: list[fx.Node], strides: list[int | None], names: dict[fx.Node, list[str]]
) -> dict[int, fx.Node]:
    """Returns stride → the node that ends its stage.

    Only tensors through which everything passes count, not residual branches. The end
    is the last of them before the block that halves the map: a block's inner tensor
    shares more of its module path with the halving node.
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
    """Returns stride → the last node within the named module, after a check."""
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
    """Returns whether all later nodes depend on the image through a node alone."""
    place = {node: i for i, node in enumerate(nodes)}
    furthest, out = 0, []
    for i, node in enumerate(nodes):
        out.append(node.op not in ("placeholder", "get_attr", "output") and furthest <= i)
        if node.op != "get_attr":
            furthest = max([furthest, *(place[user] for user in node.users)])
    return out


def _shared(first: list[str], second: list[str]) -> int:
    count = 0
    for a, b in zip(first[:-1], second[:-1], strict=False):
        if a != b:
            break
        count += 1
    return count


def _stages(nodes: list[fx.Node], ends: list[fx.Node]) -> list[list[str]]:
    """Returns the modules and bare parameters that each stage calls."""
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
