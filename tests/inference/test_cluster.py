"""`complete --ray`: the same bytes from workers on Ray, whoever of them is killed."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from halfmask._version import __version__
from halfmask.cli.main import app
from halfmask.coco.photographs.reader import PhotographReader, ruling_of
from halfmask.errors import InputError
from halfmask.inference.complete import plan as planning
from halfmask.inference.complete import ray as cluster
from halfmask.inference.complete.draw import MaskDrawer
from halfmask.inference.complete.journal import journal_of
from halfmask.inference.predictor import Predictor, load
from halfmask.labelling.complete import complete

WritesFile = Callable[..., Path]
IMAGES = 12


@pytest.fixture(scope="module")
def model() -> Predictor:
    """The shipped model: Ray keeps a small one beside its actor, and none of this size."""
    return load("box-segmenter", device="cpu")


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    """A cluster of this machine with room for two workers of one thread."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def whole(model: Predictor, write_file: WritesFile, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What one process makes of in.json, whose plan has many batches."""
    monkeypatch.setattr(planning, "BATCH_BOXES", 4)
    source = write_file(images=IMAGES)
    complete(model, source, images=source.parent / "photos", out=source.parent / "whole.json")
    return (source.parent / "whole.json").read_bytes()


def test_without_ray_it_says_which_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    (tmp_path / "photos").mkdir()
    (tmp_path / "in.json").write_text("{}")
    command = [
        "complete",
        "baseline:box",
        str(tmp_path / "in.json"),
        "--images",
        str(tmp_path / "photos"),
    ]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out.json"), "--ray", "auto"])
    assert done.exit_code != 0
    assert isinstance(done.exception, InputError)
    assert "pip install 'halfmask[ray]'" in str(done.exception)
    assert not (tmp_path / "out.json").exists()


def test_other_versions_are_refused() -> None:
    cluster._welcome([__version__, torch.__version__], "here", 1)
    with pytest.raises(
        InputError, match=r"there has halfmask 0\.0\.1 and torch 1\.0.*install the same"
    ):
        cluster._welcome(["0.0.1", "1.0"], "there", 1)


def test_a_cluster_that_is_not_there() -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r"--ray ray://127\.0\.0\.1:1: no cluster answers there"):
        list(cluster.drawn_on_ray(None, [[]], [0], address="ray://127.0.0.1:1"))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_the_same_bytes_from_two_workers(
    model: Predictor, tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "halfmask")
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out.json"
    done = complete(
        model,
        tmp_path / "in.json",
        images=tmp_path / "photos",
        out=out,
        progress=lambda *p: seen.append(p[1:]),
        ray="auto",
    )
    assert out.read_bytes() == whole
    # On a busy machine the first may have drawn it all before the second is there.
    assert 1 <= len(_processes(caplog)) <= 2
    assert seen[0] == (0, done.filled)
    assert seen[-1] == (done.filled, done.filled)
    assert not journal_of(out).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_a_killed_worker_is_replaced(
    model: Predictor, tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "halfmask")
    killed: list[int] = []

    def kill_once(title: str, done: int, total: int) -> None:
        if done and not killed:
            killed.append(_processes(caplog)[0])
            os.kill(killed[0], signal.SIGKILL)

    out = tmp_path / "out.json"
    done = complete(
        model,
        tmp_path / "in.json",
        images=tmp_path / "photos",
        out=out,
        progress=kill_once,
        ray="auto",
    )
    assert killed
    assert not done.skipped
    assert out.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_an_interrupted_run_goes_on_without_ray(
    model: Predictor, tmp_path: Path, whole: bytes
) -> None:
    source, photos, out = tmp_path / "in.json", tmp_path / "photos", tmp_path / "out.json"

    def stop(title: str, done: int, total: int) -> None:
        if done > total / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete(model, source, images=photos, out=out, progress=stop, ray="auto")
    assert not out.exists()
    done = complete(model, source, images=photos, out=out)
    assert 0 < done.resumed < done.filled
    assert out.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_photographs_that_cannot_be_read_are_told(
    model: Predictor, tmp_path: Path, whole: bytes
) -> None:
    (tmp_path / "photos" / "3.png").unlink()
    alone = complete(
        model, tmp_path / "in.json", images=tmp_path / "photos", out=tmp_path / "alone.json"
    )
    done = complete(
        model,
        tmp_path / "in.json",
        images=tmp_path / "photos",
        out=tmp_path / "out.json",
        ray="auto",
    )
    assert done.skipped == alone.skipped != ()
    assert (tmp_path / "out.json").read_bytes() == (tmp_path / "alone.json").read_bytes() != whole


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
def test_a_batch_that_ends_every_worker_is_an_error(
    model: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "RETRIES", 1)

    class Deadly(MaskDrawer):
        def draw(self, pieces: Any, photographs: Any) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

    piece = planning.Piece(
        image={"id": 1, "file_name": "1.png"},
        size=(48, 64),
        positions=(0,),
        boxes=((1.0, 1.0, 9.0, 9.0),),
        categories=(2,),
    )
    reader = PhotographReader(tmp_path, ruling_of([], "file.json"), "file.json")
    deadly = Deadly(predictor=model, categories=[], reader=reader)
    with pytest.raises(InputError, match="workers were lost 2 times over one batch"):
        list(cluster.drawn_on_ray(deadly, [[piece]], [0], address="auto"))


@pytest.mark.slow
def test_the_command_begins_a_cluster_of_this_machine(tmp_path: Path, whole: bytes) -> None:
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        ray.shutdown()
    out = tmp_path / "out.json"
    command = [
        "complete",
        "box-segmenter",
        str(tmp_path / "in.json"),
        "--images",
        str(tmp_path / "photos"),
    ]
    done = CliRunner().invoke(
        app, [*command, "--out", str(out), "--ray", "local", "--device", "cpu"]
    )
    assert done.exit_code == 1, done.output  # some annotations are unusable, as everywhere
    assert json.loads(out.read_text()) == json.loads(whole)
    assert out.read_bytes() == whole
    assert not ray.is_initialized()


def _processes(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [int(r.args[1]) for r in caplog.records if r.msg.startswith("a worker on")]  # type: ignore[index, call-overload, misc]
