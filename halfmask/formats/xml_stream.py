"""Reads XML of strangers: element by element, and without document types, so that no
entity can be expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from halfmask.errors import InputError

_CHUNK = 1 << 16


class XmlError(InputError):
    """The file is no XML that is read here."""


class _Collector(TreeBuilder):
    """Keeps the finished elements of some tags; refuses a DOCTYPE before anything in it
    takes effect.
    """

    def __init__(self, tags: set[str]) -> None:
        super().__init__()
        self.tags = tags
        self.ready: list[Element] = []

    def doctype(self, *_: str | None) -> None:
        raise XmlError("holds a DOCTYPE, which could define entities; remove it")

    def end(self, tag: str) -> Element:
        element = super().end(tag)
        if tag in self.tags:
            self.ready.append(element)
        return element


def elements(path: Path, tags: set[str]) -> Iterator[Element]:
    """The elements of some tags, in the order of their ends; each is emptied when the
    next is asked for.

    Raises:
        XmlError: the file is missing, no well-formed XML, or has a DOCTYPE.
    """
    collector = _Collector(tags)
    parser = XMLParser(target=collector)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                parser.feed(chunk)
                while collector.ready:
                    element = collector.ready.pop(0)
                    yield element
                    element.clear()
            parser.close()
    except XmlError as error:
        raise XmlError(f"{path}: {error}") from error
    except ParseError as error:
        raise XmlError(f"{path}: not well-formed XML: {error}") from error
    except (LookupError, ValueError) as error:  # an encoding that is none
        raise XmlError(f"{path}: not XML that can be read: {error}") from error
    except OSError as error:
        raise XmlError(f"{path}: cannot be read: {error.strerror or error}") from error
    yield from collector.ready


def text_of(element: Element, tag: str) -> str:
    """The text of a child, "" where there is none."""
    return (element.findtext(tag) or "").strip()


def number_of(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None  # nan compares false


def whole_of(text: str | None) -> int:
    """A positive whole number; 0 where it is none."""
    value = number_of(text)
    return int(value) if value is not None and value > 0 and value == int(value) else 0


def xml_text(value: object) -> str:
    """A text as XML may hold it: control characters, which it may not, are replaced."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(value))
