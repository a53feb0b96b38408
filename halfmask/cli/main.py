"""The table of verbs; each is one module of `halfmask.cli`, loaded when it runs."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import signal
import sys
from types import FrameType

import typer

from halfmask._version import __version__
from halfmask.cli.shared.flags import VerbCommand
from halfmask.errors import InputError
from halfmask.terminal import escape_unencodable, say

VERBS = {
    "doctor": "halfmask.cli.doctor",
    "audit": "halfmask.cli.model.audit",
    "convert": "halfmask.cli.convert",
    "split": "halfmask.cli.split",
    "tighten": "halfmask.cli.tighten",
    "index": "halfmask.cli.index",
    "synth": "halfmask.cli.synth",
    "train": "halfmask.cli.train",
    "add-class": "halfmask.cli.model.add_class",
    "evaluate": "halfmask.cli.evaluate",
    "import-weights": "halfmask.cli.import_weights",
    "demo": "halfmask.cli.demo.story",
    "complete": "halfmask.cli.complete",
    "review": "halfmask.cli.review",
    "predict": "halfmask.cli.predict",
    "serve": "halfmask.cli.serve",
    "export": "halfmask.cli.export",
}
"""Verb → its module, whose `run` is the command. The help keeps this order."""
GROUPS = {
    "Data": ("doctor", "audit", "convert", "split", "tighten", "index", "synth"),
    "Model": ("train", "add-class", "evaluate", "import-weights", "demo"),
    "Masks and review": ("complete", "review"),
    "Use and deploy": ("predict", "serve", "export"),
}
"""Panel of the help → its verbs."""

MISMATCH = (
    "torch and torchvision do not fit together (operator torchvision::nms does not exist). "
    "To fix: install a pair that "
    "was built together, for example `pip install -c constraints.txt torch torchvision`"
)

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

app = typer.Typer(
    name="halfmask",
    help="Instance segmentation when only some of your classes have masks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        say(f"halfmask {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False,
        "--version",
        callback=_show_version,
        is_eager=True,
        metavar="",
        help="Print the version.",
    ),
    debug: bool = typer.Option(False, "--debug", metavar="", help="Show tracebacks."),
    trust: bool = typer.Option(
        False,
        "--trust",
        metavar="",
        help="Import parts of a model from packages that are not installed.",
    ),
) -> None:
    """Instance segmentation when only some of your classes have masks."""


_GROUP_OF = {verb: group for group, verbs in GROUPS.items() for verb in verbs}
for _verb, _module in VERBS.items():
    _run = importlib.import_module(_module).run
    app.command(_verb, cls=VerbCommand, rich_help_panel=_GROUP_OF.get(_verb))(_run)


class _Printer(logging.Handler):
    """Prints what the library logs: to stdout, warnings to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), err=record.levelno >= logging.WARNING)


def _show_log() -> None:
    logger = logging.getLogger("halfmask")
    logger.setLevel(logging.INFO)
    logger.handlers = [_Printer()]


def main() -> None:
    """Runs the command line.

    Exit code 0 done, 1 found problems, 2 wrong use or bad input, 130 interrupted.
    """
    # Threads that wait must sleep, not spin: on shared cores spinning made a training
    # step several times as long. Before torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_freed_memory()
    escape_unencodable()
    _end_quietly()
    _show_log()
    debug = "--debug" in sys.argv
    if "--trust" in sys.argv:
        os.environ["HALFMASK_TRUST"] = "1"  # read where models are built, in any process
    # Welcome before or after the verb.
    arguments = [a for a in sys.argv[1:] if a not in ("--debug", "--trust")]
    try:
        app(args=arguments)
    except InputError as error:
        _stop(str(error), 2, debug)
    except KeyboardInterrupt:
        _stop("interrupted", INTERRUPTED, debug)
    except OSError as error:
        _stop(f"{error.filename or 'input or output'}: {error.strerror or error}", 2, debug)
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        _stop(MISMATCH, 2, debug)


def _end_quietly() -> None:
    """Makes the first Ctrl-C raise KeyboardInterrupt, and the second end the process.

    A second one could strike while the first is cleaned up, or while the interpreter
    ends, and Python would print where. What is half written then is taken over by the
    next run, as after a kill.
    """
    main_process, seen = os.getpid(), 0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if os.getpid() != main_process:  # a worker, which its parent ends
            return
        seen += 1
        if seen > 1:
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, handle)
    show = sys.unraisablehook

    def unraisable(caught: sys.UnraisableHookArgs) -> None:
        if not isinstance(caught.exc_value, KeyboardInterrupt):
            show(caught)

    sys.unraisablehook = unraisable


def _keep_freed_memory() -> None:
    """Tells glibc to keep what is freed for the next tensor.

    Else each tensor of some megabytes is fetched from the kernel page by page and
    handed back at once: 21,000 page faults and a fifth of the time of a box segmenter's
    training step. Other C libraries are left as they are.
    """
    trim_threshold, mmap_max = -1, -4  # mallopt's names for them
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(mmap_max, 0)


def _stop(message: str, code: int, debug: bool) -> None:
    if debug:
        raise  # the error that the caller's except block holds
    say(f"halfmask: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
