"""The C kernels as a library: compiled for this processor at the first use, kept for the next.

The file's name holds a digest of all that its code depends on: the sources, the flags, the compiler
and the processor. So nothing in the folder is ever out of date, and machines may share it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

_SOURCES = tuple(sorted(Path(__file__).parent.glob("*.[ch]")))
_WIDE = ("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()
_FLAGS = (
    *("-std=c11", "-O3", "-march=native", *_WIDE, "-fopenmp", "-shared", "-fPIC"),
    # a + b c may be rounded once; nobody reads errno or the flags of exceptions
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
)


class CompileError(Exception):
    """Why there are no C kernels here, as a clause: "needs ..."."""


@cache
def obstacle() -> str:
    """Why there are no C kernels here, or nothing. The first call may compile: half a second."""
    try:
        library()
    except CompileError as error:
        return str(error)
    return ""


def identity() -> str:
    """What the last bits of the kernels depend on, as twelve hexadecimal digits."""
    return _digest(_compiler())


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels. Raises CompileError where there can be none."""
    compiler = _compiler()
    file = _folder() / f"{_digest(compiler)}.so"
    with suppress(OSError):  # not compiled yet, or damaged
        return ctypes.CDLL(str(file))
    try:
        _compile(compiler, file)
        return ctypes.CDLL(str(file))
    except OSError as error:
        raise CompileError(f"cannot keep or load its compiled code: {error}") from error


def _compiler() -> list[str]:
    """The command of the C compiler: $CC, or cc."""
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    path = shutil.which(command[0])
    if not path:
        raise CompileError(f"needs a C compiler, and {command[0]!r} is not one: install gcc")
    return [os.path.realpath(path), *command[1:]]


def _folder() -> Path:
    """Where compiled code is kept: beside the caches of other programs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "betavae" / "kernels"


def _digest(compiler: list[str]) -> str:
    at = os.stat(compiler[0])
    parts = [*compiler, *_FLAGS, str(at.st_size), str(at.st_mtime_ns), _processor()]
    content = b"\0".join([*map(str.encode, parts), *(file.read_bytes() for file in _SOURCES)])
    return hashlib.sha256(content).hexdigest()[:12]


def _processor() -> str:
    """What the compiler may know of the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = [platform.processor()]
    fields = ("vendor_id", "cpu family", "model\t", "stepping", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(fields)) or platform.machine()


def _compile(compiler: list[str], file: Path) -> None:
    """Write `file`, whole or not at all, though others may be writing it too."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(source) for source in _SOURCES if source.suffix == ".c"]
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        built = Path(folder) / file.name
        command = [*compiler, *_FLAGS, *sources, "-o", str(built), "-lm"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            last = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
            raise CompileError(f"could not be compiled by {compiler[0]}: {last}")
        with built.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(built, file)
