"""Keeps a thread's stack for signals while a library is loaded that would take it away."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Inside, `sigaltstack` of this thread may be changed: it is set back afterwards.
    Linux; elsewhere nothing happens.

    OpenVINO's CPU plugin leaves one of 11.5 KiB, on which Python's handlers do not fit
    beside the processor's registers: the next signal, the end of a DataLoader's worker
    or Ctrl-C, would end the process by SIGSEGV.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
