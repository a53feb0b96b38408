"""The house stands: imports run down only, heavy libraries wait until a verb needs them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "halfmask"

# A room may import the rooms of the floors below its own, and itself.
FLOORS: list[set[str]] = [
    {"_version", "errors"},
    {"files", "masks", "structures", "recipes", "distributed", "progress", "text"},
    {"coco"},
    {"formats"},
    {"models", "data"},
    {"evaluation", "pictures", "inference", "web"},
    {"training"},
    {"integrations"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
SAME_FLOOR_ALLOWED = {
    ("structures", "masks"),
    ("masks", "structures"),
    ("web", "inference"),
    ("evaluation", "inference"),
    ("evaluation", "pictures"),
    ("pictures", "evaluation"),
}
# inference serves any model, and needs no training data.
FORBIDDEN = {
    ("inference", "data"),
    ("inference", "training"),
    ("pictures", "models"),
    ("pictures", "data"),
    ("web", "models"),
    ("web", "data"),
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("halfmask.")}
    return {room if room in FLOOR else "__init__" for room in rooms}


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_down(path: Path) -> None:
    room = room_of(path)
    assert room in FLOOR, (
        f"{path}: a room that the house does not know; add it to FLOORS on purpose"
    )
    for other in imported_rooms(path) - {room, "__init__"}:
        below = FLOOR[other] < FLOOR[room] or (room, other) in SAME_FLOOR_ALLOWED
        assert below, f"{path} imports {other}, which does not lie below {room}"
        assert (room, other) not in FORBIDDEN, f"{path}: {room} does not import {other}"


HEAVY = {
    "torch",
    "torchvision",
    "lightning",
    "numpy",
    "matplotlib",
    "PIL",
    "hotcoco",
    "scipy",
    "tensorboard",
    "pyarrow",
}


@pytest.mark.parametrize("verb", ["", "complete", "doctor", "train"])
def test_help_imports_nothing_heavy(verb: str) -> None:
    """Start-up is guarded by what is loaded, not by seconds: whoever asks for help
    waits for none of these.
    """
    code = f"""
import sys
sys.argv = ["halfmask", *{verb.split()!r}, "--help"]
from halfmask.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", sorted(set(sys.modules) & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "LOADED []"


def test_the_face_imports_nothing_heavy() -> None:
    code = "import sys, halfmask; assert halfmask.__version__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
