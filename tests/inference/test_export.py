"""Exported graphs give the model's answers, for images and numbers of boxes that the
exporter never saw.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from halfmask.cli.main import app
from halfmask.errors import InputError
from halfmask.inference.export.checksums import check_export
from halfmask.inference.export.export import graphs_of, write_graphs
from halfmask.inference.export.int8 import answer, session_of
from halfmask.inference.export.parity import CASES, cases, parity
from halfmask.inference.predictor import Predictor, load
from halfmask.models.build import build_model
from halfmask.recipes.recipe import load_recipe

pytest.importorskip("onnxruntime")
EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOGRAPH = next((Path(__file__).parents[2] / "halfmask" / "assets" / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, exported as a user does it."""
    folder = tmp_path_factory.mktemp("deployed") / "out"
    done = CliRunner().invoke(app, ["export", "box-segmenter", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    assert "largest difference from the model on 4 images, 44 boxes" in done.output
    return folder


def test_the_shipped_model_as_a_graph(deployed: Path) -> None:
    report = json.loads((deployed / "model.json").read_text())
    graph = report["graphs"]["segment"]
    assert graph["boxes"] == sum(case[2] for case in CASES)
    assert graph["largest_difference"]["regions"] < 1e-3
    assert graph["largest_difference"]["quality"] < 1e-4
    # A map of noise may be cut at another of two equally good thresholds, which moves
    # all of its cells a little.
    assert graph["largest_difference"]["mask_probs"] < 5e-3
    assert report["categories"][0]["name"] == "person"
    assert sorted(p.name for p in deployed.iterdir()) == ["model.json", "segment.onnx"]
    assert check_export(deployed) == report
    assert set(report["files"]) == {"segment.onnx"}


def test_masks_on_a_photograph_without_torch(deployed: Path) -> None:
    example = _example()
    boxes = [[40.0, 30.0, 300.0, 260.0], [100.5, 80.25, 131.75, 170.0], [0.0, 0.0, 9.0, 11.0]]
    photograph = Image.open(PHOTOGRAPH)
    masks, quality = example.segment(deployed, photograph, boxes)
    wanted = load("box-segmenter", device="cpu").segment(PHOTOGRAPH, boxes)
    np.testing.assert_allclose(quality, wanted.quality.numpy(), atol=1e-3)
    for mine, theirs in zip(masks, wanted.masks().numpy(), strict=True):
        assert mine.shape == theirs.shape
        # Smaller than its map, a mask is averaged by halfmask and sampled by the
        # example: a box of 9 × 11 pixels has 40 at its border.
        assert (mine ^ theirs).sum() <= max(8, 0.02 * theirs.sum())


def test_the_example_imports_no_torch() -> None:
    text = (EXAMPLES / "deploy_onnx.py").read_text()
    assert "torch\n" not in text
    assert "import torch" not in text


@pytest.mark.parametrize(
    "recipe",
    [
        "world_transfer_mlp",
        *(pytest.param(f"world_{name}", marks=pytest.mark.slow) for name in ("agnostic", "oracle")),
    ],
)
def test_detectors_as_graphs(recipe: str, tmp_path: Path) -> None:
    report = write_graphs(detector(recipe), tmp_path)
    assert set(report["graphs"]) == {"segment", "detect"}
    segment, detect = report["graphs"]["segment"], report["graphs"]["detect"]
    assert max(segment["largest_difference"].values()) < 1e-3
    assert detect["boxes"] > len(CASES), "random weights, scaled so that boxes pass"
    assert detect["largest_difference"]["labels"] == 0
    assert detect["largest_difference"]["boxes"] < 0.01
    assert detect["largest_difference"]["mask_probs"] < 1e-3


def test_an_image_with_fewer_proposals_than_the_one_it_was_exported_with(
    tiny_detector: Path, tmp_path: Path
) -> None:
    predictor = load(tiny_detector, device="cpu")
    write_graphs(predictor, tmp_path)
    image = torch.rand((3, 72, 96), generator=torch.Generator().manual_seed(2))
    image[:, :, 48:] = 0.5
    with torch.no_grad():
        wanted = predictor.model.detect([image])[0]  # type: ignore[operator]
    got = answer(session_of(tmp_path / "detect.onnx"), (image,))
    assert len(got[0]) == len(wanted.boxes)
    np.testing.assert_allclose(got[2], wanted.scores.numpy(), atol=1e-4)


def test_a_graph_knows_labels(tmp_path: Path) -> None:
    """The transfer head's masks depend on the label, and 0 asks the box head."""
    predictor = detector("world_transfer")
    write_graphs(predictor, tmp_path)
    graph = graphs_of(predictor)[0]
    image, boxes, _ = next(cases(3))
    session = session_of(tmp_path / "segment.onnx")
    answers = []
    for labels in (torch.tensor([1, 2, 3]), torch.tensor([4, 0, 3])):
        with torch.no_grad():
            wanted = graph.reference(image, boxes, labels)
        answers.append(answer(session, (image, boxes, labels)))
        for mine, theirs in zip(wanted, answers[-1], strict=True):
            np.testing.assert_allclose(theirs, mine.numpy(), atol=1e-3)
    assert np.abs(answers[0][0][0] - answers[1][0][0]).max() > 1e-3
    np.testing.assert_allclose(answers[0][0][2], answers[1][0][2], atol=1e-6)


def test_a_graph_sees_the_other_boxes(tmp_path: Path) -> None:
    changes = ["model.neighbours=true", "model.settle=true", "model.zooms=[0.1, 0.3]"]
    recipe = load_recipe("world_box_segmenter", [*changes, "model.decision=best_iou"])
    torch.manual_seed(0)
    model = build_model(recipe.model, 9).eval()
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    torch.nn.init.normal_(first.weight[:, 4:])
    predictor = Predictor(model, None, "tiny", digest="", device=torch.device("cpu"))
    largest = write_graphs(predictor, tmp_path)["graphs"]["segment"]["largest_difference"]
    assert largest["quality"] < 1e-3
    assert largest["mask_probs"] < 5e-3
    image, boxes, labels = next(case for case in cases(0) if len(case[1]) > 1)
    session = session_of(tmp_path / "segment.onnx")
    together = answer(session, (image, boxes, labels))[0][0]
    alone = answer(session, (image, boxes[:1], labels[:1]))[0][0]
    assert np.abs(together - alone).max() > 1e-3


@pytest.mark.slow
def test_a_wrong_graph_is_noticed(deployed: Path) -> None:
    other = load("box-segmenter", device="cpu")
    graph = graphs_of(other)[0]
    with torch.no_grad():
        next(other.model.predictor.parameters()).mul_(-1)
    assert parity(graph, deployed / "segment.onnx")["largest_difference"]["mask_probs"] > 0.05


def test_what_has_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a rule, not a network"):
        write_graphs(load("baseline:box"), tmp_path)
    legacy = detector("world_transfer")
    legacy.model.legacy = True  # type: ignore[assignment]
    with pytest.raises(InputError, match="Detectron's geometry"):
        write_graphs(legacy, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_without_the_extra_it_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "halfmask.inference.export.export.find_spec",
        lambda name: None if name == "onnxruntime" else object(),
    )
    with pytest.raises(
        InputError, match=r"onnxruntime is not installed\): pip install 'halfmask\[export\]'"
    ):
        write_graphs(load("baseline:box"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def detector(recipe: str) -> Predictor:
    torch.manual_seed(0)
    config = load_recipe(recipe, [])
    model = build_model(config.model, 21, pretrained=False)
    predictor: Any = model.box_heads.box_predictor
    with torch.no_grad():
        predictor.cls_score.weight.mul_(20)
        predictor.cls_score.bias[0] -= 1
    return Predictor(model, None, recipe, digest="", device=torch.device("cpu"))


def _example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_onnx", EXAMPLES / "deploy_onnx.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_graph_looks_at_borders_twice_and_says_that_it_takes_no_clicks(tmp_path: Path) -> None:
    changes = ["model.clicks=true", "model.border={width: 8, blocks: 2}", "model.mirror=true"]
    recipe = load_recipe("world_box_segmenter", [*changes, "model.zooms=[0.1, 0.3]"])
    torch.manual_seed(0)
    model = build_model(recipe.model, 9).eval()
    torch.nn.init.normal_(model.border.last.weight)  # type: ignore[union-attr]
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    torch.nn.init.normal_(first.weight[:, 4:])
    predictor = Predictor(model, None, "tiny", digest="", device=torch.device("cpu"))
    report = write_graphs(predictor, tmp_path)
    largest = report["graphs"]["segment"]["largest_difference"]
    assert largest["mask_probs"] < 5e-3
    assert report["left_out"].startswith("clicks and earlier masks")
    image, boxes, labels = next(case for case in cases(0) if len(case[1]) > 1)
    probs = answer(session_of(tmp_path / "segment.onnx"), (image, boxes, labels))[0]
    assert probs.shape[-1] == 2 * model.mask_size  # type: ignore[operator]
