"""Which attribute of VIA's regions is their class: VIA's users name attributes as they like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from halfmask.formats.report import ConversionReport
from halfmask.text import listed

NO_CLASS = "object"
"""The class of all regions if none of them has an attribute."""
_NAMES = ("class", "label", "category", "class_name", "classname", "type")
"""Names of attributes that are the class, in lower case; the first that fits counts."""

Attributes = dict[str, Any]


class RegionClass:
    """Finds the class of each region.

    Of one attribute the value is the class. Of several it is that of the one called
    class, label, category or type, else of the one with a list of options, else of the
    one that most regions have. If each region has just one attribute, and all have
    options, as in a project that VIA read from COCO, it is that of any.

    Args:
        declared: `_via_attributes.region`: attribute → type and options.
        regions: the attributes of each region.
        report: notes the choice.
    """

    def __init__(
        self, declared: object, regions: Iterable[Attributes], report: ConversionReport
    ) -> None:
        items = declared.items() if isinstance(declared, dict) else ()
        self._options = {
            str(name): found["options"]
            for name, found in items
            if isinstance(found, dict) and isinstance(found.get("options"), dict)
        }
        used: Counter[str] = Counter()
        most = total = 0
        for attributes in regions:
            names = [name for name, value in attributes.items() if _values(value)]
            used.update(names)
            most, total = max(most, len(names)), total + 1
        self._classes = self._chosen(used, alone=most == 1)
        if not self._classes and total:
            what = f"regions without any attribute: their class is {NO_CLASS!r}"
            report.note(what, times=total)
        if len(used) > len(self._classes) > 0:
            others = listed([n for n in used if n not in self._classes], 5)
            what = "regions in which one of several attributes is the class, the others are kept"
            report.note(what, f"the class is {self._classes[0]!r}, not {others}", total)

    @property
    def names(self) -> list[str]:
        """The classes that the file declares, in its order."""
        return [
            self._shown(attribute, str(option))
            for attribute in self._classes
            for option in self._options.get(attribute, ())
        ]

    def of(self, attributes: Attributes) -> list[str]:
        """Returns the classes of a region: usually one."""
        if not self._classes:
            return [NO_CLASS]
        return [
            self._shown(name, value)
            for name in self._classes
            for value in _values(attributes.get(name))
        ]

    def others(self, attributes: Attributes) -> dict[str, Any]:
        """Returns the attributes of a region that are not its class."""
        texts = {
            str(name): ", ".join(self._shown(name, value) for value in _values(values))
            for name, values in attributes.items()
            if name not in self._classes
        }
        return {name: text for name, text in texts.items() if text}

    def _chosen(self, used: Counter[str], *, alone: bool) -> list[str]:
        if len(used) <= 1:
            return list(used)
        if alone and all(name in self._options for name in used):
            return [name for name in self._options if name in used]
        by_name = {name.casefold(): name for name in reversed(used)}
        named = (by_name[name] for name in _NAMES if name in by_name)
        with_options = (name for name in used if name in self._options)
        return [next(named, None) or next(with_options, None) or used.most_common(1)[0][0]]

    def _shown(self, attribute: str, value: str) -> str:
        """The text that VIA shows for the key of an option."""
        text = self._options.get(attribute, {}).get(value)
        return text.strip() if isinstance(text, str) and text.strip() else value


def _values(value: object) -> list[str]:
    """The values of an attribute: a text or number, or the options that are checked."""
    if isinstance(value, dict):
        return [str(key) for key, checked in value.items() if checked is True]
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    return [str(value)] if type(value) in (int, float) else []
