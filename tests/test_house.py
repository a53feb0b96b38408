"""The rules of the house, measured from the syntax trees of the package."""

from __future__ import annotations

import ast
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "halfmask"
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({path.parent for path in FILES})

FLOORS: list[set[str]] = [
    {"_version", "errors", "text"},
    {"files", "masks", "recipes", "distributed", "progress", "terminal"},
    {"structures"},
    {"coco"},
    {"formats"},
    {"datasets"},
    {"models", "data"},
    {"pictures"},
    {"inference"},
    {"evaluation"},
    {"training"},
    {"labelling"},
    {"web"},
    {"integrations"},
    {"cli"},
    {"__main__"},
]
"""A room imports the rooms of the floors below its own, and itself."""
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
SAME_FLOOR = {
    ("recipes", "files"),
    ("files", "masks"),
    ("progress", "terminal"),
    ("_version", "errors"),
    ("text", "errors"),
}
APART = [
    ("halfmask.models", "halfmask.data"),
    ("halfmask.models", "halfmask.training"),
    ("halfmask.pictures", "halfmask.models"),
    ("halfmask.pictures", "halfmask.data"),
    ("halfmask.inference", "halfmask.data"),
    ("halfmask.evaluation.measures", "halfmask.models"),
    ("halfmask.evaluation.measures", "halfmask.data"),
    ("halfmask.training.loop", "halfmask.models"),
    ("halfmask.training.loop", "halfmask.data"),
    ("halfmask.web", "halfmask.data"),
    ("halfmask.web", "halfmask.training"),
]
"""The first does not import the second, though it stands above it."""

DOOR = "a verb: its options and one call"
SHORT = {
    "datasets/opening.py": "verbs that write open a data set alike",
    "cli/shared/reading.py": "every verb that opens a data set prints alike",
    "cli/split.py": DOOR,
    "cli/synth.py": DOOR,
    "errors.py": "every room raises these errors",
    "text.py": "the one home of shortened lists",
    "web/tryout.py": "the twin of serve; its application is a file of its own",
}
"""Files under 60 lines, and why."""
LONG_FUNCTIONS: dict[str, str] = {}
"""Functions of more than 40 lines outside cli/, and why."""
TWIN = "the twin of a verb: its options"
PARTS = "the parts of a network, which a builder makes"
MANY_ARGUMENTS = {
    "evaluation/measures/metrics.py:compute_metrics": "the measures of evaluate: its options",
    "evaluation/run.py:evaluate": TWIN,
    "formats/convert.py:convert": TWIN,
    "labelling/audit/audit.py:audit": TWIN,
    "labelling/complete.py:complete": TWIN,
    "inference/predict.py:predict": TWIN,
    "integrations/label_studio.py:serve_backend": "a command line of its own: its options",
    "models/box_segmenter/model.py:__init__": PARTS,
    "models/imported/import_weights.py:import_weights": TWIN,
    "models/mask_rcnn/mask_branch.py:__init__": PARTS,
    "models/mask_rcnn/model.py:__init__": PARTS,
    "pictures/overlay.py:overlay": "the columns of its objects, and how they look",
    "training/add_class/add_class.py:add_class": TWIN,
    "training/train.py:train": TWIN,
    "web/review/serve.py:review": TWIN,
    "web/tryout.py:serve": TWIN,
}
"""Functions of more than eight arguments outside cli/, and why."""
ROW = "takes a row of a zip"
POSITIONAL = {
    "data/augment/paste.py:paste": "takes a cut-out, which is two tensors, then where it goes",
    "masks/crops.py:_pair_iou": "takes two crops, each a bitmap and its place",
    "models/box_segmenter/model.py:_detection": ROW,
    "models/fixed/baselines.py:_one": "takes the coordinates of a box",
    "models/mask_rcnn/detections.py:_of_image": ROW,
    "models/mask_rcnn/model.py:_detection": ROW,
    "web/schema/base.py:xywh": "takes the coordinates of a box",
    "web/segmenting.py:_drawn": ROW,
}
"""Functions of more than three positional arguments, and why."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def for_types_only(tree: ast.Module) -> set[ast.AST]:
    """Nodes below `if TYPE_CHECKING:`, which are never run."""
    blocks = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    return {node for block in blocks for node in ast.walk(block)}


def targets_of(node: ast.AST) -> set[str]:
    """Modules of the package that an import statement loads."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name in MODULES}
    if not isinstance(node, ast.ImportFrom) or node.module is None:
        return set()
    assert node.level == 0, "relative import"
    names = {f"{node.module}.{alias.name}" for alias in node.names}
    submodules = names & MODULES.keys()
    whole = {node.module} if node.module in MODULES and submodules != names else set()
    return submodules | whole


def imports_of(path: Path) -> Iterator[tuple[ast.AST, set[str]]]:
    tree = tree_of(path)
    unused = for_types_only(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node not in unused:
            found = targets_of(node)
            if found:
                yield node, found


@cache
def graph() -> dict[str, set[str]]:
    return {
        module: set().union(*(found for _, found in imports_of(path))) - {module}
        for module, path in MODULES.items()
    }


def functions() -> Iterator[tuple[Path, str, Function]]:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, Function):
                yield path, f"{path.relative_to(PACKAGE)}:{node.name}", node


def circles_of(edges: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components of more than one module."""
    reach: dict[str, set[str]] = {}
    for start in edges:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for other in edges.get(stack.pop(), set()) - seen:
                seen.add(other)
                stack.append(other)
        reach[start] = seen
    found = {frozenset({b for b in reach[a] if a in reach[b]}) for a in edges if a in reach[a]}
    return [set(circle) for circle in found]


# 1. Imports run down, and in no circle.
def test_no_circle_between_files() -> None:
    assert circles_of(graph()) == []


def test_a_circle_is_found() -> None:
    assert circles_of({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("room", sorted({room_of(module) for module in MODULES}))
def test_imports_run_down(room: str) -> None:
    """Rooms stand on floors; `halfmask/__init__.py` imports nothing before it is asked."""
    if room == "__init__":
        assert graph()["halfmask"] <= {"halfmask._version", "halfmask.errors"}
        return
    assert room in FLOOR, f"{room}: add this room to FLOORS on purpose"
    up = {
        f"{module} imports {other}"
        for module, others in graph().items()
        if room_of(module) == room
        for other in others
        if other != "halfmask"
        and room_of(other) != room
        and FLOOR[room_of(other)] >= FLOOR[room]
        and (room, room_of(other)) not in SAME_FLOOR
    }
    assert not up


@pytest.mark.parametrize(("one", "other"), APART)
def test_rooms_that_stand_apart(one: str, other: str) -> None:
    found = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in targets
        if f"{module}.".startswith(f"{one}.") and f"{target}.".startswith(f"{other}.")
    ]
    assert not found


def test_the_package_does_not_import_its_benchmarks_or_tests() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(n.split(".")[0] in ("benchmarks", "tests", "tools") for n in names), path


# 2. Folders and files of a size that one can hold in mind.
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_folder_has_at_most_fifteen_files(folder: Path) -> None:
    assert len([p for p in folder.glob("*.py") if p.name != "__init__.py"]) <= 15


def test_files_have_60_to_300_lines() -> None:
    lines = {
        str(p.relative_to(PACKAGE)): p.read_text(encoding="utf-8").count("\n")
        for p in FILES
        if p.name not in ("__init__.py", "__main__.py", "_version.py")
    }
    assert {name: n for name, n in lines.items() if n > 300} == {}
    assert {name: n for name, n in lines.items() if n < 60 and name not in SHORT} == {}
    assert [name for name in SHORT if lines.get(name, 60) >= 60] == []


def test_the_package_has_at_most_420_files() -> None:
    """Twelve formats to read take some sixty of them."""
    assert len([p for p in FILES if p.name != "__init__.py"]) <= 420


# 3. Thin doors.
def body_lines(function: Function) -> int:
    first = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return 0 if not first else function.end_lineno - first[0].lineno + 1  # type: ignore[operator]


def test_a_verb_is_a_thin_door() -> None:
    from halfmask.cli.main import VERBS

    for module in VERBS.values():
        [run] = [
            n for n in tree_of(MODULES[module]).body if isinstance(n, Function) and n.name == "run"
        ]
        assert body_lines(run) <= 15, module


def test_only_the_command_line_prints() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in FILES
        if "cli" not in path.parts
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert found == []


# 4. Imports stand at the top of a file.
def test_few_imports_inside_functions() -> None:
    inner = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in FILES
        for node, _ in imports_of(path)
        if node not in tree_of(path).body
    ]
    assert len(inner) <= 25, inner


# 5. and 6. One name, one home.
def test_a_public_name_exists_once() -> None:
    verbs = {"run", "main"}
    homes = defaultdict(list)
    for path in FILES:
        for node in tree_of(path).body:
            if isinstance(node, (ast.ClassDef, *Function.__args__)) and node.name[0] != "_":
                homes[node.name].append(str(path.relative_to(PACKAGE)))
    twice = {n: where for n, where in homes.items() if len(where) > 1 and n not in verbs}
    assert twice == {}


@pytest.mark.parametrize(
    ("what", "pattern", "home"),
    [
        (
            "a file is replaced atomically",
            r"\bos\.replace\(|\.replace\(target|\.rename\(",
            "files/",
        ),
        ("a file is locked", r"\bfcntl\.|\bmsvcrt\.", "files/"),
        ("a list is shortened", r"and \{[^}]*\} more\b", "text.py"),
        ("a figure is saved", r"\.savefig\(", "pictures/save.py"),
        (
            "run lengths are encoded or decoded",
            r"frPyObjects\(|\b(rle_)?library\.(en|de)code\(",
            "masks/",
        ),
        ("a bar is drawn", r"rich(\.| import )progress|bars\.Progress\(", "progress.py"),
    ],
)
def test_one_home_each(what: str, pattern: str, home: str) -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        if re.search(pattern, path.read_text(encoding="utf-8"))
    }
    assert found, f"{what}: the pattern finds nothing any more"
    assert not {name for name in found if not name.startswith(home)}, what


# 7. Arguments have names.
def positional(function: Function) -> int:
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


HOOKS = re.compile(
    r"^(forward|__\w+__|on_\w+|\w+_hook|emit|convert|handle\w*|transfer_batch_to_device)$"
)
"""Called by frameworks, or by position in the manner of torch."""


def test_more_than_three_arguments_are_keywords() -> None:
    many = [
        name
        for path, name, node in functions()
        if "cli" not in path.parts and positional(node) > 3 and not HOOKS.match(node.name)
    ]
    assert sorted(many) == sorted(POSITIONAL)


def test_large_data_classes_take_keywords() -> None:
    found = []
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ClassDef):
                continue
            made = [ast.unparse(d) for d in node.decorator_list if "dataclass" in ast.unparse(d)]
            fields = [
                n
                for n in node.body
                if isinstance(n, ast.AnnAssign) and "ClassVar" not in ast.unparse(n)
            ]
            if made and len(fields) > 4 and "kw_only=True" not in made[0]:
                found.append(f"{path.relative_to(PACKAGE)}:{node.name}")
    assert found == []


# 8. Functions that do something, in a size that one sees at once.
def test_functions_have_at_most_40_lines_and_8_arguments() -> None:
    long, many = [], []
    for path, name, node in functions():
        if "cli" in path.parts:
            continue
        if node.end_lineno - node.lineno + 1 > 40 and body_lines(node) > 40:  # type: ignore[operator]
            long.append(name)
        if len(node.args.args) + len(node.args.kwonlyargs) > 8:
            many.append(name)
    assert [name for name in long if name not in LONG_FUNCTIONS] == []
    assert [name for name in many if name not in MANY_ARGUMENTS] == []
    assert sorted({*LONG_FUNCTIONS} - {*long}) == sorted({*MANY_ARGUMENTS} - {*many}) == []


def only_renames(function: Function) -> bool:
    """Whether a function hands its own arguments on, in their order, and does nothing else."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if (
        len(body) != 1
        or not isinstance(body[0], ast.Return)
        or not isinstance(body[0].value, ast.Call)
    ):
        return False
    call, own = body[0].value, [a.arg for a in (*function.args.args, *function.args.kwonlyargs)]
    given = [a.id if isinstance(a, ast.Name) else "?" for a in call.args]
    given += [k.value.id if isinstance(k.value, ast.Name) else "?" for k in call.keywords]
    is_rename = isinstance(call.func, ast.Name) and call.func.id != "asdict"  # it converts
    return is_rename and given == own and bool(own)


def test_no_function_only_renames_another() -> None:
    found = [
        name for _, name, node in functions() if only_renames(node) and not node.decorator_list
    ]
    assert found == []


# 9. Width, and docstrings that begin with a sentence.
def prose_lines(path: Path) -> Iterator[int]:
    """Numbers of the lines that are a comment or part of a docstring."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
                yield token.start[0]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_width(folder: Path) -> None:
    """Code 100 columns (ruff holds it too), prose 88; a one-line docstring may use its line."""
    wide = []
    for path in folder.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        prose = set(prose_lines(path))
        for number, line in enumerate(lines, 1):
            one_line = line.lstrip().startswith('"""') and line.rstrip().endswith('"""')
            if len(line) > (88 if number in prose and not one_line else 100):
                wide.append(f"{path.name}:{number}")
    assert wide == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_docstring_begins_with_one_sentence(folder: Path) -> None:
    found = []
    for path in folder.glob("*.py"):
        tree = tree_of(path)
        for node in ast.walk(tree):
            if not isinstance(node, (ast.Module, ast.ClassDef, *Function.__args__)):
                continue
            text = ast.get_docstring(node)
            first = "" if text is None else text.split("\n")[0]
            if first and first[-1] not in ".:":
                found.append(f"{path.name}:{getattr(node, 'name', 'module')}")
    assert found == []
