"""How a verb ends: the errors that the library names are one line and an exit code."""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from betavae_core.errors import FailureError, Interrupted, UsageError

ParserError: Any = typer.BadParameter.__mro__[1]  # typer has a click of its own, or PyPI's


class Verbs(TyperGroup):
    """The errors that the library names, as one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            return super().invoke(ctx)
        except UsageError as error:
            self._fail(str(error), 2)
        except Interrupted as stop:
            command = shlex.join([*_program(), stop.verb, "--out", str(stop.path), "--resume"])
            self._fail(f"stopped at step {stop.step}, all saved; go on with: {command}", 130)
        except ParserError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # a group without a verb
                raise
            self._fail(f"{error.format_message()}; see {ctx.info_name} --help", 2)
        except FailureError as error:
            self._fail(str(error), 1)

    def _fail(self, message: str, code: int) -> None:
        print(" ".join(message.split("\n")), file=sys.stderr)
        raise typer.Exit(code)


def _program() -> list[str]:
    """How this program is called, so that a line it prints can be pasted."""
    script = sys.argv[0]
    return [sys.executable, script] if script.endswith(".py") else [Path(script).name]
