"""From a YOLO folder with partial polygons to a complete one: `complete auto`, `review` in
Chromium, `convert to-yolo`. The result is read by halfmask and by Ultralytics.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from halfmask.coco.file import CocoFile
from halfmask.formats.source import open_source
from tests.browser import BROWSER, served, visited
from tests.conftest import RunsHalfmask

from .roboflow import FEW, labels, roboflow

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright (pip install 'halfmask[dev]')"
)
needs_chromium = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium (apt-get install chromium)"
)
ULTRALYTICS = os.environ.get("HALFMASK_ULTRALYTICS")
"""A python that has ultralytics, in an environment of its own."""
LOADER = """
import json, sys
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
data, found = check_det_dataset(sys.argv[1], autodownload=False), {}
for part in ("train", "val", "test"):
    for one in YOLODataset(img_path=data[part], data=data, task="segment", augment=False).labels:
        corners = [len(segment) for segment in one["segments"]]
        found[one["im_file"]] = {"classes": one["cls"].ravel().tolist(), "corners": corners}
print("FOUND", json.dumps({"names": data["names"], "labels": found}))
"""


def accept(address: str, count: int) -> None:
    """Accepts the worst masks by the page's button, and saves."""
    with visited(address) as page:
        for number in range(1, count + 1):
            seen = page.locator("#facts").text_content()
            page.locator("#accept").click()
            wanted = re.compile(f"{number} of")
            playwright.expect(page.locator("#progress-text")).to_have_text(wanted, timeout=30_000)
            playwright.expect(page.locator("#facts")).not_to_have_text(seen, timeout=30_000)
        page.locator("#export").click()
        playwright.expect(page.locator("#news")).to_have_text(
            re.compile("halfmask.reviewed.json"), timeout=30_000
        )


def check_result(before: Path, after: Path) -> None:
    """Every row of every label file is there, in its order, and has a polygon."""
    given, found = labels(before), labels(after)
    assert found.keys() == given.keys()
    for name, rows in given.items():
        assert [row[0] for row in found[name]] == [row[0] for row in rows], name
        assert all(len(row) >= 7 for row in found[name]), name
        for own, new in zip(rows, found[name], strict=True):
            if len(own) > 5:
                assert new == pytest.approx(own, abs=2e-6), "a polygon that was there is unchanged"
    source = open_source(after)
    assert not source.report.faults
    file = CocoFile.read(source.annotations)
    assert file.objects == sum(map(len, given.values()))
    assert sum(file.mask_counts().values()) == file.objects


def check_ultralytics(after: Path, scratch: Path) -> None:
    """The real loader of Ultralytics finds every label, each with its polygon."""
    if ULTRALYTICS is None:
        pytest.skip("HALFMASK_ULTRALYTICS names no python that has ultralytics")
    rows = {Path(name).stem: found for name, found in labels(after).items()}
    done = subprocess.run(
        [ULTRALYTICS, "-c", LOADER, after / "data.yaml"],
        env={**os.environ, "YOLO_CONFIG_DIR": str(scratch), "YOLO_OFFLINE": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    result = json.loads(line.removeprefix("FOUND "))
    assert len(result["names"]) == 80
    found = {Path(name).stem: value for name, value in result["labels"].items()}
    assert found.keys() == rows.keys()
    for stem, own in rows.items():
        assert found[stem]["classes"] == [row[0] for row in own]
        assert len(found[stem]["corners"]) == len(own)
        assert min(found[stem]["corners"]) >= 3


def next_command(output: str) -> list[str]:
    """The words of the command that the output names last."""
    (line,) = [line for line in output.splitlines() if line.startswith("Next: ")]
    words = shlex.split(line.removeprefix("Next: "))
    assert words[0] == "halfmask"
    return words[1:]


@needs_chromium
@pytest.mark.slow
def test_three_commands_with_few_masks(
    halfmask_cli: RunsHalfmask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than 50 masks: nothing is trained."""
    monkeypatch.chdir(tmp_path)
    yolo = roboflow(tmp_path / "my yolo", {"person", "dog", "cat"}, parts=FEW)
    before = labels(yolo)
    first = halfmask_cli("complete", "auto", "my yolo", "--out", "my out")
    assert first.code == 0, first.err
    assert (tmp_path / "my out.run" / "model.safetensors").is_file()
    paragraph = " ".join(first.out.split())
    assert "too few to adapt it, at least 50 are needed." in paragraph
    assert "Expect a mean IoU of" in paragraph
    with served(next_command(first.out), tmp_path) as address:
        accept(address, 2)
    last = halfmask_cli("convert", "to-yolo", "my out", "final")
    assert last.code == 0, last.err
    assert labels(yolo) == before
    check_result(yolo, tmp_path / "final")
    reviewed = json.loads((tmp_path / "my out" / "halfmask.reviewed.json").read_text())
    states = [a["halfmask"]["state"] for a in reviewed["annotations"] if "halfmask" in a]
    assert states.count("accepted") == 2
    check_ultralytics(tmp_path / "final", tmp_path / "ultralytics")


def _hears_interrupts() -> None:
    """A shell that starts the tests in the background makes its children deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.slow
@needs_chromium
def test_three_commands_with_enough_masks(tmp_path: Path) -> None:
    """Really adapts, after a Ctrl-C in the middle of it."""
    yolo = roboflow(tmp_path / "yolo", {"person", "suitcase", "bird", "car"}, mirrored=True)
    halfmask = [sys.executable, "-m", "halfmask"]
    command = [*halfmask, *["complete", "auto", "yolo/", "--out", "out/", "--minutes", "0.5"]]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hears_interrupts,
    ) as first:
        assert first.stdout is not None
        assert any("held-out training 2" in line for line in iter(first.stdout.readline, ""))
        first.send_signal(signal.SIGINT)
        errors = first.communicate()[1]
    assert first.returncode == 130, errors
    assert "the same command goes on" in errors
    assert not (tmp_path / "out").exists()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    paragraph = " ".join(again.stdout.split())
    assert "masks of 4 classes in" in paragraph
    assert "of classes without any mask to learn from (" in paragraph
    assert re.search(r"model as it is \d\d\.\d, adapted \d\d\.\d", paragraph)
    run = tmp_path / "out.run"
    assert {"model.safetensors", "adaptation.json", "report.html"} <= {
        path.name for path in run.iterdir()
    }
    assert json.loads((run / "adaptation.json").read_text())["held_out"]["adapted"] is not None
    with served(next_command(again.stdout), tmp_path) as address:
        accept(address, 3)
    last = [*halfmask, *["convert", "to-yolo", "out/", "final/"]]
    assert subprocess.run(last, cwd=tmp_path, check=False).returncode == 0
    check_result(yolo, tmp_path / "final")
    check_ultralytics(tmp_path / "final", tmp_path / "ultralytics")
