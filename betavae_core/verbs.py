"""How a verb ends: the errors that the library names are one line and an exit code."""

from __future__ import annotations

import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from betavae_core.errors import FailureError, Interrupted, UsageError

ParserError: Any = typer.BadParameter.__mro__[1]  # typer has a click of its own, or PyPI's

_NUMBERS = {"int": "a whole number", "float": "a number"}
_TOO_MANY = re.compile(r"unexpected extra arguments?(?:\(s\))? \((.*)\)")


class Verbs(TyperGroup):
    """The errors that the library names, as one line and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        with _ending(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        with _ending(ctx):
            return super().invoke(ctx)


@contextmanager
def _ending(ctx: Any) -> Iterator[None]:
    """Ends the program where what goes on within raises an error that has a name."""
    try:
        yield
    except UsageError as error:
        _fail(str(error), 2)
    except Interrupted as stop:
        _fail(f"{stop}; go on with: {shlex.join([*_program(), *stop.command])}", 130)
    except ParserError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a verb
            raise
        verb = f"{ctx.command_path} {ctx.invoked_subcommand or ''}".rstrip()
        verb = error.ctx.command_path if error.ctx else verb
        _fail(f"{_mistake(error)}; see {verb} --help", 2)
    except FailureError as error:
        _fail(str(error), 1)


def _fail(message: str, code: int) -> None:
    print(" ".join(message.split("\n")), file=sys.stderr)
    raise typer.Exit(code)


def _mistake(error: Any) -> str:
    """What the parser says, and what it leaves out: the value that came, where data belong."""
    said = str(error.format_message()).removesuffix(".")
    if hasattr(error.__cause__, "errors"):  # pydantic's; PyPI's click names the value itself
        first = error.__cause__.errors()[0]
        kind = first["type"].partition("_")[0]
        return f"{error.param.opts[0]} must be {_NUMBERS.get(kind, kind)}, got {first['input']!r}"
    extra = _TOO_MANY.search(said)
    if extra and any("--data" in parameter.opts for parameter in error.ctx.command.params):
        return f"{error.ctx.info_name} takes its data as --data {extra[1]}"
    return said


def _program() -> list[str]:
    """How this program is called, so that a line it prints can be pasted."""
    script = sys.argv[0]
    return [sys.executable, script] if script.endswith(".py") else [Path(script).name]
