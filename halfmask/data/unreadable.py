"""Photographs that turn out unreadable in training: a few are skipped, many stop it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from halfmask.data.dataset import Examples
from halfmask.errors import InputError
from halfmask.structures import Target
from halfmask.terminal import say


class SkipUnreadable(Dataset[tuple[Tensor, Target]]):
    """Replaces an unreadable example by the next readable one.

    The replacement does not depend on the process that reads or on earlier reads, so
    seed, workers and resumed runs see no difference. All worker processes share the
    list of skipped examples; each is named once on stderr.

    Args:
        examples: raise InputError for an unreadable example.
        share: of the examples that may be skipped, in [0, 1); more is an error.
    """

    def __init__(self, examples: Examples, share: float) -> None:
        assert 0.0 <= share < 1.0, share
        self.examples = examples
        self.most = int(share * len(examples))
        # In shared memory: every worker counts the finds of the others.
        self._out = torch.zeros(len(examples), dtype=torch.bool)
        self._out.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def left_out(self) -> list[int]:
        """Indices of the examples skipped so far."""
        return torch.where(self._out)[0].tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Returns image and Target.

        Raises:
            InputError: more examples are unreadable than `share` allows.
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
                f"{self.most} may be left out. To fix: `halfmask doctor --images` lists all; "
                "replace them, or raise data.unreadable)"
            ) from error
        say(f"left out: {error}", err=True)
