"""OpenVINO must not leave the process a stack on which the next signal ends it."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

SCRIPT = """
import ctypes, sys
from contextlib import nullcontext
from halfmask.inference.runtime.engines import _Stack, kept_signal_stack
def stack():
    found = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found.place, found.flags, found.size
import faulthandler
faulthandler.enable()
before = stack()
with kept_signal_stack() if sys.argv[1] == "kept" else nullcontext():
    import numpy
    import openvino
    from openvino import opset13
    given = opset13.parameter([1, 4], numpy.float32)
    held = openvino.Core().compile_model(openvino.Model([opset13.relu(given)], [given], "tiny"), "CPU")
print(stack() == before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux's structure")
def test_the_stack_stays() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "kept"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"
