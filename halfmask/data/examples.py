"""What a data set is to the loader and to the changes of its examples."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from halfmask.structures import Target


class Examples(Protocol):
    """What the loader needs of a data set: a length, and image and Target by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]: ...
