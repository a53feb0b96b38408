"""What halfmask depends on has a licence that it may have, and nothing that it reads
can run as code.
"""

import ast
import importlib.util
import json
import os
import pickle
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
World = Any
RunsHalfmask = Callable[..., Any]


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    """tools/licences.py as a module."""
    spec = importlib.util.spec_from_file_location("licences", ROOT / "tools" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["licences"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packages(licences: ModuleType) -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, Any] = licences.closure(project)[0]
    return found


def test_every_dependency_is_permissive(licences: ModuleType, packages: dict[str, Any]) -> None:
    assert {"torch", "numpy", "pillow", "pyyaml"} <= packages.keys()
    assert len(packages) > 60, "all the way down"
    assert not licences.refused(packages.values())


@pytest.mark.parametrize(
    ("fields", "fine"),
    [
        ({"License-Expression": "MIT OR GPL-3.0-only"}, True),
        ({"License-Expression": "MIT AND (Apache-2.0 OR GPL-3.0-only)"}, True),
        ({"License-Expression": "MIT AND GPL-3.0-only"}, False),
        ({"License-Expression": "AGPL-3.0-or-later"}, False),
        ({"License": "GPLv3"}, False),
        ({"License": "CC BY-NC 4.0"}, False),
        ({"License": "BSD 3-Clause License"}, True),
        ({"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: MIT License"}, True),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}, False),
        ({"Classifier": "License :: Free for non-commercial use"}, False),
        ({}, False),
    ],
)
def test_what_is_refused(licences: ModuleType, fields: dict[str, str], fine: bool) -> None:
    from email.message import Message

    info = Message()
    for name, value in fields.items():
        info[name] = value
    licence = licences.licence_of(info)
    package = licences.Package(name="some", version="1", licence=licence, wanted_by={"core"})
    assert (licences.refused([package]) == []) == fine


@pytest.mark.skipif(sys.platform != "linux", reason="the page names what Linux installs")
def test_the_page_is_in_step(licences: ModuleType, packages: dict[str, Any]) -> None:
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    lines = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| ")]
    own = [licences.row(package).split(" | ")[:2] for package in packages.values()]
    assert [line for line in own if line not in lines] == [], "python tools/licences.py --write"
    for name, reason in licences.SIGNED_OFF.items():
        assert f"**{name}**: {reason}" in text


def test_the_bill_of_materials(licences: ModuleType, packages: dict[str, Any]) -> None:
    document = json.loads(json.dumps(licences.sbom(packages, "1.2.3")))
    assert document["bomFormat"] == "CycloneDX"
    assert document["specVersion"] == "1.5"
    assert document["metadata"]["component"]["purl"] == "pkg:pypi/halfmask@1.2.3"
    references = [c["bom-ref"] for c in document["components"]]
    assert len(references) == len(set(references)) == len(packages)
    assert all(
        c["type"] and c["name"] and c["version"] and c["licenses"] for c in document["components"]
    )
    known = {*references, document["metadata"]["component"]["bom-ref"]}
    assert {entry["ref"] for entry in document["dependencies"]} == known
    assert all(set(entry["dependsOn"]) <= known for entry in document["dependencies"])


DANGEROUS = {
    *(
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "dill.load",
        "marshal.loads",
        "shelve.open",
        "joblib.load",
    ),
    *(
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "yaml.load_all",
        "eval",
        "exec",
        "os.system",
        "os.popen",
    ),
}


def dangers(source: str) -> list[str]:
    """Calls that run what they read: `line: name`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        guarded = options.get("weights_only") == "True"
        if (
            name in DANGEROUS
            or (name == "torch.load" and not guarded)
            or options.get("shell") == "True"
        ):
            found.append(f"{node.lineno}: {name}")
        if name in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False":
            found.append(f"{node.lineno}: {name} with allow_pickle")
    return found


def test_the_search_finds_what_it_should() -> None:
    bad = [
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "pickle.loads(b)",
        "yaml.load(t)",
        "eval(t)",
    ]
    bad += ["np.load(p, allow_pickle=True)", "subprocess.run(c, shell=True)"]
    assert all(dangers(line) for line in bad)
    fine = [
        "torch.load(p, weights_only=True)",
        "yaml.safe_load(t)",
        "model.eval()",
        "np.load(p, allow_pickle=False)",
    ]
    assert not any(dangers(line) for line in fine)


def test_nothing_that_is_read_can_run() -> None:
    sources = list((ROOT / "halfmask").rglob("*.py"))
    assert len(sources) > 100
    found = [
        f"{p.relative_to(ROOT)}:{d}"
        for p in sources
        for d in dangers(p.read_text(encoding="utf-8"))
    ]
    assert not found
    unpicklers = [p.name for p in sources if "pickle._Unpickler" in p.read_text(encoding="utf-8")]
    assert unpicklers == ["blobs.py"], (
        "the one reader of pickles looks up no name (tests/imported/test_blobs.py)"
    )


class Sly:
    """As a pickle: makes the file `ran` when it is read."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.ran}",)


def plain(path: Path, sly: Sly) -> None:
    path.write_bytes(pickle.dumps({"model": sly}, 2))


def zipped(path: Path, sly: Sly) -> None:
    torch.save({"halfmask_resume": 1, "model": sly}, path)


@pytest.mark.parametrize("write", [plain, zipped])
def test_weights_and_resume_points_that_attack(
    world: World, tmp_path: Path, halfmask_cli: RunsHalfmask, write: Callable[[Path, Sly], None]
) -> None:
    ran, run = tmp_path / "ran", tmp_path / "run"
    sly = Sly(ran)
    for kind, name in (
        ("detectron", "model.pkl"),
        ("torchvision", "model.pth"),
        ("torchvision", "model.safetensors"),
    ):
        write(tmp_path / name, sly)
        done = halfmask_cli("import-weights", kind, tmp_path / name, tmp_path / "out.safetensors")
        assert done.code == 2, name
        assert len(done.errors) == 1
        assert not ran.exists(), name
        assert not (tmp_path / "out.safetensors").exists()
    done = halfmask_cli(
        "complete",
        tmp_path / "model.safetensors",
        world.data,
        "--images",
        world.photos,
        "--out",
        run,
    )
    assert done.code == 2
    from halfmask.recipes.recipe import load_recipe

    run.mkdir()
    (run / "recipe.yaml").write_text(load_recipe(str(world.recipe), None).to_yaml())
    write(run / "resume.ckpt", sly)
    done = halfmask_cli("train", world.recipe, "--out", run, "--resume")
    assert done.code == 2
    assert "no resume point of halfmask" in done.errors[0]
    assert not ran.exists()
    torch.load(run / "resume.ckpt", weights_only=False) if write is zipped else pickle.loads(
        (run / "resume.ckpt").read_bytes()
    )
    assert ran.exists(), "the file does attack a reader that trusts it"


def test_a_recipe_that_attacks(tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "recipe.yaml").write_text(
        f"name: !!python/object/apply:os.system ['touch {ran}']\n"
    )
    done = halfmask_cli("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert done.code == 2
    assert len(done.errors) == 1
    assert not ran.exists()
