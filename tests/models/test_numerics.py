"""Both kinds of model where numbers are short: bfloat16, one class, nothing to learn
from, single pixels.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.models.build import build_model
from halfmask.recipes.recipe import BoxSegmenterConfig
from halfmask.structures import Detection, Target

CLASSES = 6
KINDS = ["mask_rcnn", "box_segmenter"]
Batch = tuple[list[Tensor], list[Target]]
Build = Callable[..., Any]


@pytest.fixture(params=KINDS)
def build(request: pytest.FixtureRequest, config: Any) -> Build:
    """classes → a tiny model of each kind in training mode, the same weights each time."""

    def built(classes: int = CLASSES) -> Any:
        torch.manual_seed(0)
        if request.param == "mask_rcnn":
            return build_model(config(kind="transfer"), classes)
        encoder = {"name": "small_resnet", "widths": [12, 16, 24], "blocks": [1, 1, 1]}
        values = {
            "kind": "box_segmenter",
            "encoder": encoder,
            "crop_size": 32,
            "decoder_widths": [24, 16, 12],
        }
        return build_model(BoxSegmenterConfig.model_validate(values), classes)

    return built


def losses(model: Any, batch: Batch) -> dict[str, Tensor]:
    torch.manual_seed(9)
    return dict(model(*batch, "all"))


def learn(model: Any, batch: Batch) -> None:
    """One step: losses and every gradient are finite, and so are the weights and
    statistics after it.
    """
    found = losses(model, batch)
    assert found
    assert all(torch.isfinite(v) for v in found.values()), found
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    total = torch.stack(list(found.values())).sum()
    if total.requires_grad:
        total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        optimiser.step()
    assert all(t.isfinite().all() for t in model.state_dict().values())


def infer(model: Any, batch: Batch) -> list[Detection]:
    """Given boxes, and found ones where the model finds any: finite boxes, scores and
    masks in [0, 1].
    """
    images, targets = batch
    model.eval()
    with torch.no_grad():
        drawn = list(model.segment(images, [t.boxes for t in targets], [t.labels for t in targets]))
        found = list(model.detect(images)) if model.has_detector else []
    for one in [*drawn, *found]:
        assert one.boxes.isfinite().all()
        assert one.scores.isfinite().all()
        assert one.mask_probs.isfinite().all()
        assert one.masks().shape == (len(one), *one.image_size)
    assert [len(d.boxes) for d in drawn] == [len(t.boxes) for t in targets]
    return drawn


def target(
    size: tuple[int, int], boxes: list[list[float]], masked: bool = True, label: int = 1
) -> Target:
    """Objects that fill their box to the pixel, or that have none."""
    dense = torch.zeros((len(boxes), *size), dtype=torch.uint8)
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        dense[k, int(y0) : max(int(y0) + 1, round(y1)), int(x0) : max(int(x0) + 1, round(x1))] = 1
    has_mask = torch.full((len(boxes),), masked)
    crops = MaskCrops.from_dense(dense) if masked and boxes else MaskCrops.empty(size)
    labels = torch.full((len(boxes),), label, dtype=torch.int64)
    return Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=labels,
        has_mask=has_mask,
        masks=crops,
        image_id=1,
    )


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.rand((3, *size), generator=generator) for size in sizes]


SIZE = (48, 64)
BOX = [5.0, 6.0, 30.0, 40.0]
CASES: dict[str, Callable[[], Batch]] = {
    "an image without objects": lambda: (
        images(SIZE, SIZE),
        [target(SIZE, []), target(SIZE, [BOX])],
    ),
    "no object in the batch": lambda: (images(SIZE, SIZE), [target(SIZE, []), target(SIZE, [])]),
    "no mask in the batch": lambda: (images(SIZE, SIZE), [target(SIZE, [BOX], masked=False)] * 2),
    "one image": lambda: (images(SIZE), [target(SIZE, [BOX])]),
    "images of one pixel": lambda: (images((1, 1)), [target((1, 1), [[0.0, 0.0, 1.0, 1.0]])]),
    "an image of one pixel without objects": lambda: (images((1, 1)), [target((1, 1), [])]),
    "an image one pixel high": lambda: (
        images((1, 200)),
        [target((1, 200), [[3.0, 0.0, 90.0, 1.0]])],
    ),
    "an image one pixel wide": lambda: (
        images((960, 1)),
        [target((960, 1), [[0.0, 3.0, 1.0, 900.0]])],
    ),
    "a large image beside one of a pixel": lambda: (
        images((1, 1), (90, 70)),
        [target((1, 1), [[0.0, 0.0, 1.0, 1.0]]), target((90, 70), [BOX])],
    ),
    "boxes one pixel wide": lambda: (
        images(SIZE),
        [target(SIZE, [[5.0, 6.0, 6.0, 40.0], [8.0, 9.0, 60.0, 10.0]])],
    ),
    "boxes of one pixel": lambda: (
        images(SIZE),
        [target(SIZE, [[5.0, 6.0, 6.0, 7.0], [63.0, 47.0, 64.0, 48.0]])],
    ),
    "boxes of a thousandth of a pixel": lambda: (
        images(SIZE),
        [target(SIZE, [[5.0, 6.0, 5.001, 6.001]])],
    ),
    "a box over the whole image": lambda: (images(SIZE), [target(SIZE, [[0.0, 0.0, 64.0, 48.0]])]),
    "a black image": lambda: ([torch.zeros(3, *SIZE)], [target(SIZE, [BOX])]),
    "the same object forty times": lambda: (images(SIZE), [target(SIZE, [BOX] * 40)]),
}


@pytest.mark.parametrize("case", CASES)
def test_training_and_inference(case: str, build: Build) -> None:
    batch = CASES[case]()
    model = build()
    learn(model, batch)
    infer(model, batch)


def test_one_class(build: Build, scene: Any) -> None:
    """Two rows: background and the class."""
    batch = scene([SIZE, (60, 40)], classes=2)
    model = build(2)
    learn(model, batch)
    assert all(set(d.labels.tolist()) <= {1} for d in infer(model, batch))


def test_bfloat16_is_near_float32(build: Build, scene: Any) -> None:
    """What `precision: bf16` does on a GPU, in the CPU's autocast: the same losses but
    for rounding, and finite gradients.
    """
    batch = scene([SIZE, (60, 40)], masked="half")
    exact = losses(build(), batch)
    model = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = losses(model, batch)
    assert short.keys() == exact.keys()
    for name, value in exact.items():
        assert short[name].float().item() == pytest.approx(value.item(), rel=0.05, abs=0.02), name
    torch.stack([v.float() for v in short.values()]).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all(t.dtype != torch.bfloat16 for t in model.state_dict().values())


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_where_numbers_are_short(case: str, build: Build) -> None:
    batch = CASES[case]()
    model = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        learn(model, batch)
        infer(model, batch)
