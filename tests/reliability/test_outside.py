"""Verbs write their outputs and nothing else: no cache, no device id, no file beside the data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from halfmask.pictures.save import _own_folder, new_figure

ROOT = Path(__file__).parents[2]

RUN = """
import json, sys
from halfmask.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["halfmask", *arguments]
    try:
        main()
    except SystemExit as ended:
        if ended.code not in (0, 1, None):
            sys.exit(f"{arguments}: {ended.code}")
"""
DATA = "data/in.json"
IMAGES = ("--images", "data/images")
LIGHT = [
    ["doctor", DATA, *IMAGES, "--json", "out/d.json", "--html", "out/d.html"],
    ["convert", "to-yolo", DATA, "out/yolo"],
    ["split", DATA, "--masked", "x", "--out", "out/split.json"],
    ["tighten", DATA, "--out", "out/tight.json"],
    ["synth", "out/world", "--image-count", "2", "--class-count", "4"],
]
HEAVY = [
    ["complete", "box-segmenter", DATA, *IMAGES, "--out", "out/c.json", "--sheet", "out/c.png"],
    ["predict", "box-segmenter", "data/images", "--data", DATA, "--out", "out/p", "--overlays"],
    [
        *("evaluate", "box-segmenter", DATA, *IMAGES, "--given-boxes"),
        *("--reliability", "out/r.png", "--json", "out/e.json"),
    ],
    ["export", "box-segmenter", "--out", "out/graph"],
]


def data_set(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    images, rows = [], []
    for k in range(1, 4):
        Image.new("RGB", (64, 64), 40 * k).save(folder / "images" / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "width": 64, "height": 64})
        mask = [[5, 5, 40, 5, 40, 40, 22, 30, 5, 40]]
        row = {"image_id": k, "category_id": 1, "bbox": [5, 5, 35, 35], "iscrowd": 0}
        rows.append({"id": 2 * k, **row, "area": 1225, "segmentation": mask})
        rows.append({"id": 2 * k + 1, **row, "category_id": 2, "area": 1225})
    document = {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
    }
    (folder / "in.json").write_text(json.dumps(document))


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.relative_to(folder).parts[0] != "out"
    }


@pytest.mark.parametrize(
    "verbs", [LIGHT, pytest.param(HEAVY, marks=pytest.mark.slow)], ids=["light", "heavy"]
)
def test_verbs_write_nothing_outside_their_outputs(tmp_path: Path, verbs: list[list[str]]) -> None:
    data_set(tmp_path / "data")
    for name in ("home", "temporary", "out"):
        (tmp_path / name).mkdir()
    kept = {"PATH", "LD_LIBRARY_PATH", "LANG", "OMP_NUM_THREADS"}
    surroundings = {key: value for key, value in os.environ.items() if key in kept}
    surroundings |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    surroundings |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    before = tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(verbs)],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # PyTorch makes an empty folder for its compiler when some of its modules are imported.
    allowed = ("temporary/halfmask-", "temporary/torchinductor_")
    after = {k: v for k, v in tree(tmp_path).items() if not k.startswith(allowed)}
    assert sorted(after.items()) == sorted(before.items())


def test_training_writes_nothing_below_the_home_folder(tmp_path: Path) -> None:
    """Lightning imports matplotlib, which keeps a list of fonts."""
    (tmp_path / "home").mkdir()
    surroundings = {k: v for k, v in os.environ.items() if k not in ("MPLCONFIGDIR", "TMPDIR")}
    surroundings |= {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    code = "import halfmask.training.train, sys; assert 'matplotlib' in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=surroundings, check=True, timeout=300)
    assert list((tmp_path / "home").rglob("*")) == []


ASKS = "import halfmask, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"


@pytest.mark.parametrize(("own", "expected"), [(None, "1"), ("0", "0")])
def test_telemetry_of_onnxruntime_is_off_unless_the_user_says_otherwise(
    own: str | None, expected: str
) -> None:
    surroundings = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    surroundings |= {"PYTHONPATH": str(ROOT)} | ({"ORT_DISABLE_TELEMETRY": own} if own else {})
    done = subprocess.run(
        [sys.executable, "-c", ASKS], env=surroundings, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == expected


def test_matplotlib_keeps_its_fonts_in_a_folder_of_ours_that_nobody_else_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = _own_folder()
    assert (folder.parent, folder.stat().st_mode & 0o777) == (tmp_path, 0o700)
    assert _own_folder() == folder
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")  # a stranger's
    other = _own_folder()
    assert other != folder
    assert not other.is_symlink()
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "mine"))
    assert new_figure(figsize=(1, 1)).get_figwidth() == 1
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "mine")
