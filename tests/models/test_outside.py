"""Parts of a model from the outside package of examples/: built, trained, saved, loaded,
exported; and what is refused.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import halfmask
from halfmask.errors import InputError
from halfmask.models.build import build_model
from halfmask.models.outside import TRUST
from halfmask.recipes.recipe import MaskRCNN, parse_recipe
from halfmask.training.train import train
from tests.cli.runs import BOX_STAGE, REGION_HEADS, data_of, small_world, tiny_recipe
from tests.models.conftest import make_scene

PACKAGE = Path(__file__).parents[2] / "examples" / "outside_head"
HEADS: dict[str, dict[str, Any]] = {
    "prior": {"kind": "prior_head.heads.PriorPredictor", "options": {"start": 0.5}},
    "classes": {"kind": "prior_head.heads.ScaledTransfer", "transfer": {"input": "cls"}},
    "trunk": {"trunk": "prior_head.heads.WideTrunk", "trunk_options": {"kernel": 3}},
    "loss": {
        "loss": "prior_head.heads.focal_loss",
        "loss_options": {"gamma": 1.0},
        "sampler": "prior_head.heads.largest",
        "sampler_options": {"most": 3},
        "unknown": "ignore",
    },
}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PACKAGE))
    monkeypatch.setenv(TRUST, "1")


@pytest.mark.parametrize("name", HEADS)
def test_outside_parts_learn(config: Any, outside: None, name: str) -> None:
    """The head tests: gradients everywhere, a batch without masks, a tiny set overfitted."""
    torch.manual_seed(0)
    model = build_model(config(**HEADS[name]), 6)
    for masked in ("all", "none", "half"):
        model.zero_grad()
        loss = model(*make_scene([(64, 80)], masked=masked), "all")["loss_mask"]
        loss.backward()
        assert torch.isfinite(loss)
        assert all(p.grad is not None for p in model.parts()["mask_head"].parameters())
    images, targets = make_scene([(64, 80)], objects=3)
    optimiser = torch.optim.Adam(model.parts()["mask_head"].parameters(), 0.01)
    losses = []
    for _ in range(30):
        torch.manual_seed(1)
        optimiser.zero_grad()
        value = model(images, targets, "masks")["loss_mask"]
        value.backward()
        optimiser.step()
        losses.append(float(value))
    assert losses[-1] < 0.8 * losses[0]


def test_a_sampler_chooses_the_regions(config: Any, outside: None) -> None:
    torch.manual_seed(0)
    model = build_model(config(**HEADS["loss"]), 6)
    regions, places = model.placed_regions(*make_scene([(64, 80), (72, 64)]))  # type: ignore[operator]
    assert [len(p) for p in places.regions] == [3, 3]
    assert len(regions.labels) == 6


@pytest.mark.slow
def test_an_outside_head_from_training_to_onnx(outside: None, tmp_path: Path) -> None:
    small_world(tmp_path / "world", 4)
    stages = [{**BOX_STAGE, "train": ["all"], "loss": "all", "steps": 2}]
    head = {**REGION_HEADS["mask_head"], **HEADS["prior"], **HEADS["loss"]}
    recipe = tiny_recipe({**REGION_HEADS, "mask_head": head}, data_of(tmp_path / "world"), *stages)
    run = tmp_path / "run"
    train(recipe, out=run, report=False)
    model = halfmask.load(run, device="cpu")
    head_of = model.model.mask_branch.predictor  # type: ignore[union-attr]
    assert type(head_of).__name__ == "PriorPredictor"
    assert not torch.equal(head_of.prior, torch.full_like(head_of.prior, 0.5))
    photograph = next((tmp_path / "world" / "images").glob("*"))
    assert model.segment(photograph, [[4.0, 6.0, 50.0, 40.0]]).mask_probs.shape == (1, 14, 14)
    if pytest.importorskip("onnxruntime"):
        done = halfmask.export(run, out=tmp_path / "onnx")
        assert max(done.report["graphs"]["segment"]["largest_difference"].values()) < 1e-2


def test_code_that_nobody_installed_is_not_imported(
    config: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lurking.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(TRUST, raising=False)
    for key in ("kind", "trunk", "loss", "sampler"):
        with pytest.raises(InputError, match=r"nobody installed: read it, then add --trust"):
            build_model(config(**{key: "lurking.Part"}), 6)
    assert "lurking" not in sys.modules


@pytest.mark.parametrize(
    ("mask_head", "message"),
    [
        ({"kind": "no_such_package.Head"}, "not installed here: install no_such_package"),
        ({"kind": "os.system"}, "Python's own library"),
        ({"kind": "prior_head.heads.Missing"}, "cannot be imported"),
        ({"kind": "prior_head.heads.WideTrunk"}, "subclass of halfmask"),
        ({"kind": "halfmask.models.heads.predictors.MaskPredictor"}, "can be built"),
        ({"kind": "prior_head.heads.focal_loss"}, "no class"),
        ({"kind": "prior_head.heads.PriorPredictor", "options": {"stat": 1}}, "'stat'.*gives channels"),
        ({"kind": "prior_head.heads.PriorPredictor", "options": {"side": 1}}, "side comes from halfmask"),
        ({"trunk": "prior_head.heads.PriorPredictor"}, "expected forward"),
        ({"trunk": "torch.nn.Identity"}, r"expected an answer \[1, 12, 12, 12\]"),
        ({"loss": "prior_head.heads.WideTrunk"}, "is no function"),
        ({"loss": "prior_head.heads.focal_loss", "loss_options": {"beta": 1}}, "'beta'"),
        ({"loss_options": {"beta": 1}}, "there is no `loss`"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(config: Any, outside: None, mask_head: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_model(config(**mask_head), 6)


@pytest.mark.parametrize(
    ("mask_head", "message"),
    [
        ({"kind": "agnostik"}, "mask_head.kind: .*'agnostic', 'per_class', 'transfer' or a dotted"),
        ({"kind": "a..b"}, "mask_head.kind"),
        ({"loss": "focal"}, "mask_head.loss"),
        ({"options": {"start": 1}}, "`options` are for a part of another package"),
    ],
)
def test_names_that_are_none(mask_head: Any, message: str) -> None:
    document = {
        "name": "tiny",
        "model": {**REGION_HEADS, "mask_head": mask_head},
        "data": {"annotations": "a.json", "images": "b"},
        "stages": [BOX_STAGE],
    }
    with pytest.raises(InputError, match=message):
        parse_recipe(document, "test")


@pytest.mark.slow
def test_the_command_line_asks_for_trust(config: Any, tmp_path: Path) -> None:
    small_world(tmp_path / "world", 2)
    head = {**REGION_HEADS["mask_head"], **HEADS["prior"]}
    recipe = tiny_recipe(
        {**REGION_HEADS, "mask_head": head}, data_of(tmp_path / "world"), BOX_STAGE
    )
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    env = {k: v for k, v in os.environ.items() if k != TRUST}
    env["PYTHONPATH"] = f"{PACKAGE}{os.pathsep}{env.get('PYTHONPATH', '')}"
    command = [
        sys.executable,
        "-m",
        "halfmask",
        "train",
        str(tmp_path / "recipe.yaml"),
        "--dry-run",
    ]
    refused = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (refused.returncode, "add --trust" in refused.stderr) == (2, True), refused.stderr
    done = subprocess.run(
        [*command, "--trust"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_schema_keeps_its_defaults() -> None:
    head = MaskRCNN.model_validate(REGION_HEADS).mask_head
    assert (head.kind, head.trunk, head.loss, head.options) == ("transfer", "convs", None, {})
