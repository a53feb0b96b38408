"""The switches of `detectron: exact` that a training step does not show by itself, each
against the authors' rule, and what the rule is not without it.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
import torch
import torchvision
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from halfmask.errors import InputError
from halfmask.masks.polygons import draw_outline, mirror_outline, outline_of
from halfmask.models.backbones.encoder import build_encoder, read_weights
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn.detectron_training import RpnRules, best_of_groups, propose
from halfmask.models.mask_rcnn.images import training_flag
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import Recipe, load_recipe, parse_recipe
from halfmask.training.data import read_training_data
from halfmask.training.loop.optim import StepMomentum
from tests.paper.conftest import DATA, MODEL, SIDE, WHOLE, stage
from tests.paper.detectron_reference import generate_anchors, polygon_target

Record = dict[str, Any]


def model_of(**detector: Any) -> PartialMaskRCNN:
    whole = {**MODEL, "detector": {**MODEL["detector"], **detector}}
    whole["mask_head"] = {"width": 8, "convs": 1, "roi_size": 4}
    torch.manual_seed(0)
    recipe = parse_recipe(
        {"name": "x", "model": whole, "data": DATA, "stages": [stage(WHOLE)]}, "x"
    )
    model = build_model(recipe.model, 7)
    assert isinstance(model, PartialMaskRCNN)
    return model


def test_the_line_sets_every_key_and_a_key_of_its_own_wins() -> None:
    recipe = load_recipe("coco_t2_r50_voc2nonvoc_maskx", ["model.detector.box_beta=0.5"])
    assert recipe.model.kind == "mask_rcnn"
    detector, head = recipe.model.detector, recipe.model.mask_head
    assert (detector.legacy_boxes, detector.straddling_anchors) == (True, False)
    assert (detector.rpn_divisor, detector.rpn_post_nms_per) == ("fixed", "minibatch")
    assert (detector.box_beta, detector.fc_init) == (0.5, "xavier")
    assert (head.divisor, recipe.model.minibatch, recipe.normaliser) == ("minibatch", 2, "rank")
    data, (one,) = recipe.data, recipe.stages
    assert (data.mask_targets, data.crowds, data.skip_unannotated) == ("polygon", "label", True)
    assert one.optimiser.momentum_of == "steps"
    again = parse_recipe(yaml.safe_load(recipe.to_yaml()), "again")
    assert again == recipe


def test_stage_two_keeps_pictures_without_annotations() -> None:
    assert not load_recipe("coco_t1a_voc2nonvoc_cls_box").data.skip_unannotated


def test_without_the_line_all_is_torchvisions() -> None:
    recipe = load_recipe("world_transfer")
    assert recipe.model.kind == "mask_rcnn"
    detector = recipe.model.detector
    assert (detector.legacy_boxes, detector.straddling_anchors) == (False, True)
    assert (detector.rpn_divisor, detector.rpn_post_nms_per) == ("drawn", "image")
    assert (detector.box_beta, detector.fc_init) == (1 / 9, "torch")
    assert (recipe.data.mask_targets, recipe.data.crowds) == ("bitmap", "ignore")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["normaliser=global"], "needs `normaliser: rank`"),
        (["stages.0.batch_size=3"], "a multiple of model.minibatch × devices"),
        (["data.paste=0.5"], "have no polygons"),
        (["detectron=close"], "detectron"),
        (
            ["model.backbone.weights=R-50.pkl", "model.backbone.stride_in_1x1=false"],
            "leave out backbone.stride_in_1x1",
        ),
    ],
)
def test_keys_that_do_not_fit_are_refused(changes: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        load_recipe("coco_t2_r50_voc2nonvoc_maskx", changes)


def test_cached_regions_have_no_minibatch() -> None:
    with pytest.raises(InputError, match="cached regions belong to no minibatch"):
        load_recipe("coco_t1a_voc2nonvoc_cls_box", ["stages.0.cache_features=true"])


# --- the start of the box head ------------------------------------------------------------


def test_fully_connected_layers_start_as_caffe2s() -> None:
    """XavierFill: uniform up to √(3 / inputs), so of deviation 1/√inputs; biases 0."""
    for exact, init in ((True, "xavier"), (False, "torch")):
        head = model_of(fc_init=init, box_width=64).box_heads.box_head
        for layer in (head.fc6, head.fc7):
            inputs = layer.weight.shape[1]
            same = layer.weight.std().item() == pytest.approx(inputs**-0.5, rel=0.05)
            assert same == exact
            assert (layer.weight.abs().max().item() <= (3 / inputs) ** 0.5) is True
            assert bool(layer.bias.any()) != exact


# --- proposals ----------------------------------------------------------------------------


def numpy_best(scores: list[NDArray[np.float32]], most: int) -> list[list[int]]:
    """`collect`: the best of a minibatch, whatever image they are of."""
    flat = [(s, i, r) for i, rows in enumerate(scores) for r, s in enumerate(rows)]
    kept = sorted(flat, key=lambda row: -row[0])[:most]
    return [sorted(r for _, i, r in kept if i == image) for image in range(len(scores))]


@pytest.mark.parametrize("group", [1, 2, 3, 10**9])
def test_a_minibatch_shares_its_proposals(group: int) -> None:
    rng = np.random.default_rng(group % 7)
    scores = [np.sort(rng.random(n).astype(np.float32))[::-1].copy() for n in (9, 4, 0, 12, 7)]
    boxes = [torch.arange(4.0 * len(s)).reshape(-1, 4) for s in scores]
    found = best_of_groups(boxes, [torch.from_numpy(s) for s in scores], group, most=8)
    for start in range(0, 5, min(group, 5)):
        some = slice(start, start + group)
        for rows, wanted in zip(found[some], numpy_best(scores[some], 8), strict=True):
            assert [int(r) // 4 for r in rows[:, 0]] == wanted


def proposals(model: PartialMaskRCNN, batch: Any) -> list[int]:
    """How many each of two images gets."""
    images, targets = batch
    with torch.no_grad():
        resized, boxes = model._batch(images, targets)
        found, _ = model._propose(resized, model.features(resized.tensors), boxes)
    return [len(f) for f in found]


def test_post_nms_counts_images_or_minibatches(batch: Callable[..., Any], document: Record) -> None:
    two = batch(document)
    assert proposals(model_of(rpn_post_nms=[20, 30]), two) == [20, 20]
    assert sum(proposals(model_of(rpn_post_nms=[20, 30], rpn_post_nms_per="minibatch"), two)) == 20


def test_own_forward_of_the_rpn_equals_torchvisions(
    batch: Callable[..., Any], document: Record
) -> None:
    """With every switch off, what the switches build on is torchvision's."""
    model, (images, targets) = model_of(), batch(document)
    resized, boxes = model._batch(images, targets)
    features = model.features(resized.tensors)
    with training_flag(model.rpn, True):
        torch.manual_seed(3)
        wanted, losses = model.rpn(resized, features, boxes)
        torch.manual_seed(3)
        found, own = propose(model.rpn, RpnRules(), resized, features=features, targets=boxes)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
    for name, loss in losses.items():
        torch.testing.assert_close(own[name], loss)


def test_a_picture_smaller_than_every_anchor_teaches_the_rpn_nothing(
    batch: Callable[..., Any], document: Record
) -> None:
    images, targets = batch(document)
    model = model_of(straddling_anchors=False, anchor_sizes=[200, 300, 400])
    losses = model(images, targets)
    assert losses["loss_objectness"].item() == losses["loss_rpn_box_reg"].item() == 0
    torch.stack(list(losses.values())).sum().backward()


@pytest.mark.parametrize("centred", [True, False])
def test_centred_anchors_alone(centred: bool) -> None:
    model = model_of(centred_anchors=centred)
    maps = [torch.zeros(1, 1, n, n) for n in (8, 4, 2)]
    images = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    (found,) = model.rpn.anchor_generator(images, maps)
    cell = generate_anchors(4, 16, [0.5, 1.0, 2.0]) + np.array([0, 0, 1, 1])
    assert np.array_equal(found[:3].numpy(), cell) == centred


# --- targets drawn from polygons ----------------------------------------------------------


def test_outlines_are_drawn_as_the_authors_do() -> None:
    """Random polygons, some far outside of the region, in one to three parts."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        parts = [
            rng.uniform(-20, 120, 2 * rng.integers(3, 9)).round(2).tolist()
            for _ in range(rng.integers(1, 4))
        ]
        corner, size = rng.uniform(0, 80, 2), rng.uniform(0.2, 60, 2)
        box = np.concatenate([corner, corner + size])
        outline = outline_of(parts)
        assert outline is not None
        wanted = polygon_target(parts, box, 28).numpy()
        assert np.array_equal(draw_outline(outline, box, 28), wanted)


def test_run_lengths_and_short_polygons_have_no_outline() -> None:
    assert outline_of({"size": [4, 4], "counts": [0, 16]}) is None
    outline = outline_of([[0, 0, 1, 1], [0.0, 0.0, 4.0, 0.0, 4.0, 4.0]])
    assert outline is not None
    assert len(outline) == 1
    assert not draw_outline((), np.array([0, 0, 4, 4]), 8).any()
    (mirrored,) = mirror_outline(outline, 10)
    assert mirrored.tolist() == [9, 0, 5, 0, 5, 4]


def test_masks_of_run_lengths_cover_a_cell_from_one_half_on(
    recipe: Callable[..., Recipe], document: Record
) -> None:
    for row in document["annotations"]:
        rle = pycocotools.mask.frPyObjects(row["segmentation"], SIDE, SIDE)
        merged = pycocotools.mask.merge(rle)
        row["segmentation"] = {"size": [SIDE, SIDE], "counts": merged["counts"].decode()}
    made = recipe(document, [WHOLE], None)
    data = made.data.model_copy(update={"mask_targets": "polygon"})
    training = read_training_data(made.model_copy(update={"data": data})).training
    model = model_of()
    images, targets = zip(*(training[i] for i in range(2)), strict=True)
    assert targets[0].outlines == (None,) * 6
    regions = model.mask_regions(list(images), list(targets))
    assert set(regions.targets.unique().tolist()) == {0.0, 1.0}


# --- data ---------------------------------------------------------------------------------


def test_pictures_without_annotations_are_left_out(
    recipe: Callable[..., Recipe], document: Record
) -> None:
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != 2]
    for row in document["annotations"]:
        row["iscrowd"] = int(row["image_id"] == 3)
    made = recipe(document, [WHOLE], None)
    assert read_training_data(made).training.image_ids == [1, 2, 3, 4]
    data = made.data.model_copy(update={"skip_unannotated": True})
    training = read_training_data(made.model_copy(update={"data": data})).training
    assert training.image_ids == [1, 4]


# --- backbones ----------------------------------------------------------------------------


def test_a_name_of_torchvisions_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def get_model(name: str, weights: str | None = None) -> nn.Module:
        asked.append(weights)
        return torchvision.models.resnet18(weights=None)

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    build_encoder("resnet18", "IMAGENET1K_V1")
    build_encoder("resnet18", None)
    assert asked == ["IMAGENET1K_V1", None]
    with pytest.raises(
        InputError, match="no weights IMAGENET1K_V2 for it; there are: IMAGENET1K_V1"
    ):
        build_encoder("resnet18", "IMAGENET1K_V2")
    with pytest.raises(InputError, match="no such file"):
        build_encoder("resnet18", "imagenet.pth")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this ran",)


def test_a_pickle_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"conv1_w": Evil()}, 2))
    with pytest.raises(InputError, match="so that nothing can run"):
        read_weights(path)
    assert "this ran" not in capsys.readouterr().out
    path.write_bytes(pickle.dumps({"conv1_w": np.zeros((64, 3, 7, 7), np.float32)}, 2))
    with pytest.raises(InputError, match=r"expected Detectron's R-50\.pkl"):
        read_weights(path)


# --- momentum -----------------------------------------------------------------------------


def test_step_momentum_resumes_within_a_change_of_rate() -> None:
    def run(breaks: bool) -> Tensor:
        torch.manual_seed(0)
        w = nn.Parameter(torch.randn(5))
        optimiser = StepMomentum([w], 0.1, 0.9, 0.01)
        for step in range(6):
            if step == 3:
                optimiser.param_groups[0]["lr"] = 0.01
                if breaks:
                    state = json.loads(json.dumps(optimiser.state_dict()["param_groups"]))
                    whole = {**optimiser.state_dict(), "param_groups": state}
                    optimiser = StepMomentum([w], 0.5, 0.1, 0.0)
                    optimiser.load_state_dict(whole)
            w.grad = torch.sin(w.detach() * (step + 1))
            optimiser.step()
        return w.detach()

    assert torch.equal(run(True), run(False))
