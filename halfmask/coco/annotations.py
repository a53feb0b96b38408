"""The interface of a readable COCO file: one in memory, or the index of a large one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from halfmask.coco.problems import Problem
from halfmask.coco.records import Box, Record
from halfmask.coco.supervision import MaskState, Use

Renaming = tuple[dict[int, int], Sequence[Record]]
"""Category id → new id, and the categories that the new ids belong to."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """The training signal of an annotation.

    Attributes:
        annotation_id: the file's id; files may repeat ids.
        label: 1…K−1.
        box: xyxy, pixels, clipped to the image.
        state: of its mask; the box of a crowd is not learnt from.
        weight: weight of its mask in the losses.
        segmentation: the file's JSON value if the state is MASK, else None.
    """

    annotation_id: int
    label: int
    box: Box
    state: MaskState
    weight: float
    segmentation: Any


class Annotations(Protocol):
    """A checked COCO instances file; `CocoFile` documents the members.

    Unusable images and annotations appear in no member.
    """

    name: str
    categories: list[Record]
    label_of: dict[int, int]

    @property
    def readings(self) -> list[Problem]: ...
    @property
    def suspected(self) -> list[Problem]: ...
    @property
    def images(self) -> Sequence[Record]: ...
    @property
    def image_ids(self) -> list[int]: ...
    @property
    def objects(self) -> int: ...

    def __contains__(self, image_id: object) -> bool: ...
    def size_of(self, image_id: int) -> tuple[int, int]: ...
    def file_name_of(self, image_id: int) -> str: ...
    def name_of(self, category_id: int) -> str: ...
    def annotations_of(self, image_id: int) -> list[Record]: ...
    def state_of(self, annotation: Record, use: Use = "annotated") -> MaskState: ...
    def states_of(self, image_id: int, use: Use = "annotated") -> list[MaskState]: ...
    def instances_of(self, image_id: int, use: Use = "annotated") -> list[Instance]: ...
    def with_masks(self, use: Use = "annotated") -> set[int]: ...
    def used_categories(self) -> set[int]: ...
    def mask_counts(self, use: Use = "annotated") -> dict[int, int]: ...
    def part(
        self,
        image_ids: Collection[int],
        masks_of: Collection[int] | None = None,
        renaming: Renaming | None = None,
    ) -> Annotations: ...
