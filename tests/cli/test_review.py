"""`halfmask review` and `halfmask serve` on the command line."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import halfmask
from halfmask.web.review.filters import Filter
from halfmask.web.review.log.statistics import PeopleMasks, people_masks
from halfmask.web.review.log.undo import take_back
from halfmask.web.review.review import Review
from halfmask.web.segmenting import Segmenter

Cli = Callable[..., Any]


@pytest.fixture
def filled(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> Path:
    out = tmp_path / "filled.json"
    assert (
        halfmask_cli("complete", tiny_segmenter, coco_file(), "--images", photos, "--out", out).code
        == 0
    )
    return out


def test_bad_use_is_one_line(halfmask_cli: Cli, filled: Path, photos: Path, tmp_path: Path) -> None:
    # `complete` notes the photographs' folder; a file of another tool does not.
    document = json.loads(filled.read_text())
    document["info"]["halfmask"].pop("images")
    unplaced = tmp_path / "elsewhere" / "filled.json"
    unplaced.parent.mkdir()
    unplaced.write_text(json.dumps(document))
    nothing = tmp_path / "nothing.json"
    nothing.write_text(json.dumps(document | {"annotations": []}))
    cases = {
        ("review", unplaced): "--images",
        ("review", filled, "--images", tmp_path / "absent"): "no such folder",
        ("review", filled, "--export"): "nothing was reviewed yet",
        ("review", tmp_path / "absent.json", "--images", photos): "No such file",
        ("review", filled, "--images", photos, "--out", filled): "never written to",
        ("review", nothing, "--images", photos): "nothing to review",
        ("review", filled, "--images", photos, "--host", "no.such.host.invalid"): "--host",
        ("serve", tmp_path / "absent"): "no such checkpoint",
    }
    for arguments, text in cases.items():
        outcome = halfmask_cli(*arguments)
        assert outcome.code == 2, arguments
        assert text in outcome.line


def test_serves_decides_dies_and_exports(
    halfmask_cli: Cli, filled: Path, photos: Path, tmp_path: Path
) -> None:
    before = filled.read_bytes()
    command = [
        sys.executable,
        "-m",
        "halfmask",
        "review",
        filled,
        "--images",
        photos,
        "--port",
        "0",
        "baseline:box",
    ]
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert "6 masks to review" in server.stdout.readline()
        address = server.stdout.readline().split()[1]
        body = json.dumps({"version": 0, "state": "accepted", "by": "Anna"}).encode()
        request = urllib.request.Request(
            f"{address}api/items/2/decision", body, {"content-type": "application/json"}
        )
        for _ in range(100):
            try:
                answer = json.load(urllib.request.urlopen(request))
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        assert answer["state"] == "accepted"
        server.send_signal(signal.SIGKILL)
    outcome = halfmask_cli("review", filled, "--export", "--out", tmp_path / "reviewed.json")
    assert outcome.out.strip().endswith("reviewed.json: 1 accepted")
    row = json.loads((tmp_path / "reviewed.json").read_text())["annotations"][2]
    assert (row["halfmask"]["state"], row["halfmask"]["by"]) == ("accepted", "Anna")
    assert filled.read_bytes() == before


def test_the_end_counts_peoples_masks(
    halfmask_cli: Cli, tiny_segmenter: Path, coco_file: Callable[..., Path], photos: Path
) -> None:
    """Those that somebody decided about; edited, rejected and deleted ones are wrong."""
    data = coco_file()
    places = {"journal": data.with_name(f"{data.name}.review.jsonl"), "out": data.parent / "o.json"}
    review = Review(data, Segmenter(str(tiny_segmenter)), images=photos, **places, people=True)
    edit, people = review.editor, review.queue.ordered(Filter()).tolist()
    assert len(people) >= 3
    assert people_masks(review.decisions) == PeopleMasks(0, 0)
    edit.decide(people[0], 0, "Anna", state="accepted", mask=None)
    edit.decide(people[1], 0, "Anna", state="rejected", mask=None)
    assert people_masks(review.decisions) == PeopleMasks(2, 1)
    edit.delete(people[2], 0, "Anna")
    assert people_masks(review.decisions) == PeopleMasks(3, 2)
    take_back(review.decisions, "Anna")
    assert people_masks(review.decisions) == PeopleMasks(2, 1)
    own = int(review.index.categories[review.index.classes[people[0]]]["id"])
    other = next(c["id"] for c in review.index.categories if c["id"] != own)
    for version, category in ((1, other), (2, own), (3, other)):
        edit.set_class(people[0], version, "Anna", category=category)
        wrong = 1 + (category == other)
        assert people_masks(review.decisions) == PeopleMasks(2, wrong)
    review.close()
    outcome = halfmask_cli("review", data, "--export", "--images", photos, "--out", places["out"])
    assert outcome.out.strip().endswith("people's masks: 2 looked at, 2 wrong")
    done = halfmask.review(data, images=photos, export=True, out=places["out"])
    assert done.to_json()["people"] == {"looked_at": 2, "wrong": 2}
