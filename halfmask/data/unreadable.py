"""Photographs that cannot be used, in the midst of a training: a few are left out and
named, many stop it.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.utils.data import Dataset

from halfmask.data.dataset import Examples
from halfmask.errors import InputError
from halfmask.structures import Target


class SkipUnreadable(Dataset[tuple[Tensor, Target]]):
    """A data set in whose place of an example that cannot be read stands the next one
    that can.

    Which example that is does not depend on who reads, or on what was read before; so
    neither seed, workers nor a resumed run see a difference. What was left out is known
    to all worker processes, and told once on stderr.

    Args:
        examples: raise InputError for what cannot be used.
        share: of the examples that may be left out, in [0, 1); more is an error.
    """

    def __init__(self, examples: Examples, share: float) -> None:
        assert 0.0 <= share < 1.0, share
        self.examples = examples
        self.most = int(share * len(examples))
        # In shared memory: every worker counts what the others found.
        self._out = torch.zeros(len(examples), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def left_out(self) -> list[int]:
        """Indices of the examples that could not be read so far."""
        return torch.where(self._out)[0].tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Image and Target as the data set's.

        Raises:
            InputError: more examples than `share` allows cannot be read.
        """
        for place in range(index, index + len(self)):
            row = place % len(self)
            if not self._out[row]:
                try:
                    return self.examples[row]
                except InputError as error:
                    self._leave_out(row, error)
        raise InputError("no photograph of the training data can be read")

    def _leave_out(self, row: int, error: InputError) -> None:
        self._out[row] = True
        count = int(self._out.sum())
        if count > self.most:
            if count == 1:
                raise error
            raise InputError(
                f"{error} ({count} of {len(self)} photographs cannot be used, and at most "
                f"{self.most} may be left out: "
                "mend them, `halfmask doctor --images` lists all, or raise data.unreadable)"
            ) from error
        sys.stderr.write(f"left out: {error}\n")
