"""Adds the command line reference to the site, made from the commands themselves.

MkDocs calls the `on_…` functions
(https://www.mkdocs.org/user-guide/configuration/#hooks).
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from halfmask.cli.main import VERBS, app

CLI_PAGE = "reference/cli.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the command line reference."""
    files.append(File.generated(config, CLI_PAGE, content=cli_reference()))
    return files


def cli_reference() -> str:
    """Returns the Markdown page: each command with its text, arguments and options."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    intro = (
        "# Command line\n\n`halfmask COMMAND --help` prints the same text. `--version` and "
        "`--debug` (show tracebacks) go before the command: `halfmask --debug train …`."
    )
    return "\n\n".join([intro, *(_verb(verb, commands[verb]) for verb in VERBS)]) + "\n"


def _verb(name: str, command: Any) -> str:
    kinds = get_type_hints(importlib.import_module(VERBS[name]).run)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [
        p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts
    ]
    usage = " ".join(
        ["halfmask", name, *(_usage(a) for a in arguments), *(["[OPTIONS]"] if options else [])]
    )
    parts = [f"## {name}", f"```text\n{usage}\n```", *_paragraphs(command.help or "")]
    if arguments:
        rows = [f"| `{_cell(_label(a))}` | {_cell(a.help)} |" for a in arguments]
        parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    if options:
        rows = [
            f"| {_flags(o)} | {_kind(o, kinds[o.name])} | {_default(o)} | {_cell(o.help)} |"
            for o in options
        ]
        parts.append(
            "\n".join(["| option | value | default | meaning |", "|---|---|---|---|", *rows])
        )
    return "\n\n".join(parts)


def _paragraphs(text: str) -> list[str]:
    """Returns the paragraphs of a docstring; an example becomes a code block."""
    out = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        start, _, rest = paragraph.partition("halfmask ")
        if start in ("Example: ", "Examples: ", "") and rest:
            out.append(f"```text\nhalfmask {rest}\n```")
        else:
            out.append(paragraph.replace("<", "&lt;"))
    return out


def _label(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _usage(argument: Any) -> str:
    text = _label(argument) + ("…" if argument.nargs == -1 else "")
    return text if argument.required else f"[{text}]"


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])


def _kind(option: Any, annotation: Any) -> str:
    if option.is_flag:
        return ""
    if option.metavar:
        return _cell(option.metavar)
    chosen = [a for a in get_args(annotation) or [annotation] if a is not type(None)]
    if get_origin(annotation) in (Union, UnionType):  # X | None
        annotation = chosen[0]
    if get_origin(annotation) is Literal:
        return " ".join(f"`{choice}`" for choice in get_args(annotation))
    return {int: "number", float: "number", Path: "path"}.get(annotation, "text")


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.is_flag or option.default in (None, [], ()):
        return ""
    return f"`{getattr(option.default, 'value', option.default)}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")
