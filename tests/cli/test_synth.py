"""`halfmask synth`: the world from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_the_world(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    done = halfmask_cli("synth", tmp_path / "world", "--image-count", 2, "--class-count", 5)
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "world/instances.json").read_text())
    assert [len(document["images"]), len(document["categories"])] == [2, 5]
    assert document["images"][0]["width"] == 112
    assert "2 pictures, 5 classes, seed 0" in done.out
