"""What can go wrong, as a user sees it: one line, and an exit code.

UsageError and DataError are the user's to mend, exit code 2; a FailureError is not, 1.
"""

from __future__ import annotations

from pathlib import Path


class UsageError(ValueError):
    """A setting breaks an invariant. The message names the invariant, what came, the remedy."""


class DataError(UsageError):
    """A data source cannot be read. The message names the file, the cause, the remedy."""


class FailureError(RuntimeError):
    """What was asked for went wrong, through no mistake in the asking."""


class TrainingError(FailureError):
    """Training cannot go on; the message names the step, the cause and the remedy."""


class Interrupted(Exception):  # noqa: N818 (it is not an error)
    """The user stopped the run. Everything up to `step` is saved in `path`.

    `command` are the arguments of the command line that goes on.
    """

    verb = "train"

    def __init__(self, step: int, path: Path) -> None:
        super().__init__(f"stopped at step {step}, all saved in {path}")
        self.step, self.path = step, path
        self.command = [self.verb, "--out", str(path), "--resume"]
