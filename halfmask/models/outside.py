"""Parts of a model that come from another package, by their dotted path.

A checkpoint names such a part and does not hold its code. Importing a module runs it,
so a name from a stranger's file is followed only to packages that the user installed;
code that merely lies on the path needs `--trust`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.models.heads.predictors import MaskPredictor
from halfmask.text import listed

TRUST = "HALFMASK_TRUST"
"""Environment variable: with 1, packages that are not installed may be imported too."""
Part = TypeVar("Part", bound=nn.Module)


def is_outside(name: str) -> bool:
    """Returns whether a recipe's name is a dotted path."""
    return "." in name


def outside_predictor(
    name: str, options: Mapping[str, Any], given: Mapping[str, int]
) -> MaskPredictor:
    """Builds a mask predictor of another package.

    Args:
        name: dotted path of a subclass of `MaskPredictor`.
        options: the recipe's keywords.
        given: halfmask's keywords, each passed where the constructor names it:
            channels, side (M), num_classes (K), class_size (D).
    Raises:
        InputError: it is not there, not trusted, no such class, or does not take these.
    """
    kind: type[MaskPredictor] = _class_of(name, MaskPredictor, "mask_head.kind")
    _check_forward(kind, name, ("features", "labels", "class_weights"))
    made = _made(kind, name, options, given=given, key="mask_head.options")
    channels, side = given["channels"], given["side"]
    vectors = torch.zeros((given["num_classes"], given["class_size"]))
    answer = _tried(
        made,
        name,
        torch.zeros((1, channels, side, side)),
        torch.ones(1, dtype=torch.int64),
        vectors,
    )
    _check_shape(answer, (1, side, side), f"mask_head.kind: {name}")
    if not isinstance(getattr(made, "needs_labels", None), bool):
        raise InputError(f"mask_head.kind: {name} lacks `needs_labels`, True or False")
    return made


def outside_trunk(name: str, options: Mapping[str, Any], given: Mapping[str, int]) -> nn.Module:
    """Builds a trunk of another package, a module [R, C, S, S] → [R, width, 2S, 2S].

    Args:
        name: dotted path of a subclass of `torch.nn.Module`.
        options: the recipe's keywords.
        given: halfmask's: in_channels (C), width, side (S).
    Raises:
        InputError: as `outside_predictor`.
    """
    kind: type[nn.Module] = _class_of(name, nn.Module, "mask_head.trunk")
    _check_forward(kind, name, ("features",))
    made = _made(kind, name, options, given=given, key="mask_head.trunk_options")
    side = given["side"]
    answer = _tried(made, name, torch.zeros((1, given["in_channels"], side, side)))
    _check_shape(answer, (1, given["width"], 2 * side, 2 * side), f"mask_head.trunk: {name}")
    return made


def outside_function(
    name: str | None, options: Mapping[str, Any], key: str, *, arguments: int
) -> Callable[..., Tensor] | None:
    """Returns a function of another package with its keywords; None without a name.

    Raises:
        InputError: it is not there, not trusted, or does not take these.
    """
    if name is None:
        if options:
            raise InputError(f"mask_head.{key}_options: there is no `{key}` that would take them")
        return None
    found = _found(name, f"mask_head.{key}")
    if inspect.isclass(found) or not callable(found):
        raise InputError(f"mask_head.{key}: {name} is no function")
    try:
        inspect.signature(found).bind(*range(arguments), **options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"mask_head.{key}: {name} is called with {arguments} arguments and "
            f"{listed(list(options), 5) or 'no keywords'}: {error}"
        ) from error
    return functools.partial(found, **options)


def _found(name: str, key: str) -> Any:
    """Imports what a dotted path names."""
    package = name.split(".")[0]
    _check_trusted(package, name, key)
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{key}: {name} cannot be imported: {error}") from error


def _check_trusted(package: str, name: str, key: str) -> None:
    if package in sys.stdlib_module_names:
        raise InputError(f"{key}: {name} is in Python's own library, not a part of a model")
    if package == "halfmask":
        return
    try:
        spec = importlib.util.find_spec(package)  # of a top package: imports nothing
    except ValueError:
        spec = None
    if spec is None:
        raise InputError(
            f"{key}: {name} is in a package that is not installed here: install {package}, "
            "which this model needs"
        )
    if os.environ.get(TRUST) != "1" and not _is_installed(package, spec.origin):
        raise InputError(
            f"{key}: {name} is code in {spec.origin or 'a folder of the path'}, which nobody "
            f"installed: read it, then add --trust (in Python: {TRUST}=1), or install {package}"
        )


def _is_installed(package: str, origin: str | None) -> bool:
    places = {sysconfig.get_path(key) for key in ("purelib", "platlib")}
    if origin is not None and any(Path(origin).is_relative_to(p) for p in places if p):
        return True
    return package in _installed_packages()  # in place: pip install -e


@functools.cache
def _installed_packages() -> set[str]:
    return set(importlib.metadata.packages_distributions())


def _class_of(name: str, base: type, key: str) -> Any:
    found = _found(name, key)
    if not inspect.isclass(found) or not issubclass(found, base) or inspect.isabstract(found):
        raise InputError(
            f"{key}: {name} is no class that can be built and is a subclass of "
            f"{base.__module__}.{base.__qualname__}"
        )
    return found


def _check_forward(kind: type[nn.Module], name: str, arguments: tuple[str, ...]) -> None:
    try:
        inspect.signature(kind.forward).bind(None, *arguments)
    except TypeError as error:
        raise InputError(f"{name}: expected forward({', '.join(arguments)}): {error}") from error


def _made(
    kind: type[Part], name: str, options: Mapping[str, Any], *, given: Mapping[str, int], key: str
) -> Part:
    """Calls a constructor with the recipe's keywords, and halfmask's that it names."""
    taken = inspect.signature(kind).parameters
    own = {k: v for k, v in given.items() if k in taken}
    both = sorted(own.keys() & options.keys())
    if both:
        raise InputError(f"{key}: {listed(both, 5)} comes from halfmask; remove it")
    try:
        inspect.signature(kind).bind(**own, **options)
    except TypeError as error:
        raise InputError(
            f"{key}: {name} is built with {listed([*own, *options], 9) or 'no keywords'}: {error}; "
            f"halfmask gives {', '.join(given)} where the constructor names them"
        ) from error
    return kind(**own, **options)


def _tried(module: nn.Module, name: str, *inputs: Tensor) -> Any:
    training = module.training
    try:
        with torch.no_grad():
            return module.eval()(*inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{name}: fails on one region of zeros: {error}") from error
    finally:
        module.train(training)


def _check_shape(answer: Any, wanted: tuple[int, ...], key: str) -> None:
    found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    if found != wanted:
        raise InputError(f"{key}: expected an answer {list(wanted)} for one region, found {found}")
