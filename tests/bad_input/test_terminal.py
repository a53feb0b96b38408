"""A name from a file is shown as text by every verb: no markup, no control, any encoding."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from halfmask import terminal
from halfmask.cli.main import main
from halfmask.errors import InputError, printable
from halfmask.evaluation.tables import _category_table
from halfmask.progress import Display
from halfmask.terminal import PlainConsole, PlainTable, encodable, say, styled

PACKAGE = Path(__file__).parents[2] / "halfmask"
HOSTILE = {
    "markup that closes": "x[/nope]",
    "markup": "[red]x[/red][link=http://a]y[/link]",
    "escape": "x\x1b[31mred\x1b]0;title\x07",
    "C1": "x\x9b31m",
    "carriage return": "ok\rEVIL",
    "backspace": "x\b\b\x7f",
    "NUL": "a\0b",
    "surrogate": "x\ud800",
    "direction": "x\u202egnp.exe",
    "line separator": "a\u2028b",
    "emoji": ":smile: 👩\u200d🚀",
}
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def world(folder: Path, name: str) -> Path:
    """A data set whose class, file name and image record carry a name."""
    (folder / "images").mkdir()
    Image.new("RGB", (64, 64), 90).save(folder / "images" / "a.png")
    box, mask = [5, 5, 40, 40], [[5, 5, 30, 5, 30, 30, 5, 30]]
    rows = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "segmentation": mask, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [1, 1, 9, 9], "iscrowd": 0},
        {"id": 3, "image_id": 9, "category_id": 2, "bbox": box, "iscrowd": 0},
    ]
    document = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 64, "height": 64},
            {"id": 2, "file_name": f"{name}.png", "width": 64, "height": 64},
        ],
        "annotations": rows,
        "categories": [{"id": 1, "name": name}, {"id": 2, "name": f"{name}2"}],
    }
    (folder / "data.json").write_text(json.dumps(document))
    return folder / "data.json"


VERBS: dict[str, Callable[[Path], list[str]]] = {
    "doctor": lambda p: ["doctor", str(p), "--images", str(p.parent / "images")],
    "tighten": lambda p: ["tighten", str(p)],
    "convert": lambda p: ["convert", "to-yolo", str(p), "--out", str(p.parent / "out")],
    "split": lambda p: ["split", str(p), "--masked", "nobody", "--out", str(p.parent / "s.json")],
    "index": lambda p: ["index", str(p)],
    "complete": lambda p: [
        *("complete", "baseline:box", str(p), "--images", str(p.parent / "images")),
        *("--dry-run", "--out", str(p.parent / "c.json")),
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_shows_a_hostile_name_as_text(
    verb: str,
    name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = VERBS[verb](world(tmp_path, HOSTILE[name]))
    monkeypatch.setattr(sys, "argv", ["halfmask", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out = "".join(capfd.readouterr())
    assert ended.value.code in (0, 1, 2, None), out
    assert out
    assert not OBEYED.search(out), (verb, out)
    assert "Traceback" not in out


@pytest.mark.parametrize("name", HOSTILE)
def test_every_way_to_the_terminal_is_plain(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HOSTILE[name]
    say(text)
    say(text, err=True)
    table = PlainTable(text, title=text, caption=text)
    table.add_row(text)
    console = PlainConsole(file=io.StringIO(), width=200, color_system=None)
    console.print(text, table, styled(text, "red"))
    with Display() as display:
        display.start(text, 3, "step")
        display.note(text)
        display.update(3)
    rows = [{"name": text, "masked": True, "masks_in_training": 1, "box_AP": 1.0, "mask_AP": 1.0}]
    rows[0] |= {"boundary_AP": 0.5, "miou": 0.5, "boundary_iou": 0.5}
    console.print(_category_table({"per_category": rows, "groups": {}, "categories": rows}))
    shown = "".join(capsys.readouterr()) + console.file.getvalue()  # type: ignore[attr-defined]
    assert not OBEYED.search(shown)
    assert printable(text).replace("\n", "") in shown
    assert str(InputError(text)) == printable(text)


def test_plain_text_is_not_changed() -> None:
    for text in ("näive 写真 – … ›", "a\nb\tc", "a\u00a0b\u3000c", "👩\u200d🚀", ""):
        assert printable(text) == text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16", "no-such"])
def test_any_encoding_of_the_terminal(encoding: str) -> None:
    shown = encodable("a…ä\ud800写", encoding)
    shown.encode(encoding if encoding != "no-such" else "ascii")
    assert shown.startswith("a")


def test_an_ascii_terminal_shows_a_whole_report(tmp_path: Path) -> None:
    data = world(tmp_path, "näm\ud800[/b]")
    done = subprocess.run(
        [sys.executable, "-m", "halfmask", "doctor", str(data)],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": "", "HOME": str(tmp_path), "PYTHONPATH": "."},
        cwd=PACKAGE.parent,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert b"n\\xe4m\\ud800[/b]" in done.stdout
    assert b"Traceback" not in done.stderr


def test_nothing_else_writes_to_a_terminal() -> None:
    asks = re.compile(
        r"(?<![\w.])print\(|typer\.echo\(|\becho\(|(?<!Plain)Console\(|rich\.table import Table\n.*\bTable\("
        r"|sys\.std(out|err)\.write|markup import"
    )
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if asks.search(path.read_text(encoding="utf-8"))
    }
    assert found <= {"terminal.py", "integrations/label_studio.py"}
    assert callable(terminal.say)
