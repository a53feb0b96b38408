"""Every model on a pretended GPU: no operation mixes tensors of two devices.

Losses, gradients, a step of the optimiser and all ways of inference run with their true
values; only what counts as the device is pretended. The answers equal those of the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from halfmask import load
from halfmask.models.build import build_model
from halfmask.recipes.recipe import BoxSegmenterConfig, MaskRCNN
from halfmask.structures import Detection
from halfmask.training.loop.batches import ImageBatch
from tests.models.conftest import CLASSES, make_scene, tiny_config
from tests.pretended_gpu import GPU, MixedDevicesError, PretendedGPU

SIZES = [(48, 64), (56, 40)]


def segmenter(**values: Any) -> BoxSegmenterConfig:
    encoder = {"name": "small_resnet", "widths": [12, 16, 24], "blocks": [1, 1, 1]}
    tiny = {"kind": "box_segmenter", "encoder": encoder, "crop_size": 32}
    return BoxSegmenterConfig.model_validate({**tiny, "decoder_widths": [24, 16, 12], **values})


def transfer(source: str, **values: Any) -> MaskRCNN:
    return tiny_config(kind="transfer", transfer={"input": source}, **values)


FROM_BOXES = {"projection": 1.0, "colour": 1.0}
MODELS: dict[str, Callable[[], Any]] = {
    "transfer from both": lambda: transfer("cls+box"),
    "transfer from classes": lambda: transfer("cls"),
    "transfer from random vectors": lambda: transfer("random", mlp="full", mlp_layers=2),
    "transfer, taught": lambda: transfer("box", box_only="taught", mlp="light"),
    "agnostic, the MLP alone": lambda: tiny_config(kind="agnostic", mlp="only"),
    "agnostic, boxes": lambda: tiny_config(kind="agnostic", regions="boxes", region_jitter=0.1),
    "per class": lambda: tiny_config(kind="per_class", unknown="skip"),
    "hourglass": lambda: tiny_config(kind="per_class", trunk="hourglass", unknown="ignore"),
    "box segmenter": segmenter,
    "box segmenter, hourglass": lambda: segmenter(decoder="hourglass", decoder_widths=[12]),
    "box segmenter, neighbours": lambda: segmenter(neighbours=True, unknown="ignore"),
    "box segmenter, loose": lambda: segmenter(box_jitter=0.1, box_reach=0.1, boundary_weight=1.0),
    "box segmenter, from boxes": lambda: segmenter(from_boxes=FROM_BOXES, class_balance=0.5),
    "box segmenter, settled": lambda: segmenter(settle=True, mirror=True, zooms=[0.1, 0.3]),
    "box segmenter, best IoU": lambda: segmenter(decision="best_iou"),
    "box segmenter, classes": lambda: segmenter(condition={"input": "random"}),
}


def batch(masked: str) -> ImageBatch:
    return ImageBatch(*make_scene(SIZES, seed=3, masked=masked))


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    return build_model(MODELS[kind](), CLASSES)


def step(model: Any, given: ImageBatch) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Losses, and the weights after one step of the optimiser."""
    torch.manual_seed(5)
    model.train()
    losses = given.losses(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()
    return losses, list(model.parameters())


def answers(model: Any, given: ImageBatch) -> list[Detection]:
    model.eval()
    with torch.inference_mode():
        boxes = [target.boxes for target in given.targets]
        labels = [target.labels for target in given.targets]
        found = [*model.segment(given.images, boxes, labels)]
        found += model.segment(given.images, boxes, None)
        if model.has_detector:
            found += model.detect(given.images)
        return [detection.on_cpu() for detection in found]


@pytest.mark.parametrize("kind", MODELS)
def test_training_stays_on_the_device(kind: str) -> None:
    expected, weights = step(model_of(kind), batch("half"))
    with PretendedGPU() as gpu:
        found, moved = step(model_of(kind).to(GPU), batch("half").to(GPU))
        assert gpu.operations > 200
        assert all(gpu.has(loss) for loss in found.values())
        assert all(gpu.has(weight) for weight in moved)
    assert {k: v.item() for k, v in found.items()} == {k: v.item() for k, v in expected.items()}
    assert all(torch.equal(a, b) for a, b in zip(moved, weights, strict=True))


@pytest.mark.parametrize("kind", MODELS)
def test_inference_stays_on_the_device(kind: str) -> None:
    expected = answers(model_of(kind), batch("none"))
    with PretendedGPU() as gpu:
        found = answers(model_of(kind).to(GPU), batch("none").to(GPU))
        assert gpu.operations > 100
        assert not any(gpu.has(d.mask_probs) for d in found)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.boxes, theirs.boxes)
        assert torch.allclose(ours.mask_probs, theirs.mask_probs, atol=1e-5)
        assert torch.equal(ours.labels, theirs.labels)


def test_the_shipped_model_stays_on_the_device() -> None:
    """With its readings, its score, and a photograph that is drawn a part at a time."""
    predictor = load("box-segmenter")
    images, targets = make_scene([(150, 200)], objects=7, seed=3)
    given = [targets[0].boxes]
    expected = predictor.segment_batch(images, given)[0]
    with PretendedGPU() as gpu:
        predictor.model.to(GPU)
        predictor.device = GPU
        found = predictor.segment_batch(images, given)[0]
        assert gpu.operations > 500
        assert not gpu.has(found.mask_probs)
    assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    assert (found.masks() == expected.masks()).float().mean() > 0.9999


MIXED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "sum": lambda here, there: here + there,
    "cat": lambda here, there: torch.cat([there, here]),
    "an index of the GPU": lambda here, there: here[there[:, 0] > 0.5],
    "a layer": lambda here, there: torch.nn.Linear(4, 2)(there),
    "where": lambda here, there: torch.where(there > 0, there, here),
    "gather": lambda here, there: there.gather(1, torch.zeros(3, 1, dtype=torch.int64)),
    "a region of torchvision": lambda here, there: nms(here, there[:, 0], 0.5),
}


@pytest.mark.parametrize("case", MIXED)
def test_mixed_devices_fail(case: str) -> None:
    with PretendedGPU(), pytest.raises(MixedDevicesError, match="on cuda:0, and on cpu"):
        MIXED[case](torch.rand(3, 4), torch.rand(3, 4).to(GPU))


def test_what_cuda_allows_passes() -> None:
    with PretendedGPU():
        there = torch.rand(3, 4).to(GPU)
        assert (there * torch.tensor(2.0)).device == GPU  # a number of the CPU
        assert there[torch.tensor([0, 2])].device == GPU  # indices of the CPU
        there[0] = torch.ones(4)  # a copy
        assert there.cpu().device.type == "cpu"
        assert there.to("cpu", torch.float64).numpy().shape == (3, 4)
        assert torch.zeros_like(there).is_cuda
        assert torch.arange(3, device=there.device).is_cuda
        assert not torch.from_numpy(there.cpu().numpy()).is_cuda
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
