"""A verb and the function of the same name in `halfmask` do the same."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import halfmask
from halfmask.cli.demo import story
from halfmask.cli.main import VERBS
from tests.conftest import RunsHalfmask

RECIPE = """
name: twin
model:
  kind: box_segmenter
  encoder: {{name: small_resnet, widths: [4, 6, 8], blocks: [1, 1, 1]}}
  crop_size: 32
  decoder_widths: [8, 6]
data: {{annotations: {data}, images: {photos}, masked_threshold: 1, workers: 0}}
stages: [{{name: one, train: [all], loss: masks, steps: 2, batch_size: 1, optimiser: {{lr: 0.01}}}}]
loggers: []
"""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files that both read, and the folder that both write.

    Attributes:
        data: a COCO file of three photographs.
        photos: their folder.
        filled: the COCO file with every mask filled.
        journal: one decision of a review of `filled`.
        recipe: two steps of training on `data`.
        weights: a Mask R-CNN of torchvision.
        model: a box segmenter.
        detector: a Mask R-CNN of other classes than `data`.
        out: what they write lies here.
    """

    data: Path
    photos: Path
    filled: Path
    journal: Path
    recipe: Path
    weights: Path
    model: Path
    detector: Path
    out: Path


@dataclass(frozen=True, kw_only=True)
class Twin:
    """How to call a verb from the command line and from Python.

    Attributes:
        arguments: of the verb, without --json.
        call: the same by the function.
        files: pattern below `Inputs.out`; these files are compared byte by byte.
        json: whether the verb has --json, which is compared with `to_json()`.
        ignored: keys of the JSON that differ from run to run (seconds).
    """

    arguments: Callable[[Inputs], list[object]]
    call: Callable[[Inputs], Any]
    files: str = "**/*"
    json: bool = False
    ignored: frozenset[str] = frozenset()


TWINS: dict[str, Twin] = {
    "doctor": Twin(
        arguments=lambda i: [i.data, "--images", i.photos],
        call=lambda i: halfmask.doctor(i.data, images=i.photos),
        files="",
        json=True,
    ),
    "audit": Twin(
        arguments=lambda i: [
            *(i.data, "--images", i.photos, "--model", i.model, "--html", i.out / "audit.html")
        ],
        call=lambda i: halfmask.audit(
            i.data, images=i.photos, model=i.model, html=i.out / "audit.html"
        ),
        json=True,
    ),
    "split": Twin(
        arguments=lambda i: [i.data, "--masked", "cat", "--out", i.out / "split.json"],
        call=lambda i: halfmask.split(i.data, masked="cat", out=i.out / "split.json"),
    ),
    "tighten": Twin(
        arguments=lambda i: [i.filled, "--filled", "--out", i.out / "tight.json"],
        call=lambda i: halfmask.tighten(i.filled, filled=True, out=i.out / "tight.json"),
        json=True,
    ),
    "index": Twin(
        arguments=lambda i: [i.data, "--folder", i.out],
        call=lambda i: halfmask.index(i.data, folder=i.out),
    ),
    "convert": Twin(
        arguments=lambda i: ["to-yolo", i.data, i.out / "yolo", "--images", i.photos],
        call=lambda i: halfmask.convert("to-yolo", i.data, i.out / "yolo", images=i.photos),
        json=True,
    ),
    "synth": Twin(
        arguments=lambda i: [i.out, "--image-count", 2, "--class-count", 5, "--seed", 3],
        call=lambda i: halfmask.synth(i.out, image_count=2, class_count=5, seed=3),
    ),
    "train": Twin(
        arguments=lambda i: [i.recipe, "seed=3", "--out", i.out],
        call=lambda i: halfmask.train(i.recipe, ["seed=3"], out=i.out),
        files="model.safetensors",
    ),
    "add-class": Twin(
        arguments=lambda i: [
            *(i.detector, i.data, "--images", i.photos, "--names", "cat", "--out", i.out)
        ],
        call=lambda i: halfmask.add_class(
            i.detector, i.data, images=i.photos, names=["cat"], out=i.out
        ),
        files="model.safetensors",
        json=True,
        ignored=frozenset({"seconds"}),
    ),
    "evaluate": Twin(
        arguments=lambda i: [i.model, i.data, "--images", i.photos, "--given-boxes"],
        call=lambda i: halfmask.evaluate(i.model, i.data, images=i.photos, given_boxes=True),
        files="",
        json=True,
        ignored=frozenset({"seconds"}),
    ),
    "predict": Twin(
        arguments=lambda i: [i.model, i.photos, "--data", i.data, "--out", i.out],
        call=lambda i: halfmask.predict(i.model, i.photos, data=i.data, out=i.out),
    ),
    "complete": Twin(
        arguments=lambda i: [i.model, i.data, "--images", i.photos, "--out", i.out / "done.json"],
        call=lambda i: halfmask.complete(i.model, i.data, images=i.photos, out=i.out / "done.json"),
        json=True,
    ),
    "review": Twin(
        arguments=lambda i: [
            *(i.filled, "--journal", i.journal, "--out", i.out / "reviewed.json", "--export")
        ],
        call=lambda i: halfmask.review(
            i.filled, journal=i.journal, out=i.out / "reviewed.json", export=True
        ),
    ),
    "serve": Twin(
        arguments=lambda i: [i.model, "--port", 0, "--token", "--device", "cpu"],
        call=lambda i: halfmask.serve(i.model, port=0, token=True, device="cpu"),
    ),
    "export": Twin(
        arguments=lambda i: [i.model, "--out", i.out],
        call=lambda i: halfmask.export(i.model, out=i.out),
    ),
    "import-weights": Twin(
        arguments=lambda i: ["torchvision", i.weights, i.out / "imported.safetensors"],
        call=lambda i: halfmask.import_weights(
            "torchvision", i.weights, i.out / "imported.safetensors"
        ),
    ),
}


NEEDED = {"export": "onnx"}
"""Verb → the optional package that it needs."""


@pytest.fixture
def inputs(
    tmp_path: Path,
    photos: Path,
    coco_file: Callable[..., Path],
    tiny_segmenter: Path,
    halfmask_cli: RunsHalfmask,
) -> Inputs:
    data, filled = coco_file(), tmp_path / "filled.json"
    segmented = halfmask_cli("complete", tiny_segmenter, data, "--images", photos, "--out", filled)
    assert segmented.code == 0, segmented.err
    recipe = tmp_path / "twin.yaml"
    recipe.write_text(RECIPE.format(data=data, photos=photos))
    return Inputs(
        data=data,
        photos=photos,
        filled=filled,
        journal=_decided(filled, photos, tmp_path / "journal.jsonl"),
        recipe=recipe,
        weights=tmp_path / "weights.pth",
        model=tiny_segmenter,
        detector=_detector(tmp_path / "detector.safetensors", recipe),
        out=tmp_path / "out",
    )


def _detector(path: Path, recipe: Path) -> Path:
    from halfmask.models.build import build_model
    from halfmask.models.checkpoint import Checkpoint, save_checkpoint
    from halfmask.recipes.model import MaskRCNN
    from halfmask.recipes.recipe import load_recipe
    from tests.cli.runs import REGION_HEADS

    config = MaskRCNN.model_validate(REGION_HEADS)
    torch.manual_seed(0)
    state = build_model(config, 2).state_dict()
    made = load_recipe(recipe).model_copy(update={"model": config})
    categories = [{"id": 9, "name": "bird"}]
    save_checkpoint(path, Checkpoint(state=state, recipe=made, categories=categories, masked=[]))
    return path


def _decided(filled: Path, photos: Path, journal: Path) -> Path:
    from halfmask.web.review.review import Review
    from halfmask.web.segmenting import Segmenter

    segmenter = Segmenter("baseline:box")
    review = Review(filled, segmenter, images=photos, journal=journal, out=Path("unused.json"))
    review.decisions.decide(int(review.index.queue[0]), 0, "rejected", by="Anna")
    review.close()
    return journal


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, inputs: Inputs) -> Path:
    """Pages answer one request and end; its answer is a file in `inputs.out`."""
    from halfmask.web.server import PageServer

    answer = inputs.out / "answer.json"

    def run(server: PageServer) -> None:
        page, _, token = server.address.partition("?token=")
        request = urllib.request.Request(f"{page}api/model")
        request.add_header("Authorization", f"Bearer {token}")
        with server, urllib.request.urlopen(request) as got:
            answer.parent.mkdir()
            answer.write_bytes(got.read())

    monkeypatch.setattr(PageServer, "run", run)
    return answer


def _contents(folder: Path, pattern: str) -> dict[str, bytes]:
    found = folder.glob(pattern) if pattern else ()
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(found) if p.is_file()}


LONG = {"audit", "export", "train"}


@pytest.mark.parametrize(
    "verb", [pytest.param(v, marks=[pytest.mark.slow] if v in LONG else []) for v in TWINS]
)
def test_a_verb_and_its_function_do_the_same(
    verb: str,
    inputs: Inputs,
    served: Path,
    halfmask_cli: RunsHalfmask,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if verb in NEEDED:
        pytest.importorskip(NEEDED[verb])
    if verb == "import-weights":
        from tests.cli.test_import_weights import state

        torch.save(state(), inputs.weights)
    monkeypatch.setenv("HALFMASK_INDEX_FOLDER", "")  # `index` sets it: undone after the test
    monkeypatch.delenv("HALFMASK_INDEX_FOLDER")
    twin, report = TWINS[verb], tmp_path / "report.json"
    done = halfmask_cli(verb, *twin.arguments(inputs), *(["--json", report] * twin.json))
    assert done.code == 0, done.err
    by_verb = _contents(inputs.out, twin.files)
    assert by_verb or not twin.files
    if inputs.out.exists():
        inputs.out.rename(tmp_path / "by_verb")  # the function writes to the same paths

    result = twin.call(inputs)
    assert _contents(inputs.out, twin.files) == by_verb
    if twin.json:
        ours = json.loads(json.dumps(result.to_json()))
        theirs = json.loads(report.read_text())
        assert {*ours} == {*theirs}
        assert {k: v for k, v in ours.items() if k not in twin.ignored} == {
            k: v for k, v in theirs.items() if k not in twin.ignored
        }


def test_every_verb_has_a_function() -> None:
    assert {*TWINS} == {*VERBS} - {"demo"}  # the demo exists on the command line only
    assert {verb.replace("-", "_") for verb in TWINS} <= {*dir(halfmask)}


def test_the_pages_log_and_the_verb_prints(
    inputs: Inputs,
    served: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    halfmask_cli: RunsHalfmask,
) -> None:
    from halfmask.web.server import PageServer

    monkeypatch.setattr(PageServer, "run", lambda server: None)
    monkeypatch.setattr(logging.getLogger("halfmask"), "handlers", [])
    arguments = {"images": inputs.photos, "journal": inputs.journal, "out": inputs.out / "r.json"}
    done = halfmask.review(inputs.filled, **arguments, port=0)
    assert capsys.readouterr() == ("", "")
    assert (done.masks, done.written) == (6, None)
    options = [f for name, value in arguments.items() for f in (f"--{name}", value)]
    said = halfmask_cli("review", inputs.filled, *options, "--port", 0)
    assert f"6 masks to review; decisions go to {inputs.journal}" in said.out
    assert f"halfmask review {inputs.filled} --export --out {done.out}" in said.out


def test_the_demo_prints_where_its_page_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []
    monkeypatch.setattr(story, "make_demo", lambda *given: made.append(given) or tmp_path / "p")
    story.run(tmp_path)
    assert made == [(tmp_path, story.Settings())]
    assert (tmp_path / "p").as_uri() in capsys.readouterr().out
