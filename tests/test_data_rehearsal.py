"""A rehearsal finds what hangs or crashes, and leaves everything else to the performance."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from betavae_core.data.rehearsal import rehearse
from betavae_core.errors import DataError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")


def fail() -> None:
    raise ValueError("lost")


def leave() -> None:
    sys.exit(3)


@pytest.mark.parametrize("work", [lambda: 1, fail, leave])
def test_what_comes_to_an_end_is_fine_however_it_ends(work: Callable[[], object]) -> None:
    rehearse(work)


def test_what_hangs_is_stopped_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("betavae_core.data.rehearsal._LIMIT", 0.2)
    start = time.monotonic()
    with pytest.raises(DataError, match="does not come to an end"):
        rehearse(lambda: time.sleep(600))
    assert time.monotonic() - start < 30


def test_what_crashes_is_said() -> None:
    with pytest.raises(DataError, match=rf"crashes \(signal {signal.SIGKILL:d}\)"):
        rehearse(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_nothing_is_changed_or_printed_here(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []

    def work() -> None:
        os.write(1, b"never seen")
        seen.append(1)
        (tmp_path / "trace").touch()

    rehearse(work)
    assert seen == []
    assert (tmp_path / "trace").exists()
    assert capfd.readouterr() == ("", "")


def test_no_child_is_left_behind() -> None:
    rehearse(fail)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_where_nothing_can_be_forked_nothing_is_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")
    rehearse(lambda: os.kill(os.getpid(), signal.SIGKILL))
