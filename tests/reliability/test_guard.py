"""No output eats an input: each path option of each verb against each way to name one.

The options come from the command-line definitions, so that a new path option without an
entry in the tables fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import halfmask
from halfmask.cli.main import VERBS
from halfmask.errors import InputError
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import COCO, PICTURE
from halfmask.files.pictures import save_marked
from tests.conftest import RunsHalfmask

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX")

INPUTS = {
    *(("doctor", "data"), ("doctor", "images"), ("convert", "source"), ("convert", "images")),
    *(("convert", "masks"), ("convert", "coco_val"), ("split", "data"), ("split", "images")),
    *(("tighten", "data"), ("index", "data"), ("index", "images"), ("train", "images")),
    *(("train", "val"), ("evaluate", "data"), ("evaluate", "images"), ("evaluate", "detections")),
    *(("import-weights", "source"), ("import-weights", "categories"), ("complete", "data")),
    *(("complete", "images"), ("complete", "detections"), ("review", "data")),
    *(("review", "images"), ("predict", "images"), ("predict", "data")),
    *(("add-class", "data"), ("add-class", "images"), ("add-class", "vectors")),
    *(("audit", "data"), ("audit", "images")),
    *(("predict", "detections"), ("export", "calibrate"), ("export", "data")),
}
"""Verb and path option that is read only."""
WHY = re.compile(
    r"is the input .* itself|among the photographs|, found (a|another) |not made by|"
    r"is a file of the data set|does not end like a picture|expected a name that ends in"
)
"""The guard's own words: a command that fails for another reason proves nothing."""
MODELS = {"model", "detector", "provider", "recipe"}
"""Options that name a model or a recipe, by a path among others; read only."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A verb, with inputs that it accepts, and one of its outputs.

    Attributes:
        verb: its name.
        option: the name of the output in its signature.
        given: its other arguments; NAMES in it are replaced.
        value: how the output is given, from its path.
        suffix: of the output's name; "/": a folder.
        inputs: names in `World` of what it reads.
        others: names of further outputs, each with its flag.
        attacks: those that do not apply, and why.
    """

    verb: str
    option: str
    given: tuple[str, ...]
    value: Callable[[Path], tuple[str, ...]]
    suffix: str
    inputs: tuple[str, ...]
    others: tuple[tuple[str, str], ...] = ()
    attacks: tuple[str, ...] = ()


def flag(name: str) -> Callable[[Path], tuple[str, ...]]:
    return lambda path: (f"--{name}", str(path))


def last(path: Path) -> tuple[str, ...]:
    return (str(path),)


DATA, SHOW = ("DATA", "--images", "PHOTOS"), ("data", "photos")
EVALUATE = ("MODEL", *DATA, "--detections", "RESULTS")
READ = ("model", *SHOW, "results")
NEW = ("foreign",)
"""An index names its file itself; what lies in its folder does not matter."""


def _cases() -> Iterator[Case]:
    def add(verb: str, option: str, *given: str, **more: Any) -> Case:
        more.setdefault("value", flag(option))
        return Case(verb=verb, option=option, given=given, **more)

    for option, suffix, other in (("json", ".json", "html"), ("html", ".html", "json")):
        others = ((other, f".{other}"),)
        yield add("doctor", option, *DATA, suffix=suffix, inputs=SHOW, others=others)
        model = ("--model", "MODEL")
        yield add(
            *("audit", option, *DATA, *model), suffix=suffix, inputs=("model", *SHOW), others=others
        )
    yield add(
        *("convert", "out", "to-coco", "DATA"), value=last, suffix=".json", inputs=("data",),
        others=(("json", ".json"),),
    )  # fmt: skip
    yield add(
        *("convert", "json", "to-yolo", "DATA", "NEW", "--images", "PHOTOS"),
        suffix=".json",
        inputs=SHOW,
    )
    split = (*DATA, "--masked", "cat")
    yield add("split", "out", *split, suffix=".json", inputs=SHOW)
    for option, other in (("out", "json"), ("json", "out")):
        others = ((other, ".json"),)
        yield add("tighten", option, "DATA", suffix=".json", inputs=("data",), others=others)
    yield add("index", "folder", *DATA, suffix="/", inputs=SHOW, attacks=NEW)
    yield add("synth", "folder", "--image-count", "1", value=last, suffix="/", inputs=())
    train = ("DATA", "--images", "PHOTOS", "--val", "VAL")
    yield add("train", "out", *train, suffix="/", inputs=(*SHOW, "val"))
    yield add("train", "json", *train, "--out", "NEW", suffix=".json", inputs=(*SHOW, "val"))
    add_class = ("MODEL", *DATA)
    inputs = ("model", *SHOW)
    yield add("add-class", "out", *add_class, suffix="/", inputs=inputs)
    yield add("add-class", "json", *add_class, "--out", "NEW", suffix=".json", inputs=inputs)
    pictures = {"json": ".json", "sheet": ".png", "reliability": ".png"}
    for option, suffix in pictures.items():
        others = tuple((name, end) for name, end in pictures.items() if name != option)
        yield add("evaluate", option, *EVALUATE, suffix=suffix, inputs=READ, others=others)
    yield add(
        *("import-weights", "out", "torchvision", "WEIGHTS", "--categories", "DATA"),
        value=lambda path: (str(path),), suffix=".safetensors", inputs=("weights",),
    )  # fmt: skip
    written = {"out": ".json", "json": ".json", "sheet": ".png"}
    for option, suffix in written.items():
        others = tuple((name, end) for name, end in written.items() if name != option)
        fixed = () if option == "out" else ("--out", "NEW.json")
        yield add(
            *("complete", option, "MODEL", *DATA, *fixed), suffix=suffix, inputs=("model", *SHOW),
            others=tuple(one for one in others if one[0] != "out" or option == "out"),
        )  # fmt: skip
    for option in ("out", "journal"):
        other = "journal" if option == "out" else "out"
        yield add(
            *("review", option, "DATA", "MODEL", "--images", "PHOTOS", "--export"),
            suffix=".json", inputs=("model", *SHOW), others=((other, ".json"),),
        )  # fmt: skip
    boxes = ("MODEL", "PHOTOS", "--data", "DATA")
    yield add("predict", "out", *boxes, suffix="/", inputs=("model", *SHOW), attacks=NEW)
    int8 = ("MODEL", "--precision", "int8", "--calibrate", "PHOTOS", "--data", "DATA")
    yield add("export", "out", *int8, suffix="/", inputs=("model", *SHOW))
    yield add("demo", "out", suffix="/", inputs=())


CASES = {f"{case.verb} {case.option}": case for case in _cases()}


class World:
    """Inputs in a folder, and a place for outputs beside it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.root, self.out = folder, folder / "out"
        self.data, self.photos, self.foreign = folder / "in.json", folder / "photos", folder / "my"
        for one in (self.photos, self.out, self.foreign):
            one.mkdir()
        Image.new("RGB", (32, 32), 90).save(self.photos / "1.png")
        box = {"image_id": 1, "bbox": [2, 2, 20, 20], "iscrowd": 0, "area": 400}
        mask = {"segmentation": [[2, 2, 22, 12, 2, 22]]}
        document = {
            "images": [{"id": 1, "file_name": "1.png", "width": 32, "height": 32}],
            "annotations": [
                {"id": 1, "category_id": 1, **box, **mask},
                {"id": 2, "category_id": 2, **box},
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        self.data.write_text(json.dumps(document))
        self.val, self.results = folder / "val.json", folder / "results.json"
        shutil.copy(self.data, self.val)
        row = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 20, 20], "score": 0.9}
        self.results.write_text(json.dumps([row]))
        self.weights, self.model = folder / "w.safetensors", folder / "model.safetensors"
        self.weights.write_bytes(b"weights")
        shutil.copy(model, self.model)
        (self.foreign / "thesis.txt").write_text("three years")
        (self.foreign / "other.json").write_text('{"shapes": [], "version": "5.0"}')
        Image.new("RGB", (8, 8)).save(self.foreign / "holiday.png")

    def arguments(self, given: tuple[str, ...]) -> list[str]:
        named = {
            "DATA": self.data,
            "PHOTOS": self.photos,
            "VAL": self.val,
            "RESULTS": self.results,
            "MODEL": self.model,
            "WEIGHTS": self.weights,
            "NEW": self.out / "new",
            "NEW.json": self.out / "new.json",
        }
        return [str(named.get(word, word)) for word in given]

    def tree(self) -> dict[str, str]:
        """Every file, link and folder, with a digest of what is in it."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            what = f"{status.st_mode} {status.st_nlink}"
            if path.is_symlink():
                what += f" {path.readlink()}"
            elif path.is_file():
                what += hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(self.root))] = what
        return found


def _name(case: Case, stem: str = "o") -> str:
    return stem if case.suffix == "/" else stem + case.suffix


def _inputs(case: Case, world: World) -> Iterator[tuple[str, Path]]:
    """Each input itself, in another spelling, by a link, and by a hard link."""
    for name in case.inputs:
        path: Path = getattr(world, name)
        yield f"{name}", path
        yield f"{name} spelled", path.parent / "photos" / ".." / path.name
        link = world.out / _name(case, f"link_{name}")
        link.symlink_to(path)
        yield f"{name} by link", link
        if path.is_file() and case.suffix != "/":
            hard = world.out / _name(case, f"hard_{name}")
            os.link(path, hard)
            yield f"{name} by hard link", hard
            part = world.out / f".{_name(case, f'part_{name}')}.part"
            os.link(path, part)
            yield f"{name} as part", world.out / _name(case, f"part_{name}")


def _places(case: Case, world: World) -> Iterator[tuple[str, Path]]:
    """Photographs, links, pipes, devices, folders and files of others."""
    yield "photograph", world.photos / "1.png"
    if "photos" in case.inputs:
        new = _name(case, "new")
        yield "among the photographs", world.photos / new
    for name, target in (("file", "thesis.txt"), ("nothing", "new"), ("folder", "")):
        link = world.out / _name(case, f"to_{name}")
        link.symlink_to(world.foreign / target)
        yield f"link to a {name}", link
    pipe = world.out / _name(case, "pipe")
    os.mkfifo(pipe)
    yield "pipe", pipe
    yield "device", Path("/dev/null")
    if case.suffix == "/":
        yield "file in place of a folder", world.foreign / "thesis.txt"
        if "foreign" not in case.attacks and case.verb != "synth":
            yield "folder of others", world.foreign
        return
    folder = world.out / _name(case, "folder")
    folder.mkdir()
    yield "folder in place of a file", folder
    for name in ("thesis.txt", "other.json", "holiday.png"):
        copy = world.out / _name(case, name.replace(".", "_"))
        shutil.copy(world.foreign / name, copy)
        yield f"foreign {name}", copy


@pytest.mark.parametrize("name", CASES)
def test_an_output_never_takes_the_place_of_anything_else(
    name: str, tmp_path: Path, tiny_segmenter: Path, halfmask_cli: RunsHalfmask
) -> None:
    case, world = CASES[name], World(tmp_path, tiny_segmenter)
    _takes_nothing(case, world, [*_inputs(case, world), *_places(case, world)], halfmask_cli)


def _takes_nothing(
    case: Case, world: World, places: list[tuple[str, Path]], run: RunsHalfmask
) -> None:
    before, passed = world.tree(), []
    for what, path in places:
        done = run(
            case.verb, *world.arguments(case.given), *_required(case, world), *case.value(path)
        )
        refused = done.code == 2 and len(done.errors) == 1 and WHY.search(done.errors[0])
        if not refused or world.tree() != before:
            passed.append(f"{what}: {path}: {done.code} {done.err}")
            before = world.tree()
    assert passed == []


def _required(case: Case, world: World) -> list[str]:
    """What else a verb must be given."""
    if case.verb == "review" and case.option == "out":
        journal = world.root / "journal.jsonl"
        return ["--journal", str(journal)] if journal.exists() else []
    return []


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.others])
def test_two_outputs_are_never_one(
    name: str, tmp_path: Path, tiny_segmenter: Path, halfmask_cli: RunsHalfmask
) -> None:
    """The same name, another spelling, and other letters on a disk that ignores case."""
    case, world = CASES[name], World(tmp_path, tiny_segmenter)
    before = world.tree()
    for other, end in case.others:
        end = ".png" if case.suffix == ".png" else end
        for own, theirs in (("a", "a"), ("a", "../out/a"), ("a", "A"), ("é", "e\u0301")):
            path, same = (world.out / f"{stem}{end}" for stem in (own, theirs))
            arguments = [*world.arguments(case.given), *case.value(path), f"--{other}", str(same)]
            done = halfmask_cli(case.verb, *arguments)
            assert done.code == 2, (other, same)
            assert "name the same file" in done.line
            assert world.tree() == before


def _path_options() -> set[tuple[str, str]]:
    found = set()
    for verb, module in VERBS.items():
        run = import_module(module).run
        for option, kind in typing.get_type_hints(run, vars(import_module(module))).items():
            if "Path" in str(kind) and option != "return":
                found.add((verb, option))
    return found


def test_every_path_option_is_in_a_table() -> None:
    """A new one must say whether it is read or written, and is then attacked above."""
    written = {(case.verb, case.option) for case in CASES.values()}
    assert _path_options() == INPUTS | written
    assert not INPUTS & written


def test_models_and_recipes_are_the_only_inputs_that_are_no_path_options() -> None:
    for verb, module in VERBS.items():
        hints = typing.get_type_hints(import_module(module).run)
        named = {option for option in hints if option in MODELS}
        assert all("str" in str(hints[option]) for option in named), verb


# What is asked for, and must stay possible.
@pytest.mark.slow
def test_a_command_may_be_run_again(
    tmp_path: Path, tiny_segmenter: Path, halfmask_cli: RunsHalfmask
) -> None:
    world, out = World(tmp_path, tiny_segmenter), tmp_path / "out"
    data, photos, model = str(world.data), ["--images", str(world.photos)], str(world.model)
    commands = [
        ["doctor", data, *photos, "--json", out / "d.json", "--html", out / "d.html"],
        ["audit", data, *photos, "--model", model, "--json", out / "a.json"],
        ["audit", data, *photos, "--model", model, "--html", out / "a.html"],
        ["convert", "to-coco", data, out / "c.json", "--json", out / "report.json"],
        ["convert", "to-cvat", data, out / "c.xml"],
        ["split", data, "--masked", "cat", "--out", out / "s.json"],
        ["tighten", data, "--out", out / "t.json", "--json", out / "tight.json"],
        ["index", data, "--folder", out],
        ["synth", out / "world", "--image-count", "1"],
        ["complete", model, data, *photos, "--out", out / "f.json", "--json", out / "f2.json"],
        ["complete", model, data, *photos, "--out", out / "f.json", "--sheet", out / "f.png"],
        ["complete", model, data, *photos, "--out", out / "f.xml", "--out-format", "cvat"],
        ["predict", model, world.photos, "--data", data, "--out", out / "p"],
        ["evaluate", model, data, *photos, "--json", out / "e.json", "--sheet", out / "e.png"],
        ["evaluate", model, data, *photos, "--reliability", out / "r.svg"],
    ]
    for command in commands:
        for _ in range(2):
            done = halfmask_cli(*command)
            assert done.code in (0, 1), done.err
            assert done.errors == []
    for kind in ("png", "jpg", "svg", "pdf"):
        for _ in range(2):
            done = halfmask_cli(*commands[-1][:-1], out / f"r.{kind}")
            assert done.code == 0, done.err


def test_an_output_may_stand_beside_the_photographs(
    tmp_path: Path, tiny_segmenter: Path, halfmask_cli: RunsHalfmask
) -> None:
    """A folder with annotations and images/; and one that holds both without a folder."""
    world = World(tmp_path, tiny_segmenter)
    (tmp_path / "set" / "images").mkdir(parents=True)
    document = json.loads(world.data.read_text())
    document["images"][0]["file_name"] = "images/1.png"
    data = tmp_path / "set" / "labels.json"
    data.write_text(json.dumps(document))
    shutil.copy(world.photos / "1.png", tmp_path / "set" / "images")
    whole = ("--images", data.parent)
    filled = ("complete", world.model, data, *whole, "--out")
    assert halfmask_cli(*filled, data.parent / "filled.json").code == 0
    assert "among" in halfmask_cli(*filled, data.parent / "images" / "filled.json").line
    report = halfmask_cli("doctor", data, *whole, "--json", data.parent / "report.json")
    assert (report.code, report.errors) == (1, [])
    mixed = world.photos / "labels.json"
    shutil.copy(world.data, mixed)
    beside = ("complete", world.model, mixed, "--images", world.photos, "--out")
    assert halfmask_cli(*beside, world.photos / "filled.json").code == 0
    sheet = halfmask_cli(*beside, tmp_path / "f.json", "--sheet", world.photos / "sheet.png")
    assert "among the photographs" in sheet.line


def test_the_photographs_of_a_data_set_that_names_them_are_guarded_too(
    tmp_path: Path, tiny_segmenter: Path, halfmask_cli: RunsHalfmask
) -> None:
    world = World(tmp_path, tiny_segmenter)
    yolo = tmp_path / "yolo"
    assert halfmask_cli("convert", "to-yolo", world.data, yolo, "--images", world.photos).code == 0
    images = next(path.parent for path in yolo.rglob("1.png"))
    before = world.tree()
    for command in (
        ["doctor", yolo, "--json", images / "r.json"],
        ["complete", world.model, yolo, "--out", images / "o.json", "--out-format", "coco"],
        ["complete", world.model, yolo, "--out", tmp_path / "o", "--sheet", images / "s.png"],
        ["split", yolo, "--masked", "cat", "--out", images / "s.json"],
        ["evaluate", world.model, yolo, "--reliability", images / "p.png"],
        ["train", yolo, "--out", images / "run"],
        ["convert", "yolo", yolo, yolo / "data.yaml"],
        ["convert", "yolo", yolo, images / "new.json"],
    ):
        done = halfmask_cli(*command)
        assert done.code == 2, command
        assert world.tree() == before, command
    assert halfmask_cli("convert", "yolo", yolo, yolo / "train.json").code == 0
    assert halfmask_cli("convert", "yolo", yolo, yolo / "train.json").code == 0


def test_what_a_recipe_reads_is_no_output(tmp_path: Path, tiny_segmenter: Path) -> None:
    world = World(tmp_path, tiny_segmenter)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: tiny\nmodel: {kind: box_segmenter, encoder: {name: small_resnet}}\n"
        f"data: {{annotations: {world.data}, images: {world.photos}}}\n"
        "stages: [{name: a, train: [all], loss: masks, steps: 1, batch_size: 1,"
        " optimiser: {lr: 0.01}}]\n"
    )
    before = world.tree()
    for where in ({"out": world.photos / "run"}, {"out": tmp_path / "run", "json": world.data}):
        with pytest.raises(InputError, match=r"among the photographs|found another file"):
            halfmask.train(recipe, **where)
    with pytest.raises(InputError, match="name the same file"):
        halfmask.train(recipe, out=tmp_path / "r", json=tmp_path / "r" / "model.safetensors")
    assert world.tree() == before


def test_a_file_of_ours_is_told_from_one_of_others(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "o.png", tmp_path / "t.png"
    save_marked(Image.new("RGB", (4, 4)), ours)
    Image.new("RGB", (4, 4)).save(theirs)
    guard([Output(ours, "--sheet", PICTURE)], inputs=[])
    with pytest.raises(InputError, match="found another file"):
        guard([Output(theirs, "--sheet", PICTURE)], inputs=[])
    large = tmp_path / "large.json"
    rows = ",".join(['{"id": 1, "file_name": "x.jpg"}'] * 600_000)
    large.write_text(f'{{"info": {{}}, "images": [{rows}], "annotations": []}}')
    guard([Output(large, "--out", COCO)], inputs=[])
    large.write_text(f'{{"items": [{rows}]}}')
    with pytest.raises(InputError, match="found another file"):
        guard([Output(large, "--out", COCO)], inputs=[])
