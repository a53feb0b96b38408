"""A COCO file and its photographs as training examples: image and Target."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from halfmask.coco.annotations import Annotations
from halfmask.coco.images import Pixels, check_folder
from halfmask.coco.photographs.reader import reader_of
from halfmask.coco.supervision import MaskState, Use
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops, decode
from halfmask.masks.polygons import outline_of
from halfmask.structures import Target


class Examples(Protocol):
    """A data set as the loader needs it: a length, and image and Target by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, Target]: ...


class CocoInstances(Dataset[tuple[Tensor, Target]]):
    """Images of a COCO file, float32 [3, H, W] RGB in [0, 1], each with its Target.

    Crowds and annotations without a usable box are left out, and boxes are clipped to
    the image. An object has a mask only where its annotation's state is MASK.

    Args:
        file: the annotations.
        images: folder of the photographs, all of which must exist.
        image_ids: the images, in this order; None: all.
        use: which of halfmask's own masks count (`Data.use`).
        cache: keep decoded photographs in memory, as uint8, in each worker process.
        crowds: whether targets carry the boxes of crowds.
        outlines: whether targets carry the polygons of masks.
    Raises:
        InputError: photographs are missing, or an image id is not in the file; later, a
            photograph is truncated or has the size that the file says in neither frame.
    """

    def __init__(
        self,
        file: Annotations,
        images: str | Path,
        image_ids: Sequence[int] | None = None,
        *,
        use: Use = "annotated",
        cache: bool = False,
        crowds: bool = False,
        outlines: bool = False,
    ) -> None:
        self._parts = {"crowds": crowds, "outlines": outlines}
        self.image_ids = list(file.image_ids if image_ids is None else image_ids)
        unknown = [i for i in self.image_ids if i not in file]
        if unknown:
            raise InputError(
                f"{file.name}: expected image ids of this file, found {unknown[0]} "
                f"({len(unknown)} unknown ids in all)"
            )
        self.file = file
        self.folder = Path(images)
        self.use: Use = use
        self._cache: dict[int, Pixels] | None = {} if cache else None
        check_folder(self.folder, ((i, file.file_name_of(i)) for i in self.image_ids), file.name)
        self._reader = reader_of(file, self.folder)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        # One pass permutes and converts: half the time of two.
        permuted = torch.from_numpy(self._pixels(index)).permute(2, 0, 1)
        image = permuted.to(torch.float32, memory_format=torch.contiguous_format).div_(255.0)
        return image, self.target(index)

    def target(self, index: int) -> Target:
        """Returns an image's Target without reading the photograph."""
        return build_target(self.file, self.image_ids[index], self.use, **self._parts)

    def with_masks(self) -> list[int]:
        """Returns the ids of images with at least one usable mask, in order."""
        masked = self.file.with_masks(self.use)
        return [i for i in self.image_ids if i in masked]

    def with_objects(self) -> list[int]:
        """Returns the ids of images with at least one object, crowds aside, in order."""
        file, use = self.file, self.use
        return [i for i in self.image_ids if set(file.states_of(i, use)) - {MaskState.CROWD}]

    def _pixels(self, index: int) -> Pixels:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        image_id = self.image_ids[index]
        record = {"id": image_id, "file_name": self.file.file_name_of(image_id)}
        pixels = self._reader.read(record, self.file.size_of(image_id))
        if self._cache is not None:
            self._cache[index] = pixels
        return pixels

    def path_of(self, image_id: int) -> Path:
        """Returns where the photograph of an image is."""
        name = self.file.file_name_of(image_id)
        return self._reader.path_of({"id": image_id, "file_name": name})


def build_target(
    file: Annotations,
    image_id: int,
    use: Use = "annotated",
    *,
    crowds: bool = False,
    outlines: bool = False,
) -> Target:
    """Returns the Target of one image of a COCO file.

    Crowds are no objects of it. `crowds` and `outlines` add its fields of that name.
    """
    size = file.size_of(image_id)
    instances = file.instances_of(image_id, use)
    rows = [row for row in instances if row.state != MaskState.CROWD]
    many = [row for row in instances if row.state == MaskState.CROWD] if crowds else []
    crops = [decode(row.segmentation, size) for row in rows if row.state == MaskState.MASK]
    weights = [row.weight for row in rows]
    weighted = any(w != 1 for w in weights)
    return Target(
        boxes=torch.tensor([row.box for row in rows], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([row.label for row in rows], dtype=torch.int64),
        has_mask=torch.tensor([row.state == MaskState.MASK for row in rows], dtype=torch.bool),
        masks=MaskCrops.from_bitmaps([c[0] for c in crops], [c[1] for c in crops], size),
        image_id=image_id,
        annotation_ids=torch.tensor([row.annotation_id for row in rows], dtype=torch.int64),
        mask_weight=torch.tensor(weights, dtype=torch.float32) if weighted else None,
        crowds=torch.tensor([row.box for row in many], dtype=torch.float32) if many else None,
        crowd_labels=torch.tensor([row.label for row in many], dtype=torch.int64),
        outlines=tuple(outline_of(row.segmentation) for row in rows if row.state == MaskState.MASK)
        if outlines
        else None,
    )


def development_split(
    image_ids: Sequence[int], share: float, fold: int = 0
) -> tuple[list[int], list[int]]:
    """Divides images into training and development ids, each in the order given.

    A hash of its own id decides the part of an image, whatever else the file holds; the
    parts' sizes therefore only come near the share. If share > 0 and there are at least
    two images, neither part is empty.

    Args:
        image_ids: the images.
        share: of the development part, in [0, 1).
        fold: which part of that share. Folds 0, 1, … have no image in common while
            (fold + 1) · share is at most 1.
    """
    if share <= 0:
        return list(image_ids), []
    place = {i: (_place(i) - fold * share) % 1.0 for i in image_ids}
    chosen = {i for i in image_ids if place[i] < share}
    if len(place) > 1 and not chosen:
        chosen = {min(place, key=place.__getitem__)}
    if len(place) > 1 and len(chosen) == len(place):
        chosen.remove(max(place, key=place.__getitem__))
    return [i for i in image_ids if i not in chosen], [i for i in image_ids if i in chosen]


def _place(image_id: int) -> float:
    """Returns a number in [0, 1) that depends on the id alone."""
    return int.from_bytes(hashlib.blake2b(str(image_id).encode(), digest_size=6).digest()) / 2**48
