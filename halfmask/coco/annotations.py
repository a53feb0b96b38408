"""A COCO file: read, checked, indexed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from halfmask.coco.boxes import clip_box, fault_of_box
from halfmask.coco.problems import Finding, Problem, ProblemKind
from halfmask.coco.supervision import MaskState, Use, classify
from halfmask.errors import InputError

Document = dict[str, Any]

_LISTS = ("images", "annotations", "categories")
_MOST_PIXELS = 1 << 32  # COCO's RLE counts pixels in 32 bits
_LARGEST_ID = 1 << 63


class CocoFile:
    """A COCO instances file. What can be read but not used is left out and reported; what is no COCO file is an InputError.

    Attributes:
        name: what messages call the file.
        document: the JSON as read; never changed.
        images: the usable image records, in file order.
        categories: the category records, by id; label i + 1 is categories[i].
        label_of: category id → label.
        structure: the findings of reading: what is left out.
    """

    def __init__(self, document: object, name: str, *, not_strict: bool = False) -> None:
        self.name = name
        self.document = _check_root(document, name)
        self.categories = sorted(_records(self.document["categories"], name, "category"), key=lambda c: int(c["id"]))
        self.label_of: dict[int, int] = {c["id"]: i + 1 for i, c in enumerate(self.categories)}
        self.structure: list[Problem] = []
        if not_strict:
            self._report(
                ProblemKind.NOT_STRICT_JSON, [], f"{name}: holds NaN or Infinity, which strict JSON does not allow"
            )
        self._sizes: dict[int, tuple[int, int]] = {}
        self.images = self._usable_images()
        self._of_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.images}
        self._states: dict[Use, dict[int, list[MaskState]]] = {}
        self._index()

    @classmethod
    def read(cls, path: str | Path) -> CocoFile:
        """Reads a file.

        Raises:
            InputError: it is missing, unreadable, not UTF-8, not JSON or not COCO.
        """
        not_strict: list[str] = []
        document = _parse(Path(path), not_strict)
        return cls(document, str(path), not_strict=bool(not_strict))

    @classmethod
    def from_document(cls, document: object, name: str) -> CocoFile:
        """Checks a document that is already in memory; `name` is named in errors."""
        return cls(document, name)

    def size_of(self, image_id: int) -> tuple[int, int]:
        """(H, W) of an image."""
        return self._sizes[image_id]

    def name_of(self, category_id: int) -> str:
        """The name of a category."""
        return str(self.categories[self.label_of[category_id] - 1]["name"])

    def annotations_of(self, image_id: int) -> list[dict[str, Any]]:
        """The annotations of an image whose box can be used, crowds among them, in file order."""
        return self._of_image[image_id]

    def state_of(self, annotation: dict[str, Any], use: Use = "annotated") -> MaskState:
        """The state of the mask of one of `annotations_of`'s."""
        return classify(annotation, self._sizes[annotation["image_id"]], use)

    def states_of(self, image_id: int, use: Use = "annotated") -> list[MaskState]:
        """The states of the masks of `annotations_of(image_id)`, in its order; remembered, as training asks in every epoch."""
        known = self._states.setdefault(use, {})
        if image_id not in known:
            size = self._sizes[image_id]
            known[image_id] = [classify(annotation, size, use) for annotation in self._of_image[image_id]]
        return known[image_id]

    def mask_counts(self, use: Use = "annotated") -> dict[int, int]:
        """Usable masks of each category id, 0 where there is none."""
        counts = dict.fromkeys(self.label_of, 0)
        for image_id, rows in self._of_image.items():
            for annotation, state in zip(rows, self.states_of(image_id, use), strict=True):
                counts[annotation["category_id"]] += state == MaskState.MASK
        return counts

    def masked_categories(self, threshold: int = 10, use: Use = "annotated") -> set[int]:
        """Set A: the category ids with at least `threshold` usable masks."""
        return {category for category, count in self.mask_counts(use).items() if count >= threshold}

    @cached_property
    def problems(self) -> list[Problem]:
        """Every finding that needs no photographs, grouped by kind. Looked for at the first call, as every mask must be measured."""
        from halfmask.coco.checks import check  # checks reads this class

        return check(self)

    def _report(self, kind: ProblemKind, ids: Sequence[int], message: str) -> None:
        self.structure.append(Problem(kind, tuple(ids), message))

    def _usable_images(self) -> list[dict[str, Any]]:
        usable = []
        for image in _records(self.document["images"], self.name, "image"):
            height, width = _whole(image.get("height")), _whole(image.get("width"))
            if height is None or width is None or height * width >= _MOST_PIXELS:
                found = f"width {_brief(image.get('width'))}, height {_brief(image.get('height'))}"
                self._report(
                    ProblemKind.IMAGE_RECORD, [image["id"]], f"image {image['id']}: {found}; expected whole pixels"
                )
                continue
            self._sizes[image["id"]] = (height, width)
            usable.append(image)
        return usable

    def _index(self) -> None:
        for position, annotation in enumerate(self.document["annotations"]):
            if not isinstance(annotation, dict) or not is_id(annotation.get("id")):
                found = f"id {_brief(annotation.get('id'))}" if isinstance(annotation, dict) else _brief(annotation)
                where = f"item {position} of annotations"
                self._report(
                    ProblemKind.ANNOTATION_RECORD, [], f"{where}: {found}; expected an object with a whole number as id"
                )
                continue
            fault = self._fault(annotation)
            if fault:
                kind, message = fault
                self._report(kind, [annotation["id"]], f"annotation {annotation['id']}: {message}")
            else:
                self._of_image[annotation["image_id"]].append(annotation)

    def _fault(self, annotation: dict[str, Any]) -> Finding | None:
        """Why an annotation cannot be used at all."""
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if not is_id(image) or image not in self._sizes:
            return ProblemKind.ORPHAN, f"its image {_brief(image)} is not in the file or cannot be used"
        if not is_id(category) or category not in self.label_of:
            return ProblemKind.ORPHAN, f"its category {_brief(category)} is not in the file"
        bbox = annotation.get("bbox")
        if clip_box(bbox, self._sizes[image]) is not None:
            return None
        return fault_of_box(bbox, self._sizes[image])


def file_name_of(image: dict[str, Any]) -> str:
    """The name of an image's photograph below the images folder: `file_name`, else the end of `coco_url` (LVIS); "" where neither is."""
    name = image.get("file_name")
    if isinstance(name, str) and name:
        return name
    url = image.get("coco_url")
    return PurePosixPath(url).name if isinstance(url, str) else ""


def is_id(value: object) -> bool:
    """Whether a JSON value can be an id: a whole number of 64 bits."""
    return type(value) is int and -_LARGEST_ID <= value < _LARGEST_ID


def _parse(path: Path, not_strict: list[str]) -> object:
    expected = "expected a COCO JSON file"
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {expected} in UTF-8, byte {error.start} is none; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: {expected}, cannot read it: {error.strerror or error}") from error
    if not text.strip():
        raise InputError(f"{path}: {expected}, the file is empty")

    def constant(literal: str) -> float:
        not_strict.append(literal)
        return float(literal)

    try:
        return json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: {expected}, found something else: {error.msg} at {at}") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: {expected}, found something else: {str(error).split(';')[0]}") from error


def _check_root(document: object, name: str) -> Document:
    expected = "expected a COCO instances file (an object with the lists images, annotations, categories)"
    if isinstance(document, list):
        hint = "; looks like a results file (detections): give the annotation file it belongs to"
        raise InputError(f"{name}: {expected}, found a list of {len(document)}{hint}")
    if not isinstance(document, dict):
        raise InputError(f"{name}: {expected}, found {type(document).__name__}")
    missing = [key for key in _LISTS if not isinstance(document.get(key), list)]
    if missing:
        keys = ", ".join(_brief(key) for key in list(document)[:6]) or "no keys at all"
        raise InputError(
            f"{name}: {expected}, {' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not there; found {keys}"
        )
    return document


def _records(records: list[Any], name: str, what: str) -> list[dict[str, Any]]:
    """Image or category records, each an object with an id of its own."""
    seen: set[int] = set()
    for position, record in enumerate(records):
        where = f"{name}: {what} record {position}"
        if not isinstance(record, dict):
            raise InputError(f"{where}: expected an object, found {_brief(record)}")
        if not is_id(record.get("id")):
            raise InputError(
                f"{where}: expected a whole number as id, found {_brief(record.get('id'))}; number the records"
            )
        if what == "category" and not isinstance(record.get("name"), str):
            raise InputError(f"{where} (id {record['id']}): expected a name, found {_brief(record.get('name'))}")
        if record["id"] in seen:
            raise InputError(f"{where}: id {record['id']} is used twice; give every {what} an id of its own")
        seen.add(record["id"])
    return records


def _whole(value: object) -> int | None:
    """A positive whole number, also where a tool wrote it as 640.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value > 0 else None


def _brief(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
