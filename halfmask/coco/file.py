"""A COCO file: read, checked, indexed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from halfmask.coco.annotations import Instance, Renaming
from halfmask.coco.edit import relabel, strip_masks
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.reading.conventions import ConventionCheck
from halfmask.coco.reading.forms import StandardRecord, standard_record
from halfmask.coco.reading.ids import with_standard_ids
from halfmask.coco.records import (
    Record,
    check_records,
    check_root,
    clip_box,
    fault_of_annotation,
    fault_of_record,
    fault_of_size,
    file_name_of,
    is_id,
    size_of_record,
    usable_box,
)
from halfmask.coco.supervision import MaskState, Use, classify, is_crowd, mask_weight
from halfmask.files.json_lines import parse_json


class CocoFile:
    """A COCO instances file in memory.

    Unusable records are left out and reported. A file that is not COCO is an
    InputError. Annotations are as COCO writes them: masks in other forms, masks with an
    unreadable part and turned boxes are read (`halfmask.coco.reading`). `document`
    keeps the values of the file.

    Attributes:
        name: name of the file in messages.
        document: the JSON as read, with whole numbers as ids; never changed.
        images: the usable image records, in file order.
        categories: the category records, by id; label i + 1 is categories[i].
        label_of: category id → label.
        structure: findings about the records that are left out.
        readings: findings about what is read although COCO writes it otherwise: ids,
            forms and parts of masks, turned boxes.
    """

    def __init__(self, document: object, name: str, *, not_strict: bool = False) -> None:
        self.name = name
        self.document, self.readings = with_standard_ids(check_root(document, name), name)
        self.categories = sorted(
            check_records(self.document["categories"], name, "category"), key=lambda c: int(c["id"])
        )
        self.label_of: dict[int, int] = {c["id"]: i + 1 for i, c in enumerate(self.categories)}
        self.structure: list[Problem] = []
        if not_strict:
            self._report(
                ProblemKind.NOT_STRICT_JSON,
                [],
                f"{name}: holds NaN or Infinity, which strict JSON does not allow",
            )
        self._sizes: dict[int, tuple[int, int]] = {}
        self.images = self._usable_images()
        self._of_image: dict[int, list[Record]] = {image["id"]: [] for image in self.images}
        self._positions: dict[int, int] = {}
        self._read_otherwise: dict[int, StandardRecord] = {}
        self._states: dict[Use, dict[int, list[MaskState]]] = {}
        self._index()

    @classmethod
    def read(cls, path: str | Path, name: str | Path | None = None) -> CocoFile:
        """Reads a file.

        Args:
            path: the file.
            name: of the file in messages; None: the path.
        Raises:
            InputError: the file is missing, unreadable, not UTF-8, not JSON or not
            COCO.
        """
        constants: list[str] = []
        document = parse_json(Path(path), "expected a COCO JSON file", constants)
        return cls(document, str(name or path), not_strict=bool(constants))

    @classmethod
    def from_document(cls, document: object, name: str) -> CocoFile:
        """Checks a document that is already in memory; errors mention `name`."""
        return cls(document, name)

    @cached_property
    def image_ids(self) -> list[int]:
        """The ids of `images`, in file order."""
        return [image["id"] for image in self.images]

    @cached_property
    def _names(self) -> dict[int, str]:
        return {image["id"]: file_name_of(image) for image in self.images}

    def __contains__(self, image_id: object) -> bool:
        """Whether an image id belongs to a usable image."""
        return image_id in self._sizes

    def file_name_of(self, image_id: int) -> str:
        """Returns the name of an image's photograph below the images folder."""
        return self._names[image_id]

    def size_of(self, image_id: int) -> tuple[int, int]:
        """Returns (H, W) of an image."""
        return self._sizes[image_id]

    def name_of(self, category_id: int) -> str:
        """Returns the name of a category."""
        return str(self.categories[self.label_of[category_id] - 1]["name"])

    def annotations_of(self, image_id: int) -> list[Record]:
        """Returns the annotations with a usable box, also crowds, in file order."""
        return self._of_image[image_id]

    def position_of(self, annotation: Record) -> int:
        """Returns the position in the document of an annotation from `annotations_of`."""
        return self._positions[id(annotation)]

    @cached_property
    def suspected(self) -> list[Problem]:
        """Findings of the whole file: conventions that it seems to have, and turned boxes."""
        seen = ConventionCheck()
        for image in self.images:
            for row in self._of_image[image["id"]]:
                read = self._read_otherwise.get(id(row), StandardRecord(record=row))
                size = self._sizes[image["id"]]
                seen.add(row, size, form=read.form, turned=read.turned)
        return seen.found(self.name, set(self.label_of))

    def state_of(self, annotation: Record, use: Use = "annotated") -> MaskState:
        """Returns the state of the mask of an annotation from `annotations_of`."""
        return classify(annotation, self._sizes[annotation["image_id"]], use)

    def states_of(self, image_id: int, use: Use = "annotated") -> list[MaskState]:
        """Returns the mask states of `annotations_of(image_id)`, in the same order.

        They are cached, since training needs them in every epoch.
        """
        known = self._states.setdefault(use, {})
        if image_id not in known:
            size = self._sizes[image_id]
            known[image_id] = [
                classify(annotation, size, use) for annotation in self._of_image[image_id]
            ]
        return known[image_id]

    def rows(self, use: Use = "annotated") -> Iterator[tuple[Record, Record, MaskState]]:
        """Yields the image, the annotation and its mask state for every annotation."""
        for image in self.images:
            states = self.states_of(image["id"], use)
            for annotation, state in zip(self._of_image[image["id"]], states, strict=True):
                yield image, annotation, state

    def instances_of(self, image_id: int, use: Use = "annotated") -> list[Instance]:
        """Returns the training signal of each of `annotations_of(image_id)`."""
        size = self._sizes[image_id]
        instances = []
        both = zip(self._of_image[image_id], self.states_of(image_id, use), strict=True)
        for annotation, state in both:
            box = clip_box(annotation["bbox"], size)
            assert box is not None, annotation["id"]
            mask = annotation["segmentation"] if state == MaskState.MASK else None
            label = self.label_of[annotation["category_id"]]
            instances.append(
                Instance(
                    annotation_id=annotation["id"],
                    label=label,
                    box=box,
                    state=state,
                    weight=mask_weight(annotation),
                    segmentation=mask,
                )
            )
        return instances

    def with_masks(self, use: Use = "annotated") -> set[int]:
        """Returns the ids of the images that have at least one usable mask."""
        return {i for i in self._of_image if MaskState.MASK in self.states_of(i, use)}

    def used_categories(self) -> set[int]:
        """Returns the ids of the categories that have a usable annotation."""
        return {a["category_id"] for rows in self._of_image.values() for a in rows}

    @property
    def objects(self) -> int:
        """Number of annotations whose box is learnt from."""
        return sum(not is_crowd(a) for rows in self._of_image.values() for a in rows)

    def part(
        self,
        image_ids: Collection[int],
        masks_of: Collection[int] | None = None,
        renaming: Renaming | None = None,
    ) -> CocoFile:
        """Returns the file with only some of its images and their annotations.

        Args:
            image_ids: the images.
            masks_of: category ids of the classes that keep their masks (`strip_masks`);
                None: all.
            renaming: category id → new id, and the records of the new ids (`relabel`).
        """
        wanted = set(image_ids)

        def belongs(record: Any, key: str) -> bool:
            return isinstance(record, dict) and is_id(record.get(key)) and record[key] in wanted

        document = {
            **self.document,
            "images": [image for image in self.document["images"] if belongs(image, "id")],
            "annotations": [a for a in self.document["annotations"] if belongs(a, "image_id")],
        }
        if masks_of is not None:
            document = strip_masks(document, set(masks_of))
        if renaming is not None:
            document = relabel(document, *renaming)
        return CocoFile(document, self.name)

    def mask_counts(self, use: Use = "annotated") -> dict[int, int]:
        """Returns the number of usable masks of each category id."""
        counts = dict.fromkeys(self.label_of, 0)
        for _, annotation, state in self.rows(use):
            counts[annotation["category_id"]] += state == MaskState.MASK
        return counts

    def _report(self, kind: ProblemKind, ids: Sequence[int], message: str) -> None:
        self.structure.append(Problem(kind, tuple(ids), message))

    def _usable_images(self) -> list[Record]:
        usable = []
        for image in check_records(self.document["images"], self.name, "image"):
            size = size_of_record(image)
            if size is None:
                self._report(ProblemKind.IMAGE_RECORD, [image["id"]], fault_of_size(image))
                continue
            self._sizes[image["id"]] = size
            usable.append(image)
        return usable

    def _index(self) -> None:
        for position, annotation in enumerate(self.document["annotations"]):
            fault = fault_of_record(annotation, position)
            if fault:
                self._report(ProblemKind.ANNOTATION_RECORD, [], fault)
                continue
            image, category = annotation.get("image_id"), annotation.get("category_id")
            size = self._sizes.get(image) if is_id(image) else None
            known = is_id(category) and category in self.label_of
            read = StandardRecord(record=annotation)
            if size is not None:
                read = standard_record(annotation, size)
            if usable_box(read.record, size, known) is not None:
                self._add(image, position, read)
                continue
            kind, message = fault_of_annotation(annotation, size, known)
            self._report(kind, [annotation["id"]], f"annotation {annotation['id']}: {message}")

    def _add(self, image_id: int, position: int, read: StandardRecord) -> None:
        self._of_image[image_id].append(read.record)
        self._positions[id(read.record)] = position
        if read.form or read.turned:
            self._read_otherwise[id(read.record)] = read
        for fault in read.dropped:
            number = read.record["id"]
            self.readings.append(
                Problem(ProblemKind.MASK_PART, (number,), f"annotation {number}: {fault}")
            )
