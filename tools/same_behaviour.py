"""Records what must not change when code moves: output bytes, losses, state-dict keys,
reports.

    python tools/same_behaviour.py record before.json     # before the change python
    tools/same_behaviour.py compare before.json    # after it; exit code 1 where
    something differs

Runs the installed `halfmask`, on the photographs that ship with it and, where
HALFMASK_SHARED leads there, on COCO-mini. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "halfmask" / "assets" / "photos"
SHARED = Path(os.environ.get("HALFMASK_SHARED", ROOT.parent / "shared"))
CHANGING = {"seconds", "date", "version", "file", "out", "created"}
"""Keys whose values belong to the moment, not to the data."""
SENTENCES = {"message", "advice", "text"}
"""Keys whose values are sentences for people, which may be reworded."""


def halfmask(*arguments: str, codes: tuple[int, ...] = (0,)) -> None:
    command = [sys.executable, "-m", "halfmask", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HALFMASK_SHARED": str(SHARED)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in codes, (
        f"{' '.join(arguments)}: {done.returncode}\n{done.stderr[-2000:]}"
    )


def still(value: Any) -> Any:
    """The same JSON without what changes from run to run."""
    if isinstance(value, dict):
        return {key: still(item) for key, item in value.items() if key not in CHANGING | SENTENCES}
    return [still(item) for item in value] if isinstance(value, list) else value


def completed(folder: Path, *options: str) -> str:
    """Digest of a completed file of the shipped photographs, its date aside."""
    boxes = json.loads((PHOTOS / "photos.json").read_text())
    for annotation in boxes["annotations"][::2]:
        annotation.pop("segmentation", None)
    source, out = folder / "boxes.json", folder / f"out{len(options)}.json"
    source.write_text(json.dumps(boxes))
    halfmask(
        "complete",
        "box-segmenter",
        str(source),
        "--images",
        str(PHOTOS),
        "--out",
        str(out),
        *options,
    )
    return hashlib.sha256(json.dumps(still(json.loads(out.read_text()))).encode()).hexdigest()


def losses(folder: Path, recipe: str, *overrides: str) -> list[dict[str, str]]:
    """Rows of metrics.csv, times aside, and a digest of the weights after the last step."""
    out = folder / recipe
    halfmask("train", recipe, *overrides, "--out", str(out))
    with (out / "logs" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = [{k: v for k, v in row.items() if "second" not in k} for row in rows]
    weights = load_file(out / "model.safetensors")
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return [*rows, {"weights": digest.hexdigest()}]


def first(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(names)


def state_dict_keys() -> dict[str, str]:
    """Digest of every shipped recipe's state-dict keys and shapes."""
    recipes = first("halfmask.recipes.recipe", "halfmask.recipes.recipe")
    build = first("halfmask.models.build")
    digests = {}
    for path in sorted((ROOT / "halfmask" / "recipes").rglob("*.yaml")):
        os.environ.setdefault("COCO_ROOT", "/nowhere")
        try:
            recipe = recipes.load_recipe(str(path))
            model = build.build_model(recipe.model, 81, pretrained=False)
        except Exception as error:  # a recipe may ask for files that are not here: as before, then
            digests[path.stem] = type(error).__name__
            continue
        keys = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
        digests[path.stem] = f"{len(keys)} {hashlib.sha256(repr(keys).encode()).hexdigest()}"
    return digests


def record(folder: Path) -> dict[str, Any]:
    coco = SHARED / "data" / "coco-mini"
    seen: dict[str, Any] = {"keys": state_dict_keys()}
    seen["complete"] = completed(folder)
    seen["complete --polygons"] = completed(folder, "--polygons")
    halfmask("synth", str(folder / "world"), "--image-count", "60", "--seed", "0")
    seen["world losses"] = losses(
        folder,
        "world_transfer",
        f"data.annotations={folder / 'world' / 'instances.json'}",
        f"data.images={folder / 'world' / 'images'}",
        "stages.0.steps=30",
        "stages.1.steps=10",
    )
    if coco.is_dir():
        truth, images = str(coco / "instances_val.json"), str(coco / "val")
        seen["segmenter losses"] = losses(
            folder, "coco_mini_voc2nonvoc_box_segmenter", "rounds=1", "stages.0.steps=30"
        )
        report = folder / "doctor.json"
        halfmask("doctor", truth, "--images", images, "--json", str(report), codes=(0, 1))
        seen["doctor"] = still(json.loads(report.read_text()))
        report = folder / "evaluate.json"
        halfmask(
            "evaluate",
            "box-segmenter",
            truth,
            "--images",
            images,
            "--given-boxes",
            "--json",
            str(report),
        )
        seen["evaluate"] = still(json.loads(report.read_text()))
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = record(Path(folder))
    if given.mode == "record":
        given.file.write_text(json.dumps(seen, indent=1))
        return 0
    before = still(json.loads(given.file.read_text()))
    now = json.loads(json.dumps(seen))
    for name in sorted(before.keys() | now.keys()):
        print(f"{name}: {'equal' if before.get(name) == now.get(name) else 'DIFFERENT'}")
    return int(before != now)


if __name__ == "__main__":
    sys.exit(main())
