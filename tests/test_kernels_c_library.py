"""The library of the kernels in C: compiled once, kept whole, and done without where it must be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from kernel_cases import NORMAL_ERROR, needs_c

from betavae_core.kernels.c import library
from betavae_core.reference import philox

SAMPLE = """
import torch
from betavae_core.ops import backend, philox, reparam_kl
from betavae_core.kernels.c import library
zero = torch.zeros(4, 3)
print(backend.choose("auto", zero), library.obstacle() or "nothing")
print(*reparam_kl(zero, zero, philox.make_key(1)).z.flatten().tolist())
"""


def start(cache: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", SAMPLE]
    settings = os.environ | {"XDG_CACHE_HOME": str(cache)} | environment
    return subprocess.Popen(command, env=settings, stdout=-1, stderr=-1, text=True)


def answer(cache: Path, **environment: str) -> list[str]:
    process = start(cache, **environment)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()


def compiled(cache: Path) -> list[Path]:
    return list((cache / "betavae" / "kernels").iterdir())


def test_it_is_compiled_once_by_many_at_a_time_and_again_when_damaged(tmp_path: Path) -> None:
    needs_c()
    begun = [start(tmp_path) for _ in range(4)]
    outputs = {process.communicate(timeout=120)[0] for process in begun}
    assert len(outputs) == 1
    assert outputs.pop().startswith("c nothing")
    (file,) = compiled(tmp_path)
    whole, written = file.read_bytes(), file.stat().st_mtime_ns
    answer(tmp_path)
    assert file.stat().st_mtime_ns == written
    for damaged in (whole[:8192], b"not a library", b""):  # to load the first would be fatal
        file.write_bytes(damaged)
        assert answer(tmp_path)[0] == "c nothing"
        assert file.read_bytes() == whole


def test_without_a_compiler_or_a_place_to_keep_code_the_formulas_do(tmp_path: Path) -> None:
    exact = philox.normal(1, 0, np.arange(4), 3).ravel()
    kept = tmp_path / "a file"
    kept.write_text("where the cache would be")
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\nprintf 'error: unrecognized option\\377' >&2\nexit 1\n")
    failing.chmod(0o755)
    for cache, compiler, reason in (
        (tmp_path, "no-such-compiler", "needs a C compiler, and 'no-such-compiler' is not one"),
        (tmp_path, '"gcc', "cannot keep or load its compiled code: No closing quotation"),
        (tmp_path, str(failing), "could not be compiled by .*failing: error: unrecognized option"),
        (kept, "", "cannot keep or load its compiled code: .*a file"),
    ):
        first, z = answer(cache, CC=compiler)
        assert re.fullmatch(f"torch {reason}.*", first)
        np.testing.assert_allclose(np.fromstring(z, sep=" "), exact, atol=NORMAL_ERROR)


def test_a_compiler_is_called_by_the_name_that_was_given(tmp_path: Path) -> None:
    """ccache and its like are links by many names, and go by the name."""
    needs_c()
    real = library._compiler()[0]
    wrapper, link = tmp_path / "wrapper", tmp_path / "cc"
    script = (
        f'#!/bin/sh\n[ "${{0##*/}}" = cc ] && exec {real} "$@"\necho no such option >&2\nexit 1\n'
    )
    wrapper.write_text(script)
    wrapper.chmod(0o755)
    link.symlink_to(wrapper)
    assert answer(tmp_path / "cache", CC=str(link))[0] == "c nothing"
