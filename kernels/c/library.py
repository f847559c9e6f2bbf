"""The C kernels as a library: compiled for this processor at the first use, kept for the next.

The file's name holds two digests: of all that its code depends on (the sources, the flags, the
compiler and the processor) and of the file itself. So nothing in the folder is ever out of date or
loaded when damaged, and machines may share it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import tempfile
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

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
    try:
        compiler = _compiler()
        folder, key = _folder(), _digest(compiler)
        return ctypes.CDLL(str(_kept(folder, key) or _compile(compiler, folder, key)))
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no home, ValueError: $CC
        raise CompileError(f"cannot keep or load its compiled code: {error}") from error


def _compiler() -> list[str]:
    """The command of the C compiler: $CC, or cc."""
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    path = shutil.which(command[0])
    if not path:
        raise CompileError(f"needs a C compiler, and {command[0]!r} is not one: install gcc")
    return [path, *command[1:]]


def _folder() -> Path:
    """Where compiled code is kept: beside the caches of other programs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "betavae" / "kernels"


def _digest(compiler: list[str]) -> str:
    program = os.path.realpath(compiler[0])
    at = os.stat(program)
    parts = [program, *compiler, *_FLAGS, str(at.st_size), str(at.st_mtime_ns), _processor()]
    return _short(b"\0".join([*map(os.fsencode, parts), *(f.read_bytes() for f in _SOURCES)]))


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _kept(folder: Path, key: str) -> Path | None:
    """What was compiled before, if no byte of it is damaged: loading half a file is fatal."""
    for file in folder.glob(f"{key}-*.so"):
        if file.stem == f"{key}-{_short(file.read_bytes())}":
            return file
    return None


def _processor() -> str:
    """What the compiler may know of the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = [platform.processor()]
    fields = ("vendor_id", "cpu family", "model\t", "stepping", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(fields)) or platform.machine()


def _compile(compiler: list[str], folder: Path, key: str) -> Path:
    """Write the library, whole or not at all, though others may be writing it too."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        built = Path(place) / "built.so"
        sources = [str(source) for source in _SOURCES if source.suffix == ".c"]
        objects = [f"{place}/{Path(source).stem}.o" for source in sources]
        each = zip(sources, objects, strict=True)
        _run_together(*([*compiler, *_FLAGS, "-c", source, "-o", o] for source, o in each))
        _run_together([*compiler, *_FLAGS, *objects, "-o", str(built), "-lm"])
        file = folder / f"{key}-{_short(built.read_bytes())}.so"
        with built.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(built, file)
    return file


def _run_together(*commands: list[str]) -> None:
    """Run commands of the compiler side by side. Raises CompileError when one fails."""
    running = [Popen(c, stdout=DEVNULL, stderr=PIPE, errors="replace") for c in commands]
    said = [process.communicate()[1] for process in running]
    for process, text in zip(running, said, strict=True):
        if process.returncode != 0:
            last = (text.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise CompileError(f"could not be compiled by {commands[0][0]}: {last}")
