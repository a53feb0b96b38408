"""Ctrl-C, however often and at whatever moment: exit code 130, one line, no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def heeds_ctrl_c() -> None:
    """A job in a shell's background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(command: list[str], ready: Path, times: int, gap: float) -> tuple[int, str]:
    """Sends Ctrl-C to a command and its workers once a path is there; returns code and output."""
    run = subprocess.Popen(
        [sys.executable, "-m", "halfmask", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        preexec_fn=heeds_ctrl_c,
    )
    while not ready.exists():
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.01)
    for _ in range(times):
        try:
            os.killpg(run.pid, signal.SIGINT)
        except ProcessLookupError:
            break
        time.sleep(gap)
    out, _ = run.communicate(timeout=120)
    return run.returncode, out


@pytest.mark.parametrize(
    ("times", "gap"),
    [(1, 0.0), *(pytest.param(5, gap, marks=pytest.mark.slow) for gap in (0.0, 0.02, 0.2))],
)
def test_ctrl_c_prints_no_traceback(tmp_path: Path, times: int, gap: float) -> None:
    out = tmp_path / "world"
    command = ["synth", str(out), "--image-count", "100000", "--seed", "1"]
    code, said = interrupted(command, out / "images" / "000001.png", times, gap)
    # A shell says 130 in both cases; the second is Ctrl-C while the interpreter ends.
    assert code in (130, -signal.SIGINT), said
    assert "Traceback" not in said
    assert "Error" not in said
    assert said.count("\n") <= 4, said


HANDLED = """
import os, signal, sys
from halfmask.cli import main as door
door._end_quietly()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("first", flush=True)
Loud = type("Loud", (), {"__del__": lambda self: (_ for _ in ()).throw(KeyboardInterrupt)})
Loud()
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGINT)
    print("worker goes on", flush=True)
    os._exit(0)
os.wait()
os.kill(os.getpid(), signal.SIGINT)
print("never")
"""


def test_the_second_ctrl_c_ends_the_process_and_workers_ignore_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANDLED],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=heeds_ctrl_c,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (130, "first\nworker goes on\n")
    assert done.stderr == ""


def test_an_interrupted_training_hands_further_signals_on() -> None:
    from halfmask.training.loop.interrupts import Interrupts

    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    interrupts = Interrupts()
    try:
        interrupts.install()
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert seen == [signal.SIGINT]
    finally:
        interrupts.restore()
        signal.signal(signal.SIGINT, before)
