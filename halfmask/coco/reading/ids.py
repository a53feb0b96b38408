"""Reads ids as whole numbers, where a tool wrote them as text, as fractions or as names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.records import Document, Record, brief, check_record, file_name_of, is_id
from halfmask.errors import InputError
from halfmask.text import plural

_NUMBER = re.compile(r"-?[0-9]{1,19}")
_EXACT = 1 << 53


def whole_number(value: object) -> int | None:
    """Returns an id that is a whole number, also as "7" or 7.0; None for anything else."""
    if type(value) is int:
        return value if is_id(value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else None
    if isinstance(value, str) and _NUMBER.fullmatch(value) and is_id(int(value)):
        return int(value)
    return None


class RecordIds:
    """The ids of the images, or of the categories, of a file.

    Attributes:
        what: image or category.
        names: id that is a name → its number, from 1 in file order.
        converted: number of their ids that were text or a fraction.
        references: number of annotations whose reference to them was.
        by_alias: number of annotations that name the record instead of its id.
    """

    def __init__(self, what: str, alias: Callable[[Record], str]) -> None:
        self.what = what
        self.names: dict[str, int] = {}
        self.converted = 0
        self.references = 0
        self.by_alias = 0
        self._alias = alias
        self._aliases: dict[str, int | None] = {}
        self._unread: list[tuple[Callable[[], list[str]], list[int]]] = []
        self._number: object = None

    def own(self, record: Any, position: int, name: str) -> Any:
        """Returns an image or category with a whole number as id.

        Args:
            record: an item of its list, in file order.
            position: in the list.
            name: of the file, for messages.
        Raises:
            InputError: it has no usable id, or names and numbers occur side by side.
        """
        value = record.get("id") if isinstance(record, dict) else None
        number = whole_number(value)
        if number is not None:
            self._number = value
            if type(value) is not int:
                self.converted += 1
                record = record | {"id": number}
        elif isinstance(value, str) and value:
            record = self.numbered(record, self.names.setdefault(value, len(self.names) + 1))
        check_record(record, position, name, what=self.what)
        if self.names and self._number is not None:
            raise InputError(
                f"{name}: {self.what} record {position}: ids are names, such as "
                f"{brief(next(iter(self.names)))}, and numbers, such as {brief(self._number)}; "
                f"give every {self.what} a whole number, or every one a name"
            )
        self._also(self._alias(record), record["id"])
        return record

    def own_many(self, numbers: list[int], aliases: Callable[[], list[str]]) -> bool:
        """Takes records whose ids are whole numbers, as `own` does.

        Args:
            numbers: their ids.
            aliases: returns their other names; called if an annotation uses one.
        Returns:
            False if earlier ids are names, so that `own` must refuse one of these.
        """
        if self.names:
            return False
        self._number = numbers[-1] if numbers else self._number
        self._unread.append((aliases, numbers))
        return True

    def _also(self, alias: str, number: int) -> None:
        """Notes another name of a record; it means none if several have it."""
        if self._aliases.setdefault(alias, number) != number:
            self._aliases[alias] = None

    def _meant(self, alias: str) -> int | None:
        while self._unread:
            aliases, numbers = self._unread.pop()
            for other, number in zip(aliases(), numbers, strict=True):
                self._also(other, number)
        return self._aliases.get(alias)

    @staticmethod
    def numbered(record: Record, number: int) -> Record:
        """Returns a record whose id is a name with a number; the name stays in `halfmask`."""
        old = record.get("id")
        if type(old) is int:
            return record
        if whole_number(old) is not None:
            return record | {"id": number}
        note = record.get("halfmask")
        note = note if isinstance(note, dict) else {}
        return record | {"id": number, "halfmask": {**note, "id": old}}

    def reference(self, value: Any) -> Any:
        """Returns the number of the image or category that a value means; else the value."""
        if type(value) is int:
            return value
        if isinstance(value, str) and value in self.names:
            return self.names[value]
        number = whole_number(value)
        if number is not None and not self.names:
            self.references += 1
            return number
        meant = self._meant(value) if isinstance(value, str) and value else None
        self.by_alias += meant is not None
        return value if meant is None else meant


class StandardIds:
    """Reads the ids of a whole file; images and categories come before annotations."""

    def __init__(self) -> None:
        self.images = RecordIds("image", file_name_of)
        self.categories = RecordIds("category", lambda record: str(record.get("name")))
        self.merged: Counter[str] = Counter()
        self._annotations = 0

    def begin_annotations(self) -> None:
        """Forgets what annotations said, before they are read again."""
        self._annotations = 0
        for kind in (self.images, self.categories):
            kind.references = kind.by_alias = 0

    def annotation(self, record: Any) -> Any:
        """Returns an annotation whose three ids are whole numbers where they mean some."""
        if not isinstance(record, dict):
            return record
        own, image, category = (record.get(key) for key in ("id", "image_id", "category_id"))
        if type(own) is type(image) is type(category) is int:
            return record
        number = whole_number(own)
        self._annotations += number is not None and type(own) is not int
        change = {
            "id": own if number is None else number,
            "image_id": self.images.reference(image),
            "category_id": self.categories.reference(category),
        }
        return record | {key: value for key, value in change.items() if key in record}

    def problems(self, name: str) -> list[Problem]:
        """Returns a finding of the file for each way in which its ids differ from COCO's."""
        found = []
        kinds = (self.images, self.categories)
        text = self._annotations + sum(kind.converted + kind.references for kind in kinds)
        if text:
            found.append(
                (ProblemKind.IDS_AS_TEXT, f"{plural(text, 'id')} as text or with a fraction")
            )
        for kind in kinds:
            if kind.names:
                few = ", ".join(f"{brief(n)} is {k}" for n, k in list(kind.names.items())[:2])
                what = f"{plural(len(kind.names), f'{kind.what} id')} that are names: {few}, …"
                found.append((ProblemKind.IDS_ARE_NAMES, what))
            if kind.by_alias:
                what = f"{plural(kind.by_alias, 'annotation')} that name their {kind.what}"
                found.append((ProblemKind.IDS_ARE_NAMES, what))
        if self.merged:
            counts = [plural(n, f"{what} record") for what, n in self.merged.items()]
            found.append((ProblemKind.MERGED_RECORDS, " and ".join(counts)))
        return [Problem(kind, (), f"{name}: {message}") for kind, message in found]


def with_standard_ids(document: Document, name: str) -> tuple[Document, list[Problem]]:
    """Returns a document with whole numbers as ids, each record once, and the findings.

    A record that repeats the first one of its id in every value is left out.

    Args:
        document: has COCO's three lists; it is not changed.
        name: of the file, for messages.
    Raises:
        InputError: see `RecordIds.own`.
    """
    ids = StandardIds()
    out = {}
    for key, kind in (("images", ids.images), ("categories", ids.categories)):
        rows = [kind.own(record, k, name) for k, record in enumerate(document[key])]
        out[key] = once(rows, ids.merged, kind.what)
    rows = [ids.annotation(record) for record in document["annotations"]]
    out["annotations"] = once(rows, ids.merged, "annotation")
    changed = any(
        len(rows) != len(document[key])
        or any(a is not b for a, b in zip(rows, document[key], strict=True))
        for key, rows in out.items()
    )
    return (document | out if changed else document), ids.problems(name)


def once(rows: list[Any], merged: Counter[str], what: str) -> list[Any]:
    """Returns the rows without those that repeat the first of their id in every value.

    Args:
        rows: objects with an id; others stay.
        merged: `what` → how many are left out.
        what: image, category or annotation, whose ids may restart in each image.
    """
    seen: dict[Any, Any] = {}
    kept = []
    for row in rows:
        number = row.get("id") if isinstance(row, dict) else None
        image = row.get("image_id") if isinstance(row, dict) else None
        if not is_id(number) or not (image is None or is_id(image)):
            kept.append(row)
            continue
        first = seen.setdefault((image, number), row)
        if first is not row and first == row:
            merged[what] += 1
        else:
            kept.append(row)
    return kept
