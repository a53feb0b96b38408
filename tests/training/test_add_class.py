"""`add_class`: new rows learn from boxes; all else stays bit for bit as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import halfmask
from halfmask.errors import InputError
from halfmask.formats.convert import convert
from halfmask.models.build import build_model
from halfmask.models.checkpoint import Category, Checkpoint, load_checkpoint, save_checkpoint
from halfmask.training.add_class.regions import BoxRegions
from halfmask.training.add_class.rows import SPREAD, RowPrior, fit_rows
from tests.cli.runs import (
    BOX_STAGE,
    REGION_HEADS,
    SEGMENTER,
    SEGMENTER_STAGE,
    data_of,
    small_world,
    tiny_recipe,
    written,
)

OLD: list[Category] = [{"id": i, "name": f"c{i}"} for i in range(1, 5)]
Made = Callable[..., Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    small_world(folder, 8)
    return folder


@pytest.fixture
def run(world: Path, tmp_path: Path) -> Made:
    """`run(mask_head)`: an untrained model of c1 to c4, in a run's folder."""

    def make(model: Any = None, **mask_head: Any) -> Path:
        usual: Any = REGION_HEADS["mask_head"]
        model = model or {**REGION_HEADS, "mask_head": {**usual, **mask_head}}
        stage = BOX_STAGE if model["kind"] == "mask_rcnn" else SEGMENTER_STAGE
        recipe = tiny_recipe(model, data_of(world), stage)
        torch.manual_seed(0)
        network = build_model(recipe.model, 5, pretrained=False)
        made = Checkpoint(state=network.state_dict(), recipe=recipe, categories=OLD, masked=[1, 2])
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        save_checkpoint(folder / "model.safetensors", made)
        return folder

    return make


def state_of(run: Path) -> dict[str, Tensor]:
    return load_checkpoint(run / "model.safetensors").state


def columns(found: Any) -> dict[str, Tensor]:
    return {n: getattr(found, n) for n in ("boxes", "labels", "scores", "mask_probs", "quality")}


def test_only_new_rows_are_new(world: Path, run: Made, tmp_path: Path) -> None:
    first, out = run(), tmp_path / "more"
    done = halfmask.add_class(first, world / "instances.json", images=world / "images", out=out)
    before, after = state_of(first), state_of(out)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    fresh = {name: tuple(after[name].shape) for name in after.keys() - before.keys()}
    prefix = "box_heads.box_predictor.added.0."
    assert fresh == {
        prefix + "cls_score.weight": (2, 24),
        prefix + "cls_score.bias": (2,),
        prefix + "bbox_pred.weight": (8, 24),
        prefix + "bbox_pred.bias": (8,),
        prefix + "read_cls": (2, 24),
        prefix + "read_box": (8, 24),
    }
    assert [c["name"] for c in done.classes] == ["c5", "c6"]
    document = json.loads((world / "instances.json").read_text())
    for one in done.classes:
        rows = [a for a in document["annotations"] if a["category_id"] == one["id"]]
        assert one["boxes"] == len(rows) <= one["regions"]
    kept = load_checkpoint(out / "model.safetensors")
    assert [c["name"] for c in kept.categories] == [f"c{i}" for i in range(1, 7)]
    assert (kept.masked, kept.masks_given.by_name["c6"]) == ([1, 2], 0)
    assert json.loads((out / "added.json").read_text()) == json.loads(json.dumps(done.to_json()))
    assert sorted(p.name for p in out.iterdir()) == [
        "added.json",
        "model.safetensors",
        "recipe.yaml",
    ]


def test_earlier_classes_answer_alike_after_two_additions(
    world: Path, run: Made, tmp_path: Path
) -> None:
    first = run()
    data, images = world / "instances.json", world / "images"
    halfmask.add_class(first, data, images=images, names="c5", out=tmp_path / "one")
    halfmask.add_class(tmp_path / "one", data, images=images, out=tmp_path / "two")
    models = [halfmask.load(r, device="cpu") for r in (first, tmp_path / "one", tmp_path / "two")]
    assert [len(m.categories) for m in models] == [4, 5, 6]
    photographs = sorted(images.glob("*"))[:3]
    found = [model.detect_batch(photographs) for model in models]
    for k, known in ((0, 4), (1, 5)):
        for before, after in zip(found[k], found[k + 1], strict=True):
            old = after.labels <= known
            assert len(before.labels) > 0
            for name, wanted in columns(before).items():
                assert torch.equal(columns(after)[name][old], wanted), name
    boxes = [[10.0, 10.0, 40.0, 44.0], [4.0, 6.0, 50.0, 30.0]]
    drawn = models[0].segment(photographs[0], boxes, ["c1", "c2"]).mask_probs
    more = models[2].segment(photographs[0], boxes * 2, ["c1", "c2", "c5", "c6"]).mask_probs
    assert torch.equal(more[:2], drawn)
    assert not torch.equal(more[2:], drawn)


@pytest.mark.parametrize("form", ["yolo", "voc", "cvat"])
def test_data_of_any_format(world: Path, run: Made, tmp_path: Path, form: str) -> None:
    data = tmp_path / ("data.xml" if form == "cvat" else "data")
    convert(f"to-{form}", world / "instances.json", data, images=world / "images")
    images = None if form == "yolo" else world / "images"
    done = halfmask.add_class(run(), data, images=images, names=["c6"], out=tmp_path / "more")
    plain = halfmask.add_class(
        run(), world / "instances.json", images=world / "images", names="c6", out=tmp_path / "same"
    )
    assert [(c["name"], c["boxes"]) for c in done.classes] == [("c6", plain.classes[0]["boxes"])]


def vectors_of(path: Path, *names: str, size: int = 7) -> Path:
    torch.manual_seed(5)
    save_file({name: torch.randn(size) for name in names}, path)
    return path


@pytest.mark.parametrize("kind", ["mask_rcnn", "box_segmenter"])
def test_words_alone_give_masks_for_boxes(
    world: Path, run: Made, tmp_path: Path, kind: str
) -> None:
    transfer = {
        "input": "embedding",
        "embedding": "words.npy",
        "embedding_size": 7,
        "input_norm": 2.0,
    }
    first = (
        run(transfer=transfer) if kind == "mask_rcnn" else run({**SEGMENTER, "condition": transfer})
    )
    words = vectors_of(tmp_path / "words.safetensors", "zebra", "okapi")
    halfmask.add_class(first, out=tmp_path / "more", names="zebra,okapi", vectors=words)
    old, new = (halfmask.load(r, device="cpu") for r in (first, tmp_path / "more"))
    assert [c["name"] for c in new.categories][4:] == ["zebra", "okapi"]
    photograph = next((world / "images").glob("*"))
    boxes = [[10.0, 10.0, 40.0, 44.0]]
    before = old.segment(photograph, boxes, ["c2"]).mask_probs
    assert torch.equal(new.segment(photograph, boxes, ["c2"]).mask_probs, before)
    masks = [new.segment(photograph, boxes, [name]).mask_probs for name in ("zebra", "okapi")]
    assert not torch.equal(*masks)
    vectors = next(v for k, v in state_of(tmp_path / "more").items() if k.endswith("vectors"))
    torch.testing.assert_close(vectors[5:].norm(dim=1), torch.full((2,), 2.0))
    if kind == "mask_rcnn":
        one, two = (m.detect(photograph) for m in (old, new))
        assert torch.equal(one.scores, two.scores)
        # With boxes too, the class is found as well.
        (tmp_path / "c5.json").write_text((world / "instances.json").read_text())
        both = halfmask.add_class(
            first, tmp_path / "c5.json", images=world / "images", names="c5",
            vectors=vectors_of(tmp_path / "c5.safetensors", "c5"), out=tmp_path / "both",
        )  # fmt: skip
        assert both.loss is not None


@pytest.mark.parametrize(
    ("mask_head", "arguments", "message"),
    [
        ({"kind": "per_class"}, {}, "a filter for each class"),
        ({"transfer": {"input": "random"}}, {}, "say nothing of a new class"),
        ({"transfer": {"input": "embedding", "embedding": "a.npy", "embedding_size": 3}}, {},
         "with --vectors FILE"),
        ({}, {"vectors": "words.safetensors"}, "leave out --vectors"),
        ({}, {"data": None, "images": None}, "name data with boxes"),
        ({}, {"names": "c9"}, "'c9' is not a class of .*near: c6, c5, c4"),
        ({}, {"names": "c5,c5"}, "stands there twice"),
        ({}, {"names": "C1"}, "knows C1 already"),
        ({}, {"names": " , "}, "found none or an empty one"),
        ({}, {"out": "run"}, "holds a run already"),
        ({}, {"split": "train"}, "no parts to choose from"),
    ],
)  # fmt: skip
def test_what_cannot_be_added(
    world: Path, run: Made, tmp_path: Path, mask_head: Any, arguments: Any, message: str
) -> None:
    first = run(**mask_head)
    given: dict[str, Any] = {"data": world / "instances.json", "images": world / "images"}
    given["out"] = tmp_path / "more"
    given |= arguments
    if given["out"] == "run":
        given["out"] = first
    with pytest.raises(InputError, match=message):
        halfmask.add_class(first, **given)
    assert not (tmp_path / "more").exists()


def test_a_class_without_a_box_is_refused(world: Path, run: Made, tmp_path: Path) -> None:
    document = json.loads((world / "instances.json").read_text())
    document["categories"].append({"id": 7, "name": "c7"})
    data = written(tmp_path / "more.json", document)
    with pytest.raises(InputError, match="no usable box of c7"):
        halfmask.add_class(run(), data, images=world / "images", out=tmp_path / "more")
    document["categories"] = document["categories"][:4]
    written(data, document)
    with pytest.raises(InputError, match="knows all of its 4 classes already"):
        halfmask.add_class(run(), data, images=world / "images", out=tmp_path / "more")
    with pytest.raises(InputError, match="box segmenter without class vectors"):
        halfmask.add_class(
            run(SEGMENTER), world / "instances.json", images=world / "images", out=tmp_path / "more"
        )
    assert not (tmp_path / "more").exists()


def test_ids_do_not_meet_those_of_the_model(world: Path, run: Made, tmp_path: Path) -> None:
    document = json.loads((world / "instances.json").read_text())
    for record in document["categories"]:
        record["id"] += 1 if record["id"] < 6 else -5  # c6 is 1 in this file
    for record in document["annotations"]:
        record["category_id"] += 1 if record["category_id"] < 6 else -5
    data = written(tmp_path / "moved.json", document)
    done = halfmask.add_class(
        run(), data, images=world / "images", names="c6,c5", out=tmp_path / "more"
    )
    assert [(c["id"], c["name"]) for c in done.classes] == [(5, "c6"), (6, "c5")]
    plain = halfmask.add_class(
        run(), world / "instances.json", images=world / "images", out=tmp_path / "same"
    )
    assert [c["boxes"] for c in done.classes] == [c["boxes"] for c in reversed(plain.classes)]


def blobs(classes: int) -> tuple[BoxRegions, Tensor, Tensor]:
    """Regions around the directions of their classes, and trained rows of the same kind."""
    generator = torch.Generator().manual_seed(0)
    width, count = 16, 600
    centres = 3 * torch.eye(width)[: classes + 4]
    labels = torch.randint(0, classes + 1, (count,), generator=generator)
    where = torch.where(labels > 0, labels + 3, torch.randint(0, 4, (count,), generator=generator))
    hidden = centres[where] + 0.3 * torch.randn((count, width), generator=generator)
    trained = torch.cat([torch.zeros(1, width), centres[:4]])
    offsets = hidden @ torch.randn((width, 4), generator=generator)
    regions = BoxRegions(
        hidden=hidden.half(),
        rest=(hidden @ trained.T).logsumexp(1),
        labels=labels,
        offsets=offsets,
        weights=torch.ones(count),
    )
    return regions, trained, torch.randn((20, width), generator=generator)


def test_fitted_rows_tell_classes_apart_and_resemble_the_trained_ones() -> None:
    regions, trained, boxes = blobs(3)
    rows = fit_rows(regions, 3, cls_weight=trained, box_weight=boxes)
    hidden = regions.hidden.float()
    logits = torch.cat([regions.rest[:, None], hidden @ rows.cls_weight.T + rows.cls_bias], 1)
    assert (logits.argmax(1) == regions.labels).float().mean() > 0.99
    # What T reads differs from the mean as trained rows do, and as much.
    prior = RowPrior(trained[1:], SPREAD)
    far = prior.moves_of(rows.read_cls).square().sum(1).mean()
    torch.testing.assert_close(float(far), prior.typical, rtol=0.1, atol=0)
    assert rows.read_box.shape == (12, 16)
    assert rows.box_weight.shape == (12, 16)
    own = torch.where(regions.labels > 0)[0]
    found = (hidden[own] @ rows.box_weight.T + rows.box_bias).reshape(-1, 3, 4)
    errors = found[torch.arange(len(own)), regions.labels[own] - 1] - regions.offsets[own]
    plain = regions.offsets[own] - regions.offsets[own].mean(0)
    assert errors.abs().mean() < 0.5 * plain.abs().mean()


def test_a_prior_has_the_mean_and_covariance_of_its_rows() -> None:
    torch.manual_seed(0)
    trained = torch.randn(5, 9) @ torch.randn(9, 9)
    away = trained - trained.mean(0)
    for spread in (0.1, 1.0):
        prior = RowPrior(trained, spread)
        even = spread * away.square().sum() / 5 / 9 * torch.eye(9)
        wanted = (1 - spread) * away.T @ away / 5 + even
        root = prior.rows(torch.eye(9)) - prior.mean
        torch.testing.assert_close(root.T @ root, wanted, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            prior.rows(prior.moves_of(trained)), trained, rtol=1e-3, atol=1e-3
        )


def test_few_boxes_leave_rows_near_the_mean() -> None:
    regions, trained, boxes = blobs(1)
    few = torch.cat([torch.where(regions.labels == 0)[0], torch.where(regions.labels == 1)[0][:2]])
    some = BoxRegions(**{k: v[few] for k, v in vars(regions).items()})
    mean = trained[1:].mean(0)
    one, two = (
        (fit_rows(r, 1, cls_weight=trained, box_weight=boxes).cls_weight - mean).norm()
        for r in (some, regions)
    )
    assert one < 0.7 * two


def test_weights_stand_for_regions_that_were_left_out() -> None:
    regions, trained, boxes = blobs(2)
    others = torch.where(regions.labels == 0)[0]
    twice = torch.cat([torch.arange(len(regions.labels)), others])
    doubled = BoxRegions(**{k: v[twice] for k, v in vars(regions).items()})
    weights = torch.ones(len(regions.labels))
    weights[others] = 2
    weighted = BoxRegions(**{**vars(regions), "weights": weights})
    one, two = (
        fit_rows(r, 2, cls_weight=trained, box_weight=boxes).cls_weight for r in (doubled, weighted)
    )
    np.testing.assert_allclose(one, two, atol=0.02)
