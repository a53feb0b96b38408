"""The dense parts of a Mask R-CNN as ONNX graphs, and engines in their place.

Backbone with FPN, RPN head, box head and mask trunk are nearly all of the work.
Resizing, proposals, pooling, NMS, classes and the mask head's last layer stay in
PyTorch: they are the same code for every runtime.

Shape letters: N images, R regions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes

from halfmask.errors import InputError
from halfmask.inference.export.int8 import Ranges, write_quantized
from halfmask.inference.export.samples import Sample
from halfmask.inference.runtime.engines import PartEngine
from halfmask.inference.runtime.graph import OPSET
from halfmask.inference.runtime.names import Runtime
from halfmask.models.mask_rcnn.images import inference_batch, size_of
from halfmask.models.mask_rcnn.model import PartialMaskRCNN

PARTS_LAYOUT = 1
"""Number of the graphs' inputs, outputs and facts; another one makes cached graphs
useless.
"""
ROWS: dict[str, int | None] = {"maps": None, "rpn": None, "box": 100, "mask": 8}
"""Part → regions in one call; None: it reads whole images.

Measured on R50-FPN: OpenVINO's box head takes 0.19 s for 1000 regions by 32 at a time,
0.13 s by 250; 8 regions of the mask trunk cost as much a region as 32.
"""
Graphs = dict[str, bytes]
SIZE = (128, 160)
"""(H, W) of the example that is traced; sizes stay free."""


class MapsPart(nn.Module):
    """Images float32 [N, 3, H, W] → the FPN's maps, fine to coarse."""

    def __init__(self, model: PartialMaskRCNN) -> None:
        super().__init__()
        self.backbone, self.fpn = model.backbone, model.fpn

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(images)
        return tuple(self.fpn({str(i): m for i, m in enumerate(maps.values())}).values())


class ProposalPart(nn.Module):
    """The FPN's maps → scores of anchors on each map, then offsets on each."""

    def __init__(self, model: PartialMaskRCNN) -> None:
        super().__init__()
        self.head = model.rpn.head

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        scores, offsets = self.head(list(maps))
        return (*scores, *offsets)


def write_parts(model: PartialMaskRCNN, folder: Path) -> dict[str, Path]:
    """Traces each part into a file; returns part → file.

    Raises:
        InputError: a part, such as a trunk of another package, has no graph.
    """
    model.eval()
    modules: dict[str, nn.Module] = {"maps": MapsPart(model), "rpn": ProposalPart(model)}
    modules |= {"box": model.box_heads.box_head, "mask": model.mask_branch.trunk}
    paths = {}
    for part, given in _examples(model, modules["maps"]).items():
        paths[part] = folder / f"{part}.onnx"
        try:
            _trace(modules[part], given, paths[part], whole=ROWS[part] is None)
        except RuntimeError as error:
            why = str(error).strip().partition("\n")[0]
            raise InputError(f"the model's part `{part}` has no ONNX graph: {why}") from error
    return paths


@torch.no_grad()
def _examples(model: PartialMaskRCNN, maps_of: nn.Module) -> dict[str, tuple[Tensor, ...]]:
    images = torch.zeros(1, 3, *SIZE)
    maps: tuple[Tensor, ...] = maps_of(images)
    regions = [
        torch.zeros(2, maps[0].shape[1], *pool.output_size)
        for pool in (model.box_heads.box_roi_pool, model.mask_pool)
    ]
    return {"maps": (images,), "rpn": maps, "box": (regions[0],), "mask": (regions[1],)}


@torch.no_grad()
def _trace(module: nn.Module, given: tuple[Tensor, ...], path: Path, *, whole: bool) -> None:
    found = module(*given)
    inputs = [f"in{i}" for i in range(len(given))]
    outputs = [f"out{i}" for i in range(1 if isinstance(found, Tensor) else len(found))]
    axes = {
        name: {0: "rows", **({2: f"height_{name}", 3: f"width_{name}"} if whole else {})}
        for name in (*inputs, *outputs)
    }
    # It warns of values that it takes for constant; they are.
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            module,
            given,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
        )


@torch.no_grad()
def part_inputs(
    model: PartialMaskRCNN, image: Tensor, boxes: Tensor
) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """Yields each part with what it reads of a photograph, in PyTorch.

    Args:
        image: float32 [3, H, W].
        boxes: float32 [n, 4] xyxy, whose regions the mask trunk reads, beside those of
            the objects found.
    """
    batch, seen = inference_batch(model.transform, [image]), list[tuple[Tensor, ...]]()
    features = model.features(batch.tensors)
    yield "maps", (batch.tensors,)
    yield "rpn", tuple(features.values())
    hook = model.box_heads.box_head.register_forward_pre_hook(lambda _m, given: seen.append(given))
    try:
        [found] = model.boxes_on(features, batch, [size_of(image)])
    finally:
        hook.remove()
    yield from (("box", given) for given in seen)
    sizes = batch.image_sizes
    given = model.mask_pool(features, [resize_boxes(boxes, size_of(image), sizes[0])], sizes)
    yield "mask", (torch.cat([found.features, given]),)


def ranges_of(
    model: PartialMaskRCNN, paths: dict[str, Path], samples: Sequence[Sample]
) -> dict[str, Path]:
    """Writes the ranges of each part over some photographs; returns part → file."""
    seen = {part: Ranges(path) for part, path in paths.items()}
    for sample in samples:
        for part, given in part_inputs(model, sample.image, sample.boxes):
            seen[part].add({f"in{i}": tensor.numpy() for i, tensor in enumerate(given)})
    files = {part: path.with_suffix(".ranges") for part, path in paths.items()}
    for part, ranges in seen.items():
        ranges.save(files[part])
    return files


def small_parts(paths: dict[str, Path], ranges: dict[str, Path], kept: str) -> Graphs:
    """Returns the parts in 8 bits; `kept` names the layers that stay float32."""
    graphs = {}
    for part, path in paths.items():
        small = path.with_suffix(".int8.onnx")
        write_quantized(path, small, ranges[part], kept=kept, reads_pixels=part == "maps")
        graphs[part] = small.read_bytes()
    return graphs


class EngineHead(nn.Module):
    """`ProposalPart` in an engine, as torchvision calls the RPN's head."""

    def __init__(self, engine: PartEngine) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        found = self.engine(*maps)
        return found[: len(maps)], found[len(maps) :]


class EngineRegions(nn.Module):
    """The box head or the mask trunk in an engine: [R, C, S, S] → a row for each region."""

    def __init__(self, engine: PartEngine) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, regions: Tensor) -> Tensor:
        if len(regions):
            return self.engine(regions)[0]
        return self.engine(torch.zeros(1, *regions.shape[1:]))[0][:0]


def engines_of(runtime: Runtime, graphs: Graphs) -> dict[str, PartEngine]:
    """Prepares the parts' graphs for a runtime."""
    threads = torch.get_num_threads()
    return {
        part: PartEngine(runtime, graph, threads=threads, rows=ROWS[part])
        for part, graph in graphs.items()
    }


def attach(model: PartialMaskRCNN, engines: dict[str, PartEngine]) -> Callable[[], None]:
    """Lets engines compute the parts in inference; returns what gives them back."""
    owner: Any = model
    before = model.rpn.head, model.box_heads.box_head, model.mask_branch.trunk

    def put(head: nn.Module, box: nn.Module, trunk: nn.Module) -> None:
        owner.rpn.head, owner.box_heads.box_head, owner.mask_branch.trunk = head, box, trunk

    def undo() -> None:
        model.engine = None
        put(*before)

    model.engine = engines["maps"]
    put(EngineHead(engines["rpn"]), *(EngineRegions(engines[part]) for part in ("box", "mask")))
    return undo
