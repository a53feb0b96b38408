"""Every verb on a stranger's data folder: nothing outside its outputs changes.

The folder has links to the user's files under all names that halfmask writes, a picture
that would start Ghostscript, a pipe, a bomb, and odd names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.reliability.test_outside import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX"),
]

RUN = """
import contextlib, io, json, sys, time
started = []
def hook(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        started.append([event, repr(arguments[:1])])
sys.addaudithook(hook)
from halfmask.cli.main import main
from halfmask.web.server import PageServer
PageServer.run = lambda server: None
done = []
for arguments in json.loads(sys.argv[1]):
    sys.argv, begin, said = ["halfmask", *arguments], time.process_time(), io.StringIO()
    before, code = len(started), 0
    with contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException as error:
            code = repr(error)
    done.append([code, time.process_time() - begin, started[before:], said.getvalue()[-600:]])
# Not ru_maxrss, which begins with what the parent had when it started this process.
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print("DONE", json.dumps({"verbs": done, "peak": peak}))
"""

LINKS = {
    ".in.json.index.arrow.lock": "lock",
    "in.json.index.arrow": "index",
    "in.json.review.jsonl": "journal of a review",
    "in.reviewed.json": "reviewed",
    ".split.json.part": "part",
    ".tight.json.part": "part",
    ".coco.json.part": "part",
    ".yolo.part": "part folder",
    "linked.json.journal": "journal",
    "objects.json.objects.journal": "journal of objects",
    ".filled.json.part": "part",
    ".sheet.png.part": "part",
    ".graph2.part": "part folder",
    ".voc.part": "part folder",
    "found/overlays/1.jpg": "overlay",
    "found/results.json": "results",
    "found2/.results.json.part": "part",
    "run/model.safetensors": "model",
    "run/recipe.yaml": "recipe",
    "graph/segment.onnx": "graph",
    "world/images/000001.png": "picture of the world",
    "world2/images": "folder of pictures",
    "demo/.halfmask-demo.json": "mark of a demo",
    "e.json": "report",
}
"""Links in the stranger's folder; each leads to a file, or a folder, of the user."""
FOLDERS = {"part folder", "folder of pictures"}

IN, PHOTOS = "their/in.json", ("--images", "their/photos")
BOX = "box-segmenter"
VERBS: list[tuple[int, list[str]]] = [
    (1, ["doctor", IN, *PHOTOS]),
    (2, ["doctor", IN, *PHOTOS, "--json", "their/e.json"]),
    (0, ["split", IN, "--masked", "cat", "--out", "their/split.json"]),
    (0, ["tighten", IN, "--out", "their/tight.json"]),
    (2, ["index", IN]),
    (0, ["convert", "to-coco", IN, "their/coco.json"]),
    (2, ["convert", "to-yolo", IN, "their/yolo", *PHOTOS]),
    (2, ["synth", "their/world", "--image-count", "1"]),
    (2, ["synth", "their/world2", "--image-count", "1"]),
    (2, ["train", IN, *PHOTOS, "--out", "their/run"]),
    (2, ["evaluate", "baseline:box", IN, *PHOTOS]),
    (1, ["evaluate", "baseline:box", "their/plain.json", *PHOTOS, "--sheet", "their/sheet.png"]),
    (0, ["convert", "to-voc", "their/one.json", "their/voc", *PHOTOS]),
    (0, ["train", "their/plain.json", *PHOTOS, "--out", "their/run2", "--dry-run"]),
    (2, ["import-weights", "torchvision", "their/w.pth", "their/w.safetensors"]),
    (2, ["complete", BOX, IN, *PHOTOS, "--out", "their/linked.json"]),
    (2, ["complete", BOX, IN, *PHOTOS, "--out", "their/objects.json"]),
    (1, ["complete", BOX, IN, *PHOTOS, "--out", "their/filled.json"]),
    (2, ["review", IN, *PHOTOS]),
    (0, ["review", "their/filled.json", *PHOTOS]),
    (0, ["review", "their/filled.json", "--export"]),
    (2, ["predict", BOX, "their/photos", "--data", IN, "--out", "their/found"]),
    (1, ["predict", BOX, "their/photos", "--data", IN, "--out", "their/found2"]),
    (2, ["export", BOX, "--out", "their/graph"]),
    (0, ["export", BOX, "--out", "their/graph2"]),
    (2, ["demo", "--out", "their/demo"]),
    (0, ["serve", "baseline:box", "--port", "0"]),
]
"""Exit code and command."""
OF_LIBRARIES = re.compile("ldconfig|fc-list")
"""Programs that torch and matplotlib ask for libraries and fonts, once, on any data."""
OUTPUTS = {
    *("split.json", "tight.json", "coco.json", "yolo", "sheet.png", "filled.json", "found2"),
    *("graph2", "voc", "filled.json.review.jsonl", "filled.reviewed.json"),
}


def bomb(path: Path, side: int = 30_000) -> None:
    """A PNG of some kilobytes that says it has 900 million pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def stranger(root: Path) -> None:
    """Makes `their`, the stranger's folder, and `mine`, which its links lead to."""
    their, mine = root / "their", root / "mine"
    photos = their / "photos"
    photos.mkdir(parents=True)
    mine.mkdir()
    odd = ["-rf.png", "$(touch owned).png", "a\nb.png", "ü\u202egnp.png", "'; rm -rf .png"]
    for name in ["1.png", *odd]:
        Image.new("RGB", (64, 48), 120).save(photos / name)
    (photos / "eps.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\nshowpage\n")
    os.mkfifo(photos / "pipe.jpg")
    bomb(photos / "bomb.png")
    (photos / os.fsdecode(b"\xff.png")).write_bytes(b"no picture")
    names = ["1.png", *odd, "eps.jpg", "pipe.jpg", "bomb.png"]
    images = [
        {"id": k, "file_name": name, "width": 64, "height": 48} for k, name in enumerate(names, 1)
    ]
    rows: list[dict[str, Any]] = []
    for k in range(1, len(names) + 1):
        row = {"image_id": k, "bbox": [5, 4, 24, 30], "iscrowd": 0, "area": 312}
        mask = [[5, 4, 29, 12, 17, 34]]
        rows.append({"id": 2 * k, "category_id": 1, **row, "segmentation": mask})
        rows.append({"id": 2 * k + 1, "category_id": 2, **row})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "[/dog]"}]
    document = {"images": images, "annotations": rows, "categories": categories}
    (their / "in.json").write_text(json.dumps(document))
    (their / "plain.json").write_text(json.dumps(document))
    one = {"images": images[:1], "annotations": rows[:2], "categories": categories}
    (their / "one.json").write_text(json.dumps(one))
    (their / "w.pth").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    for place, what in LINKS.items():
        target = mine / what
        if what in FOLDERS:
            target.mkdir(exist_ok=True)
            (target / "kept.txt").write_text("mine")
        else:
            target.write_text(f"mine: {what}")
        link = their / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def tree(root: Path) -> dict[str, str]:
    """Everything but outputs and our own temporary folders, with its content."""
    found = {}
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(place) / name
            parts = path.relative_to(root).parts
            if parts[0] == "temporary" or (
                parts[0] == "their" and parts[1:2] and parts[1] in OUTPUTS
            ):
                continue
            what = f"link to {path.readlink()}" if path.is_symlink() else str(path.lstat().st_mode)
            if path.is_file() and not path.is_symlink():
                what += str(path.read_bytes())
            found[os.fsencode(path).hex()] = what
    return found


def test_a_strangers_folder_does_no_harm(tmp_path: Path) -> None:
    stranger(tmp_path)
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    before = tree(tmp_path)
    kept = {"PATH", "LD_LIBRARY_PATH", "LANG", "OMP_NUM_THREADS"}
    surroundings = {key: value for key, value in os.environ.items() if key in kept}
    surroundings |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    surroundings |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([verb for _, verb in VERBS])],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert "DONE" in done.stdout, done.stderr[-3000:]
    result = json.loads(done.stdout.rpartition("DONE")[2])
    after = tree(tmp_path)
    changed = [os.fsdecode(bytes.fromhex(k)) for k in before.keys() | after.keys()
               if before.get(k) != after.get(k)]  # fmt: skip
    assert changed == []
    for (expected, verb), (code, seconds, started, said) in zip(
        VERBS, result["verbs"], strict=True
    ):
        assert code == expected, (verb, code, said)
        assert "Traceback" not in said, (verb, said)
        assert [one for one in started if not OF_LIBRARIES.search(one[1])] == [], verb
        assert seconds < 60, verb
    assert result["peak"] < 2 << 20  # kilobytes


def test_a_folder_that_is_swapped_under_a_review_leaks_nothing(tmp_path: Path) -> None:
    """A link takes the place of a folder on the way, again and again, while it is read."""
    from threading import Event, Thread

    from halfmask.errors import InputError
    from halfmask.web.inside import open_inside

    root, outside = tmp_path / "photos", tmp_path / "outside"
    for folder in (root / "day", outside):
        folder.mkdir(parents=True)
    (root / "day" / "1.jpg").write_bytes(b"a photograph")
    (outside / "1.jpg").write_bytes(b"a secret")
    link, aside, ended = root / "link", root / "aside", Event()
    link.symlink_to(outside)

    def swap() -> None:
        while not ended.is_set():
            (root / "day").rename(aside)
            link.rename(root / "day")
            (root / "day").rename(link)
            aside.rename(root / "day")

    swapping = Thread(target=swap)
    swapping.start()
    read = 0
    try:
        for _ in range(3000):
            try:
                with open_inside(root, {"file_name": "day/1.jpg"}) as file:
                    assert file.read() == b"a photograph"
                read += 1
            except InputError:
                pass
    finally:
        ended.set()
        swapping.join()
        shutil.rmtree(root)
    assert read
