"""The experiment behind `bench world` and `bench table1`, end to end on a tiny plan:
every head is measured, nothing is done twice.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.paper.end_to_end import END_TO_END, train_end_to_end
from benchmarks.paper.experiment import Job, Plan, run_plan
from benchmarks.paper.region_heads import HEADS, INPUTS, head_settings, train_head
from benchmarks.paper.sources import Composites, World
from benchmarks.paper.table1 import masks_per_class, table1_jobs
from benchmarks.paper.world import world_jobs
from halfmask.coco.categories import NONVOC_IDS, VOC_IDS
from halfmask.coco.file import CocoFile
from halfmask.data.loader import build_loader
from halfmask.data.synthetic.classes import world_classes
from halfmask.errors import InputError
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.regions import MaskRegions
from halfmask.recipes.recipe import RECIPE_FOLDER, MaskRCNN, Stage, load_recipe


@pytest.fixture(scope="module")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    document = yaml.safe_load((RECIPE_FOLDER / "world_transfer.yaml").read_text(encoding="utf-8"))
    document["model"]["backbone"]["widths"] = [8, 8, 8, 8]
    document["channels_last"] = False  # oneDNN crashes on so few channels
    document["stages"][0] |= {"steps": 2, "batch_size": 2}
    document["stages"][1] |= {"steps": 2, "batch_size": 4}
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


JOBS = (
    Job(4, 0, "class-agnostic"),
    Job(4, 0, "T(names)"),
    Job(4, 0, "oracle"),
    Job(6, 0, "oracle"),
)


def tiny_plan(recipe: str, jobs: tuple[Job, ...] = JOBS) -> Plan:
    return Plan(World(8, recipe), jobs, (0,), train_images=6, mask_images=4, test_images=3)


Tiny = tuple[Plan, Path, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def tiny(tiny_recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    plan = tiny_plan(tiny_recipe, (*JOBS, Job(4, 0, "T, end to end")))
    folder = tmp_path_factory.mktemp("run")
    return plan, folder, run_plan(plan, folder, lambda line: None)


def test_every_job_is_measured(tiny: Tiny) -> None:
    plan, _, measures = tiny
    assert {(m["masked"], m["split"], m["head"]) for m in measures} == set(plan.jobs)
    for m in measures:
        assert 0 <= m["iou"]["A"] <= 1
        assert 0 <= m["iou"]["B"] <= 1
        assert m["mask_AP"]["B"] is not None
        assert m["seed"] == 0


def test_masks_per_class_of_a(tiny: Tiny) -> None:
    plan, folder, _ = tiny
    document = json.loads((folder / "seed-0/train/instances.json").read_text())
    learnt = {image["id"] for image in document["images"][: plan.mask_images]}
    classes = [a["category_id"] for a in document["annotations"] if a["image_id"] in learnt]
    file = CocoFile.read(folder / "seed-0/train/instances.json")
    expected = {
        masked: sum(c in plan.source.split(file, masked, 0, 0) for c in classes) / masked
        for masked in (4, 6)
    }
    assert masks_per_class(plan, folder) == pytest.approx(expected)
    assert sum(expected.values()) > 0


def test_what_is_there_is_not_done_again(tiny: Tiny) -> None:
    plan, folder, measures = tiny
    said: list[str] = []
    assert run_plan(plan, folder, said.append) == measures
    assert said == []


def test_a_plan_may_grow_but_not_change(tiny: Tiny, tmp_path: Path) -> None:
    plan, folder, measures = tiny
    fewer = replace(plan, jobs=plan.jobs[:1])
    assert run_plan(fewer, folder, lambda line: None) == [
        m for m in measures if m["head"] == "class-agnostic"
    ]
    with pytest.raises(InputError, match="another plan or recipe"):
        run_plan(replace(plan, test_images=4), folder, lambda line: None)
    with pytest.raises(InputError, match="no head T"):
        run_plan(replace(plan, jobs=(Job(4, 0, "T(nothing)"),)), tmp_path, lambda line: None)


def test_a_stored_plan_may_lack_keys_that_came_later(tiny: Tiny, tmp_path: Path) -> None:
    plan, folder, measures = tiny
    path = tmp_path / "seed-0" / "measures.json"
    path.parent.mkdir()
    document = json.loads((folder / "seed-0" / "measures.json").read_text(encoding="utf-8"))
    # As if written before the key was there.
    del document["plan"]["recipe"]["model"]["mask_head"]["mlp"]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert run_plan(plan, tmp_path, lambda line: None) == measures
    for value in ("light", "no such branch"):
        document["plan"]["recipe"]["model"]["mask_head"]["mlp"] = value
        path.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(InputError, match="another plan or recipe"):
            run_plan(plan, tmp_path, lambda line: None)


def test_end_to_end_starts_from_the_detector_and_never_sees_masks_of_b(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan, folder, _ = tiny
    training = plan.source.pictures(folder / "seed-0" / "train", plan.train_images, 0, test=False)
    in_a = plan.source.split(training.file, 4, 0, 0)
    seen: list[Any] = []
    build = build_loader

    def spy(dataset: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(dataset)
        return build(dataset, *args, **kwargs)

    monkeypatch.setattr("benchmarks.paper.end_to_end.build_loader", spy)
    recipe = load_recipe(plan.source.recipe)
    detector = folder / "seed-0" / "detector.safetensors"
    model, _ = train_end_to_end(
        recipe, "class-agnostic, end to end", detector, training, in_a, tmp_path / "run"
    )
    assert not model.training
    assert not model.needs_labels
    masked = {
        a["category_id"]
        for i in seen[0].image_ids
        for a in seen[0].file.annotations_of(i)
        if "segmentation" in a
    }
    assert masked <= in_a
    assert masked


def test_a_head_learns_from_its_classes_alone(tiny_recipe: str) -> None:
    """Masks of other classes may be anything: the trained weights are the same bits."""
    recipe = load_recipe(tiny_recipe)
    assert isinstance(recipe.model, MaskRCNN)
    settings = head_settings(recipe.model.mask_head, HEADS["T(cls)"], Path("unused"))
    stage: Stage = recipe.stages[1]
    torch.manual_seed(0)
    model = build_mask_rcnn(recipe.model, 9)
    side = settings.roi_size
    labels = torch.arange(1, 9).repeat(2)
    features, targets = torch.randn(16, 64, side, side), torch.rand(16, 2 * side, 2 * side).round()
    weights = []
    for other in (targets, torch.where((labels > 4)[:, None, None], 1 - targets, targets)):
        train_head(
            model,
            settings,
            stage,
            MaskRegions(features=features, labels=labels, targets=other),
            {1, 2, 3, 4},
            seed=5,
        )
        weights.append([p.detach().clone() for p in model.mask_branch.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("name", HEADS)
def test_heads_change_what_their_name_says_and_nothing_else(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "names.npy", np.eye(4, dtype=np.float32))
    recipe = load_recipe("world_transfer")
    assert isinstance(recipe.model, MaskRCNN)
    base = recipe.model.mask_head
    settings = head_settings(base, HEADS[name], tmp_path / "names.npy")
    assert (settings.width, settings.convs, settings.roi_size) == (
        base.width,
        base.convs,
        base.roi_size,
    )
    assert settings.transfer.input_norm == base.transfer.input_norm
    assert (settings.mlp != "none") == ("MLP" in name)
    if name.startswith("T("):
        assert name == f"T({settings.transfer.input})".replace("embedding", "names")
    if name.startswith("T, "):
        assert str(settings.transfer.layers) in name
        assert name.endswith("ReLU") or settings.transfer.layers == 1


def test_names_of_the_world_say_its_attributes(tmp_path: Path) -> None:
    kinds = world_classes(8)
    categories = [
        {"id": i, "name": str(i), "attributes": kind.attributes} for i, kind in enumerate(kinds, 1)
    ]
    file = CocoFile.from_document(
        {"images": [], "annotations": [], "categories": categories}, "made here"
    )
    vectors = np.load(World(8).name_vectors(file, tmp_path))
    assert len(vectors) == 8
    assert len({tuple(row) for row in vectors.tolist()}) == 8, "no two classes have the same name"
    assert set(vectors.sum(1)) == {len(kinds[0].attributes)}


def test_splits_of_composites_are_the_papers_and_its_random_ones() -> None:
    categories = [{"id": i, "name": str(i)} for i in sorted((*VOC_IDS, *NONVOC_IDS))]
    file = CocoFile.from_document(
        {"images": [], "annotations": [], "categories": categories}, "made here"
    )
    source = Composites()
    assert source.split(file, 20, 0, 5) == set(VOC_IDS)
    assert source.split(file, 60, 0, 5) == set(NONVOC_IDS)
    found = {
        (job.masked, job.split): source.split(file, job.masked, job.split, 5)
        for job in table1_jobs(source, 3)
    }
    assert all(len(in_a) == masked for (masked, _), in_a in found.items())
    assert len({frozenset(in_a) for in_a in found.values()}) == len(found), "no two are the same"


def test_jobs_of_the_two_benchmarks() -> None:
    world = world_jobs(World(), (16, 24), 3)
    assert {j.head for j in world if j.masked == 16} == set(INPUTS)
    assert {j.head for j in world if j.masked == 24} == {"class-agnostic", "T(cls)", "oracle"}
    table = table1_jobs(World(), 3)
    assert {j.head for j in table if j.masked == 16} == {*HEADS, *END_TO_END}
    assert {j.split for j in table if j.head in END_TO_END} == {0}
    assert {j.masked for j in table} == {12, 16, 20, 24, 28}
    assert len(table) == len(set(table))
