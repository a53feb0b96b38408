"""What a small file may ask for is bounded, and the refusal is one line."""

import csv
import json
import os
import re
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from halfmask.cli.main import app
from halfmask.coco.file import CocoFile, parse_json
from halfmask.coco.locate import plain_name
from halfmask.coco.records import MOST_PIXELS
from halfmask.errors import InputError
from halfmask.formats import xml_stream
from halfmask.formats.convert import convert
from halfmask.formats.json_stream import stream_items
from halfmask.formats.shapes import one_polygon
from halfmask.formats.xml_stream import XmlError, children_of
from halfmask.masks.outline import LEAST_IOU, outlines
from halfmask.masks.rle import crop_of, rle_of
from halfmask.recipes import yaml_text
from halfmask.recipes.recipe import load_recipe, parse_recipe, shipped_recipes
from halfmask.recipes.yaml_text import MOST_DEPTH, parse_yaml, read_yaml
from halfmask.web.security import _same


@pytest.fixture
def seconds() -> Callable[[], float]:
    """Processor time since the test began: the machine may be busy."""
    begin = time.process_time()
    return lambda: time.process_time() - begin


# YAML
DEEP = {"[": "[" * 100_000, "{": "{a: " * 100_000, "- ": "- " * 5_000 + "1"}
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 30)
)
YAML = {
    **{f"nested {key}": (text, "nested deeper") for key, text in DEEP.items()},
    "laughs": (LAUGHS, "values, with what aliases repeat"),
    "alias in itself": ("a: &a [*a]", "stands inside what it repeats"),
    "many": ("[" + "1," * 3001 + "]", "more than 3,000 values"),
    "no int": ("a: !!int x", "a value that does not fit its tag"),
    "empty int": ("a: !!int ''", "a value that does not fit its tag"),
    "no float": ("a: !!float x", "a value that does not fit its tag"),
    "no bool": ("a: !!bool x", "a value that does not fit its tag"),
    "bad date": ("a: !!timestamp 2024-13-45", "a value that does not fit its tag"),
    "no date": ("a: !!timestamp x", "expected YAML"),
    "binary": ("a: !!binary \u00e9", "expected YAML"),
    "long number": ("a: " + "9" * 5000, "a value that does not fit its tag"),
    "list as key": ("? [a]\n: 1", "expected YAML"),
    "python": ("a: !!python/object/apply:os.system [ls]", "expected YAML"),
    "unknown alias": ("a: *b", "expected YAML"),
    "two documents": ("a: 1\n---\nb: 2", "expected YAML"),
    "control character": ("a: \x01", "expected YAML"),
    "set": ("a: !!set [1]", "expected YAML"),
    "merge": ("a: {<<: 1}", "expected YAML"),
    "pairs": ("a: !!pairs 1", "expected YAML"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_asks_for_too_much_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_text, "MOST_VALUES", 3000)
    text, words = YAML[name]
    with pytest.raises(InputError, match=words) as caught:
        parse_yaml(text, "recipe.yaml")
    assert str(caught.value).startswith("recipe.yaml: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["nested [", "laughs", "bad date", "long number"])
def test_every_reader_of_yaml_is_bounded(name: str, tmp_path: Path) -> None:
    text, words = YAML[name]
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    for read in (
        lambda: convert("yolo", tmp_path, tmp_path / "out.json"),
        lambda: load_recipe(tmp_path / "data.yaml"),
        lambda: load_recipe("adapt", [f"name={text}"]),
    ):
        with pytest.raises(InputError, match=words):
            read()


def test_no_other_code_of_the_package_reads_yaml() -> None:
    package = Path(__file__).parents[2] / "halfmask"
    asks = re.compile(r"yaml\.(safe_|full_|unsafe_)?(load|parse|compose|scan)\b")
    found = [p.name for p in package.rglob("*.py") if asks.search(p.read_text(encoding="utf-8"))]
    assert found == ["yaml_text.py"]


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: [x, 2.5, true, null]\nc: {d: e}", "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}", "", "7"],
)
def test_yaml_reads_as_pyyaml_does(text: str) -> None:
    assert parse_yaml(text, "x") == yaml.safe_load(text)


def test_a_shipped_recipe_is_far_from_the_bounds() -> None:
    for path in list(shipped_recipes().values())[::12]:
        document = read_yaml(path)
        assert document == yaml.safe_load(path.read_text(encoding="utf-8"))
    depth = parse_yaml("[" * (MOST_DEPTH - 1) + "]" * (MOST_DEPTH - 1), "x")
    assert isinstance(depth, list)


def test_a_class_may_be_called_like_a_date() -> None:
    assert parse_yaml("names: [2024-13-45, 2024-01-02]", "x") == {
        "names": ["2024-13-45", "2024-01-02"]
    }


# Recipes
RECIPE = [
    "seed=-1",
    "seed=18446744073709551616",
    "data.workers=100000",
    "data.workers=-1",
    "stages.0.batch_size=100000000",
    "stages.0.steps=100000000000000",
    "rounds=100000000",
    "devices=100000000",
    "model.encoder.blocks=[100000000]",
    "model.encoder.blocks=[1,1,1,1,1,1,1,1,1]",
    "model.encoder.widths=[100000000]",
    "model.encoder.widths=[-1]",
    "model.crop_size=100000000",
    "model.decoder_widths=[100000000,1,1,1]",
    "model.regions_per_image=1000000000",
    "model.zooms=[" + "1," * 17 + "]",
]


@pytest.mark.parametrize("override", RECIPE)
def test_a_recipe_that_asks_for_too_much_is_one_line(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(InputError, match=key.replace(".", r"\.")) as caught:
        load_recipe("adapt", [override])
    assert "\n" not in str(caught.value)


OPTIONS = [
    ["synth", "OUT", "--image-count", "1", "--workers", "100000"],
    ["synth", "OUT", "--image-count", "1", "--workers", "-1"],
    ["synth", "OUT", "--image-count", "1000000000000"],
    ["complete", "baseline:box", "OUT", "--workers", "100000"],
    ["evaluate", "baseline:box", "OUT", "--workers", "100000"],
    ["serve", "baseline:box", "--port", "100000"],
]


@pytest.mark.parametrize("arguments", OPTIONS)
def test_an_option_that_asks_for_too_much_is_refused(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [str(out) if a == "OUT" else a for a in arguments])
    assert done.exit_code == 2
    assert "equal to" in " ".join(done.output.split())
    assert not out.exists()


MASK_RCNN = [
    "model.detector.fpn_channels=1000000",
    "model.detector.box_width=1000000",
    "model.detector.box_convs=1000000",
    "model.detector.detections=1000000000",
    "model.mask_head.width=1000000",
    "model.mask_head.convs=1000000",
    "model.mask_head.roi_size=1000000",
    "model.images.min_size=[1000000]",
    "model.mask_head.transfer.seed=-1",
]


@pytest.mark.parametrize("override", MASK_RCNN)
def test_a_mask_rcnn_that_asks_for_too_much_is_one_line(override: str) -> None:
    name = next(name for name in shipped_recipes() if name.startswith("coco_t1a"))
    with pytest.raises(InputError, match=override.partition("=")[0].replace(".", r"\.")):
        load_recipe(name, [override])


def test_a_model_of_too_many_weights_is_refused_while_it_is_built() -> None:
    from halfmask.models.build import build_model

    recipe = load_recipe("world_transfer", ["model.detector.box_width=4096"])
    with pytest.raises(InputError, match=r"more than 0\.2 billion weights"):
        build_model(
            recipe.model.model_copy(
                update={"detector": recipe.model.detector.model_copy(update={"fpn_channels": 4096})}
            ),
            3,
            pretrained=False,
            stored=1000,
        )
    assert build_model(load_recipe("world_transfer").model, 3, pretrained=False, stored=1000)


def test_a_checkpoint_whose_recipe_is_larger_than_its_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from halfmask.inference.checkpoints import ASSETS, open_checkpoint

    shipped = ASSETS / "box-segmenter.safetensors"
    state = load_file(shipped)
    header = json.loads(_metadata(shipped)["halfmask"])
    header["recipe"]["model"] |= {"decoder_widths": [4096, 4096, 4096, 4096]}
    save_file(state, tmp_path / "big.safetensors", {"halfmask": json.dumps(header)})
    with pytest.raises(InputError, match="billion weights"):
        open_checkpoint(tmp_path / "big.safetensors")


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        found: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return found


def test_class_vectors_that_are_longer_than_their_file(tmp_path: Path) -> None:
    from halfmask.models.class_vectors import vector_size

    path = tmp_path / "v.npy"
    np.save(path, np.zeros((3, 4), np.float32))
    assert vector_size(path) == 4
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 4), }"
    header = header.ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(InputError, match="class vectors cannot be read"):
        vector_size(path)


# Masks
def coco(width: int, height: int, segmentation: Any, box: list[float]) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "segmentation": segmentation}
        ],
        "categories": [{"id": 1, "name": "x"}],
    }


def test_an_image_larger_than_any_photograph_is_left_out_and_named() -> None:
    side = 65_535
    mask = {"size": [side, side], "counts": [0, side * side]}
    file = CocoFile(coco(side, side, mask, [0, 0, side, side]), "x")
    assert file.images == []
    assert "at most 178 million pixels: cut it into tiles" in file.structure[0].message
    assert CocoFile(coco(MOST_PIXELS // 10_000, 10_000, [], [0, 0, 9, 9]), "x").images


def test_to_yolo_of_437_bytes_needs_no_gigabytes(tmp_path: Path) -> None:
    side = 65_535
    mask = {"size": [side, side], "counts": [0, side * side]}
    (tmp_path / "in.json").write_text(json.dumps(coco(side, side, mask, [0, 0, side, side])))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = convert("to-yolo", tmp_path / "in.json", tmp_path / "out")
    print(done)
    assert "at most 178 million pixels" in "".join(done.problems)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def cvat(width: int, height: int, rle: str) -> str:
    return (
        f'<annotations><label><name>x</name></label><image id="0" name="a.jpg" width="{width}" '
        f'height="{height}"><mask label="x" rle="{rle}" left="0" top="0" width="{width}" '
        f'height="{height}"/></image></annotations>'
    )


def test_a_mask_of_cvat_on_an_image_of_any_size(
    tmp_path: Path, seconds: Callable[[], float]
) -> None:
    (tmp_path / "a.xml").write_text(cvat(60_000, 60_000, f"0,{60_000**2}"))
    with pytest.raises(InputError, match="image"):
        convert("cvat", tmp_path / "a.xml", tmp_path / "out.json")
    assert seconds() < 3


def speckle(side: int) -> np.ndarray[Any, Any]:
    bitmap = np.ones((side, side), np.uint8)
    bitmap[1:-1:2, 1:-1:2] = 0
    return bitmap


def scattered(side: int) -> np.ndarray[Any, Any]:
    bitmap = np.zeros((side, side), np.uint8)
    bitmap[::2, ::2] = 1
    return bitmap


@pytest.mark.parametrize("make", [speckle, scattered])
@pytest.mark.parametrize("tolerance", [0.0, 1.0])
def test_speckle_is_outlined_in_time_and_as_it_is(
    make: Callable[[int], Any], tolerance: float, seconds: Callable[[], float]
) -> None:
    bitmap = make(49)
    polygons = outlines(bitmap, tolerance=tolerance)
    drawn = crop_of(polygons, bitmap.shape)
    assert drawn is not None
    there = bitmap[: drawn[0].shape[0], : drawn[0].shape[1]]
    common, either = (drawn[0] & there).sum(), (drawn[0] | there).sum()
    assert common >= (1.0 if tolerance == 0 else LEAST_IOU) * either
    one = one_polygon(rle_of(bitmap, (0, 0), bitmap.shape), bitmap.shape, tolerance)
    again = crop_of([one], bitmap.shape)
    assert again is not None
    assert (again[0] & there).sum() >= LEAST_IOU * (again[0] | there).sum()
    assert seconds() < 30


# XML, JSON, CSV, addresses
@pytest.mark.parametrize("how", ["attribute", "text", "comment", "name"])
def test_a_long_piece_of_xml_is_refused(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xml_stream, "LONGEST_PIECE", 4 << 20)
    long = "x" * (6 << 20)
    text = {
        "attribute": f'<a b="{long}"/>',
        "text": f"<a>{long}</a>",
        "comment": f"<a><!--{long}--></a>",
        "name": f"<{long}/>",
    }[how]
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(XmlError, match="more than 4 MB"):
        list(children_of(tmp_path / "a.xml", "a"))


def test_a_mask_of_megabytes_in_xml_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(f'<root><a b="{"1," * 2_000_000}"><c/></a></root>')
    [element] = children_of(tmp_path / "a.xml", "root")
    assert len(element.get("b", "")) == 4_000_000


NESTED = "[" * 200_000


@pytest.mark.parametrize("text", [NESTED, '{"a":' * 200_000, "9" * 5000])
def test_nested_json_and_long_numbers_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images":[],"categories":[],"annotations":[' + text)
    for read in (
        lambda: parse_json(path, "expected JSON", []),
        lambda: list(stream_items(path, "annotations.item")),
        lambda: CocoFile.read(path),
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_long_field_of_a_csv_is_one_line(tmp_path: Path) -> None:
    names = "ImageID,LabelName,XMin,XMax,YMin,YMax"
    for field in ("x" * (csv.field_size_limit() + 1), "a\0b"):
        (tmp_path / "a-annotations-bbox.csv").write_text(f"{names}\n{field},l,0,1,0,1\n")
        with pytest.raises(InputError, match="csv"):
            convert("open-images", tmp_path, tmp_path / "out.json", images=tmp_path)
    (tmp_path / "class-descriptions.csv").write_text("x" * (csv.field_size_limit() + 1))
    with pytest.raises(InputError, match="csv"):
        convert("open-images", tmp_path, tmp_path / "out.json", images=tmp_path)


@pytest.mark.parametrize("name", ["https://[", "https://[::1", "http://a]b/c.jpg", "s3://\u2100/a"])
def test_an_address_that_is_none_is_a_name(name: str, tmp_path: Path) -> None:
    assert isinstance(plain_name(name), str)
    assert not _same(name, "localhost")
    task = [{"id": 1, "data": {"image": name}, "annotations": []}]
    (tmp_path / "t.json").write_text(json.dumps(task))
    with pytest.raises(InputError, match="image"):
        convert("label-studio", tmp_path / "t.json", tmp_path / "out.json")


# Files that are no files of a data set
def test_a_list_that_data_yaml_names_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0\nhunter2\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.yaml").write_text(f"names: [a]\ntrain: {secret}\n")
    with pytest.raises(InputError, match="line 1 does not end like a photograph") as caught:
        convert("yolo", tmp_path / "data", tmp_path / "out.json")
    assert "root:x" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


PIPES: dict[str, Callable[[Path], object]] = {
    "a.json": lambda path: CocoFile.read(path),
    "b.json": lambda path: list(stream_items(path)),
    "d.json": lambda path: convert("to-yolo", path, path.with_name("out")),
    "a.xml": lambda path: list(children_of(path, "a")),
    "a.yaml": read_yaml,
    "b.yaml": lambda path: load_recipe(path),
    "a-annotations-bbox.csv": lambda path: convert(
        "open-images", path.parent, path.with_name("out.json"), images=path.parent
    ),
}


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_is_no_data_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError) as caught:
        PIPES[name](tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_recipe_of_another_shape_is_still_refused_by_its_key() -> None:
    with pytest.raises(InputError, match="model"):
        parse_recipe({"name": "x", "model": [1]}, "x")
