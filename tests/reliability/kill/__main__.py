"""Kills `train`, `complete`, `index`, `convert`, `export` and `review` at random moments, checks
the files, runs the same command again, and checks its result.

    python -m tests.reliability.kill --kills 200 --seed 0

Half of the kills (SIGKILL) come after a random time, half right before a random one of
the command's own file operations (open to write, rename, remove, make a folder), where
a half-written result would show. Heavy modules are imported once; each command runs in
a fork.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a pool of threads would not survive a fork
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import argparse
import random
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.reliability.kill.cases import Case, digest
from tests.reliability.kill.inputs import CASES, make_inputs, preload

PATIENCE = 120.0
"""Seconds that a command may take before the test calls it hung."""
FILE_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Moment:
    """When to kill: after `seconds`, or before the file operation number `operation`
    (from 1); neither: never.
    """

    seconds: float | None = None
    operation: int | None = None

    def __str__(self) -> str:
        return (
            f"after {self.seconds:.3f} s"
            if self.operation is None
            else f"before file operation {self.operation}"
        )


@dataclass(frozen=True)
class End:
    """How a command ended: exit code (negative: the signal), seconds, file operations
    counted (none where it was killed).
    """

    code: int
    seconds: float
    operations: int = 0


@dataclass
class Row:
    """What happened to one verb."""

    kills: int = 0
    survived: int = 0
    fell: Counter[str] = field(default_factory=Counter)


def run(case: Case, arguments: list[str], folder: Path, moment: Moment | None = None) -> End:
    """Runs `halfmask ARGUMENTS` in a fork; its output goes to FOLDER/log.txt."""
    moment = moment or Moment()
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_command(case, arguments, folder, moment)
    watch = os.pidfd_open(child)
    try:
        limit = PATIENCE if moment.seconds is None else moment.seconds
        if not select.select([watch], [], [], limit)[0]:
            os.kill(child, signal.SIGKILL)
            if moment.seconds is None:
                raise TimeoutError(f"halfmask {' '.join(arguments)}: hung for {PATIENCE:.0f} s")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(watch)
    counted = folder / "operations.txt"
    return End(code, time.monotonic() - begin, int(counted.read_text()) if code == 0 else 0)


def _be_the_command(case: Case, arguments: list[str], folder: Path, moment: Moment) -> None:
    """Never returns: no `finally` and no exit handler of the parent may run in the fork."""
    code = 70
    try:
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        case.watch(folder)
        operations = _count_operations(folder, moment.operation)
        code = _main(arguments)
        (folder / "operations.txt").write_text(str(operations[0]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(arguments: list[str]) -> int:
    from halfmask.cli import main as cli

    sys.argv = ["halfmask", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _count_operations(folder: Path, last: int | None) -> list[int]:
    """Counts the process's file operations below `folder` from now on; it kills itself
    right before number `last`.
    """
    count, within = [0], str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & WRITES)
        if (
            (writes or event in FILE_EVENTS)
            and isinstance(arguments[0], str | Path)
            # A name alone is relative to a folder that the command holds.
            and (str(arguments[0]).startswith(within) or not Path(arguments[0]).is_absolute())
        ):
            count[0] += 1
            if count[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def moments(chance: random.Random, reference: End) -> Iterator[Moment]:
    """Yields a time, an operation, a time, … without end."""
    while True:
        yield Moment(seconds=chance.uniform(0.0, reference.seconds))
        yield Moment(operation=chance.randint(1, max(1, reference.operations)))


def one_kill(
    case: Case, folder: Path, reference: Path, moment: Moment
) -> tuple[str, list[str]] | None:
    """Kills a command, checks the files, runs it again, and checks its result.

    Returns:
        Where the kill fell, and the faults; None if the command ended before it.
    """
    before = digest(case.inputs)
    end = run(case, case.arguments(folder), folder, moment)
    if end.code != -signal.SIGKILL:
        problem = [] if end.code == 0 else [f"exit code {end.code} before the kill"]
        return ("not killed", problem) if problem else None
    where, wrong = case.left(folder, reference)
    wrong = [f"after the kill: {fault}" for fault in wrong]
    if (again := run(case, case.again(folder), folder)).code != 0:
        wrong.append(f"the same command again: exit code {again.code}")
    else:
        wrong += [
            f"after the same command again: {fault}" for fault in case.finished(folder, reference)
        ]
    if digest(case.inputs) != before:
        wrong.append("the inputs have changed")
    return where, wrong


@contextmanager
def _scratch(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()


def kill_many(
    cases: list[Case], kills: int, seed: int, root: Path, console: Console
) -> tuple[dict[str, Row], int]:
    """Kills the cases in turn; returns rows by verb, and the number of faults."""
    chance = random.Random(seed)
    rows = {case.verb: Row() for case in cases}
    plans: list[tuple[Case, Path, Iterator[Moment]]] = []
    for number, case in enumerate(cases):
        reference = root / f"reference-{number}"
        reference.mkdir()
        whole = run(case, case.arguments(reference), reference)
        if whole.code != 0:
            raise SystemExit(
                f"{case.name}: fails without a kill:\n{(reference / 'log.txt').read_text()}"
            )
        console.print(f"{case.name}: {whole.seconds:.2f} s, {whole.operations} file operations")
        plans.append((case, reference, moments(chance, whole)))
    done = faults = 0
    while done < kills:
        case, reference, coming = plans[done % len(plans)]
        with tempfile.TemporaryDirectory(dir=root) as name:
            moment = next(coming)
            result = one_kill(case, Path(name), reference, moment)
            if result is None:
                continue
            where, wrong = result
            row = rows[case.verb]
            row.kills, row.survived = row.kills + 1, row.survived + (not wrong)
            row.fell[where] += 1
            for fault in wrong:
                console.print(f"[red]{case.name}, killed {moment} ({where}): {fault}")
            if wrong:
                console.print((Path(name) / "log.txt").read_text()[-2000:], markup=False)
            done, faults = done + 1, faults + bool(wrong)
    return rows, faults


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verb", nargs="+", choices=sorted({kind.verb for kind in CASES}))
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    options = parser.parse_args()
    console = Console(width=150)
    begin = time.monotonic()
    preload()
    with _scratch(options.keep) as root:
        make_inputs(
            root / "inputs", lambda case, arguments, folder: run(case, arguments, folder).code
        )
        cases = [
            kind(root / "inputs") for kind in CASES if not options.verb or kind.verb in options.verb
        ]
        rows, faults = kill_many(cases, options.kills, options.seed, root, console)
    table = Table("verb", "kills", "survived", "where it fell")
    for verb, row in rows.items():
        fell = ", ".join(f"{where} {count}" for where, count in sorted(row.fell.items()))
        table.add_row(verb, str(row.kills), str(row.survived), fell)
    console.print(table)
    console.print(f"seed {options.seed}, {time.monotonic() - begin:.0f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
