"""torchvision's operators come without PyTorch's compiler, which still works afterwards."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from halfmask.masks.operators import KNOWN, roi_align
import torch, torchvision
loaded = "torch._dynamo" in sys.modules
assert loaded is not torchvision.__version__.startswith(KNOWN), "the start became slow again"
image = torch.arange(16.0).reshape(1, 1, 4, 4)
assert roi_align(image, [torch.tensor([[0.0, 0.0, 4.0, 4.0]])], (2, 2), aligned=True).shape[2] == 2
assert torchvision.ops.roi_align is roi_align
if not loaded:
    asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
    from torch._dynamo.utils import is_compile_supported
    assert asked == is_compile_supported("cpu"), "the question reaches the compiler itself"
double = torch.compile(lambda x: x * 2, backend="eager")
assert double(torch.ones(2)).tolist() == [2.0, 2.0]
"""


@pytest.mark.slow
def test_the_compiler_is_loaded_when_it_is_asked() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_verbs_that_draw_masks_load_no_compiler() -> None:
    program = "import sys, halfmask; halfmask.complete, halfmask.predict; "
    program += "model = halfmask.load('box-segmenter'); import numpy as np; "
    program += "model.segment(np.zeros((40, 50, 3), np.uint8), [[5, 5, 30, 30]]); "
    program += "from halfmask.masks.operators import KNOWN; import torchvision; "
    program += "known = torchvision.__version__.startswith(KNOWN); "
    program += "sys.exit(known and 'torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
