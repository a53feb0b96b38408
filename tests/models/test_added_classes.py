"""Classes added to a trained Mask R-CNN change nothing of the classes before them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn.added_classes import AddedRows, GrownPredictor, by_group
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN
from halfmask.structures import Detection
from tests.models.test_rcnn import CLASSES, SIZES, build

ADDED = [2, 1]


def grown(config: Any, model: PartialMaskRCNN, **mask_head: Any) -> PartialMaskRCNN:
    """The model with three more classes, whose rows make them frequent."""
    wanted = config(**mask_head).model_dump()
    wanted["detector"]["added_classes"] = ADDED
    larger = build_model(MaskRCNN.model_validate(wanted), CLASSES + sum(ADDED))
    assert isinstance(larger, PartialMaskRCNN)
    added = {k: v for k, v in larger.state_dict().items() if ".added." in k}
    assert larger.state_dict().keys() - added.keys() == model.state_dict().keys()
    larger.load_state_dict(added | model.state_dict())
    predictor = larger.box_heads.box_predictor
    assert isinstance(predictor, GrownPredictor)
    torch.manual_seed(1)
    for rows in predictor.added:
        assert isinstance(rows, AddedRows)
        torch.nn.init.normal_(rows.cls_score.weight, std=0.3)
        torch.nn.init.normal_(rows.bbox_pred.weight, std=0.1)
        torch.nn.init.constant_(rows.cls_score.bias, 1.5)
        torch.nn.init.normal_(rows.read_cls, std=0.3)
    return larger.eval()


def columns(found: Detection) -> dict[str, Tensor]:
    names = ("boxes", "labels", "scores", "mask_probs", "regions", "quality")
    return {name: getattr(found, name) for name in names}


@pytest.mark.parametrize("kind", ["transfer", "agnostic"])
def test_earlier_classes_are_found_alike_to_the_last_bit(
    config: Any, scene: Any, kind: str
) -> None:
    model = build(config, kind=kind).eval()
    larger = grown(config, model, kind=kind)
    images = scene(SIZES)[0]
    for before, after in zip(model.detect(images), larger.detect(images), strict=True):
        old = after.labels < CLASSES
        assert 0 < int(old.sum()) < len(old)
        assert bool((after.scores.diff() <= 0).all())
        assert {*range(CLASSES, CLASSES + 3)} & {*after.labels.tolist()}
        for name, wanted in columns(before).items():
            assert torch.equal(columns(after)[name][old], wanted), name


def test_given_boxes_of_earlier_classes_are_drawn_alike(config: Any, scene: Any) -> None:
    model = build(config).eval()
    larger = grown(config, model)
    images, targets = scene(SIZES)
    boxes, labels = [t.boxes for t in targets], [t.labels for t in targets]
    wanted = model.segment(images, boxes, labels)
    # Boxes of new classes stand between them.
    mixed = [torch.cat([b, b + 1, b]) for b in boxes]
    rows = [len(b) for b in boxes]
    kinds = [
        torch.cat([torch.full((n,), CLASSES), k, torch.full((n,), CLASSES + 2)])
        for n, k in zip(rows, labels, strict=True)
    ]
    mixed = [torch.cat([b, b, b]) for b in boxes]
    found = larger.segment(images, mixed, kinds)
    for one, other, n in zip(found, wanted, rows, strict=True):
        assert torch.equal(one.mask_probs[n : 2 * n], other.mask_probs)
        assert not torch.equal(one.mask_probs[:n], other.mask_probs)
    with pytest.raises(InputError, match=r"expected 1…8"):
        larger.segment(images[:1], boxes[:1], [torch.full((rows[0],), CLASSES + 3)])


@pytest.mark.slow
def test_earlier_classes_are_found_alike_in_onnx(config: Any, scene: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from halfmask.inference.export.export import _detect_graph, _segment_graph, write_graph
    from halfmask.inference.export.int8 import answer, session_of
    from halfmask.inference.export.parity import parity

    model = build(config).eval()
    larger = grown(config, model)
    paths = {}
    for name, one in (("before", model), ("after", larger)):
        for graph in (_detect_graph(one), _segment_graph(one, name)):
            path = tmp_path / f"{name}-{graph.name}.onnx"
            write_graph(graph, path)
            assert max(parity(graph, path)["largest_difference"].values()) < 1e-2
            paths[name, graph.name] = session_of(path)
    images, targets = scene([(64, 80), (72, 64), (300, 200)])
    for image, target in zip(images, targets, strict=True):
        before = answer(paths["before", "detect"], (image,))
        after = answer(paths["after", "detect"], (image,))
        old = after[1] < CLASSES
        assert 0 < old.sum() < len(old)
        for wanted, found in zip(before, after, strict=True):
            np.testing.assert_array_equal(found[old], wanted)
        given = (image, target.boxes, target.labels)
        for wanted, found in zip(
            answer(paths["before", "segment"], given),
            answer(paths["after", "segment"], given),
            strict=True,
        ):
            np.testing.assert_array_equal(found, wanted)


def test_scores_are_a_softmax_with_the_rest_as_one() -> None:
    torch.manual_seed(0)
    first = torch.nn.Linear(5, 4), torch.nn.Linear(5, 16)
    predictor = GrownPredictor(*first, [2, 1])
    for rows in predictor.added:
        torch.nn.init.normal_(rows.cls_score.weight)  # type: ignore[union-attr,arg-type]
    hidden = torch.randn(7, 5)
    logits = predictor(hidden)[0]
    groups = predictor.groups(hidden)
    assert [g.first for g in groups] == [0, 3, 5]
    assert torch.equal(groups[0].logits, first[0](hidden))
    for group, count in zip(groups[1:], (6, 7), strict=True):
        wanted = logits[:, :count].softmax(1)[:, group.first + 1 : count]
        torch.testing.assert_close(group.logits.softmax(1)[:, 1:], wanted)
    weights = predictor.rows()
    assert [tuple(w.shape) for w in weights] == [(7, 5), (28, 5)]


def test_a_class_without_boxes_is_never_found(config: Any, scene: Any) -> None:
    model = build(config).eval()
    larger = grown(config, model)
    for rows in larger.box_heads.box_predictor.added:
        rows.load_state_dict(AddedRows(24, rows.cls_score.out_features).state_dict())
    images = scene(SIZES)[0]
    for before, after in zip(model.detect(images), larger.detect(images), strict=True):
        assert torch.equal(before.scores, after.scores)


def test_groups_are_drawn_apart_and_put_in_order() -> None:
    calls: list[list[int]] = []

    def draw(rows: Tensor) -> Tensor:
        calls.append(rows.tolist())
        return rows * 10.0

    out = by_group(torch.tensor([5, 1, 7, 0, 6]), [5, 7], draw)
    assert calls == [[1, 3], [0, 4], [2]]
    assert out.tolist() == [0, 10, 20, 30, 40]
    assert by_group(torch.zeros(0, dtype=torch.int64), [5], draw).shape == (0,)


def test_a_grown_model_learns_like_any_other(config: Any, scene: Any) -> None:
    model = grown(config, build(config)).train()
    losses = model(*scene(SIZES, classes=CLASSES + 3))
    sum(losses.values()).backward()
    predictor = model.box_heads.box_predictor
    assert all(p.grad is not None and p.grad.isfinite().all() for p in predictor.parameters())


def test_added_classes_leave_trained_ones(config: Callable[..., MaskRCNN]) -> None:
    wanted = config().model_dump()
    wanted["detector"]["added_classes"] = [5]
    with pytest.raises(InputError, match="leave none that the model was trained on"):
        build_model(MaskRCNN.model_validate(wanted), 6)
