"""One writer at a time; readers at any time; logs of whole lines."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from promises import size, tried
from run_cases import IMAGES, TINY, assert_same_run, resume, snapshot, train, without_pictures
from soak_cases import Nursery, saved_step

import betavae_core as bv
from betavae_core import run_directory

BUSY: dict[str, Any] = TINY | {"data": "images.npy", "steps": 10**6, "checkpoint_every": 2}


@pytest.fixture(scope="module", autouse=True)
def _sources(nursery: Nursery) -> None:
    np.save(nursery.folder / "images.npy", IMAGES)


@pytest.mark.promise("one-writer")
def test_a_second_training_into_a_folder_is_refused(nursery: Nursery, tmp_path: Path) -> None:
    with closing(Nursery(nursery.folder)) as other:
        for number in range(size(2, 20)):
            out = tmp_path / str(number)
            first = nursery.begin(out, BUSY)
            wait_for_step(out, 2)
            os.kill(first, signal.SIGSTOP)
            before = snapshot(out)
            status, said = other.run(out, BUSY)
            assert (status, len(said.splitlines())) == (3 << 8, 1)
            assert "--out must not be in use" in said
            assert snapshot(out) == before
            os.kill(first, signal.SIGKILL)
            nursery.end()
            tried()


def wait_for_step(out: Path, step: int) -> None:
    """Until the run in `out`, which another process trains, has saved that step."""
    while saved_step(out) < step:
        time.sleep(0.001)


@pytest.fixture
def busy(nursery: Nursery, tmp_path: Path) -> Iterator[Path]:
    """A run that trains, and saves every other step, while the test goes on."""
    process = nursery.begin(tmp_path / "busy", BUSY)
    wait_for_step(tmp_path / "busy", 2)
    yield tmp_path / "busy"
    os.kill(process, signal.SIGKILL)
    nursery.end()


@pytest.mark.promise("reader")
def test_a_run_that_is_read_while_it_trains_is_whole(busy: Path) -> None:
    steps = set()
    for _ in range(size(50, 2000)):
        rows = bv.load(busy).metrics
        assert all(set(row) >= {"step", "loss"} for row in rows)
        steps.add(saved_step(busy))
        tried()
    assert len(steps) > size(5, 100)


@pytest.mark.promise("reader")
def test_a_reader_so_slow_that_its_checkpoint_is_gone_reads_the_next(
    busy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = run_directory.read_weights
    for _ in range(size(3, 100)):
        delays = [4]  # steps that the run is ahead when its checkpoint is read; then none

        def slow(path: Path, sha256: str, delays: list[int] = delays) -> Any:
            if delays:
                wait_for_step(busy, saved_step(busy) + delays.pop())
                assert not path.exists()
            return read(path, sha256)

        monkeypatch.setattr(run_directory, "read_weights", slow)
        bv.load(busy)
        assert not delays
        tried()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        return train(tmp_path_factory.mktemp("whole") / "run").path


@pytest.mark.promise("log")
def test_torn_and_surplus_lines_of_the_logs_are_gone_after_resuming(
    tmp_path: Path, unfinished: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pictures(monkeypatch)
    for number in range(size(10, 200)):
        out = tmp_path / str(number)
        shutil.copytree(unfinished, out)
        for name in ("metrics.jsonl", "timings.jsonl"):
            rows = (out / name).read_bytes() * random.randint(1, 3)
            torn = rows[: random.randint(0, len(rows))]
            with open(out / name, "ab") as log:
                log.write(torn)
        resume(out)
        assert_same_run(whole, out)
        for name in ("metrics.jsonl", "timings.jsonl"):
            lines = (out / name).read_text().split("\n")
            assert lines.pop() == ""
            assert [json.loads(line)["step"] for line in lines] == [7, 14, 21, 28, 30]
        tried()
