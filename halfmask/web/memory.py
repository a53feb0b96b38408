"""Gives memory that is free back to the system: malloc keeps it, in pieces between what is still held, and a server runs for weeks."""

from __future__ import annotations

import contextlib
import ctypes


def return_freed_memory() -> None:
    """Asks glibc for it; other C libraries are left as they are."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
