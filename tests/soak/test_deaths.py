"""A process, or a disk, that fails at any one change of a save leaves a checkpoint that loads."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from promises import size, tried
from run_cases import IMAGES, TINY, assert_same_run
from soak_cases import Nursery, saved_step
from sweep_cases import write_images

import betavae_core as bv

SETTINGS: dict[str, Any] = TINY | {"data": "images.npy"}
NEVER = 10**9
DEATHS = [
    pytest.param("die", marks=pytest.mark.promise("death")),
    pytest.param("power", marks=pytest.mark.promise("power")),
]
FAILURES = [pytest.param(name, marks=pytest.mark.promise("disk")) for name in ("full", "locked")]
EXIT_OF_AN_ERROR = 3 << 8  # the wait status of a child that said its error in one line


@pytest.fixture(scope="module")
def whole(nursery: Nursery) -> tuple[Path, list[str]]:
    """An unbroken run, and the changes of the disk that it made."""
    np.save(nursery.folder / "images.npy", IMAGES)
    out = nursery.folder / "whole"
    status, said = nursery.run(out, SETTINGS, [NEVER, "die"])
    assert status == 0, said
    return out, said.partition("changes: ")[2].split()


def some(changes: list[str]) -> range:
    """The changes to fail at: all of them, or every few in `make test`."""
    return range(0, len(changes), size(9, 1))


def check_saved(out: Path, said: str) -> None:
    """The last step that a run had saved is there to load, or a later one."""
    steps = [int(line.split()[1]) for line in said.splitlines() if line.startswith("saved ")]
    assert saved_step(out) >= max(steps, default=-1)
    if saved_step(out) >= 0:
        assert bv.load(out).config.steps == SETTINGS["steps"]


def test_a_run_makes_changes_of_every_kind(whole: tuple[Path, list[str]]) -> None:
    kinds = {"mkdir", "open", "write", "flush", "fsync", "replace", "fsync-folder", "unlink"}
    assert kinds <= set(whole[1])


@pytest.mark.parametrize("mode", DEATHS)
def test_a_run_that_dies_at_any_change_goes_on_bit_for_bit(
    nursery: Nursery, tmp_path: Path, whole: tuple[Path, list[str]], mode: str
) -> None:
    unbroken, changes = whole
    for at in some(changes):
        out = tmp_path / str(at)
        status, said = nursery.run(out, SETTINGS, [at, mode])
        assert status == signal.SIGKILL, said
        check_saved(out, said)
        nursery.finish(out, SETTINGS)
        assert_same_run(unbroken, out)
        tried()


@pytest.mark.parametrize("mode", FAILURES)
def test_a_disk_that_takes_no_more_is_one_line_and_the_checkpoint_before_loads(
    nursery: Nursery, tmp_path: Path, whole: tuple[Path, list[str]], mode: str
) -> None:
    unbroken, changes = whole
    cause = {"full": "No space left on device", "locked": "Permission denied"}[mode]
    for at in some(changes):
        out = tmp_path / str(at)
        status, said = nursery.run(out, SETTINGS, [at, mode])
        if status == 0:  # nothing that this disk refuses came after
            assert mode == "full" or "unlink" not in changes[at:]
        else:
            error = [line for line in said.splitlines() if not line.startswith("saved ")]
            assert (status, len(error)) == (EXIT_OF_AN_ERROR, 1), said
            assert cause in error[0]
            assert str(out) in error[0]
        check_saved(out, said)
        nursery.finish(out, SETTINGS)
        assert_same_run(unbroken, out)
        tried()


SWEEP: dict[str, Any] = {
    "config": SETTINGS | {"data": "images.npz", "steps": 12, "checkpoint_every": 5},
    "betas": [1, 4],
    "seeds": 1,
}


@pytest.fixture(scope="module")
def whole_sweep(nursery: Nursery) -> tuple[Path, list[str]]:
    """As `whole`, of a sweep of two models."""
    write_images(nursery.folder / "images.npz")
    (nursery.folder / "one").mkdir()
    out = nursery.folder / "one" / "sweep"
    status, said = nursery.run(out, SWEEP, [NEVER, "die"], sweep=True)
    assert status == 0, said
    return out, said.partition("changes: ")[2].split()


@pytest.mark.parametrize("mode", DEATHS + FAILURES)
def test_a_sweep_that_fails_at_any_change_goes_on_bit_for_bit(
    nursery: Nursery, tmp_path: Path, whole_sweep: tuple[Path, list[str]], mode: str
) -> None:
    unbroken, changes = whole_sweep
    for at in some(changes):
        out = tmp_path / str(at) / "sweep"
        out.parent.mkdir()
        status, said = nursery.run(out, SWEEP, [at, mode], sweep=True)
        assert status in (0, signal.SIGKILL, EXIT_OF_AN_ERROR), said
        assert (status == signal.SIGKILL) == (mode in ("die", "power"))
        assert all(line.startswith("saved ") for line in said.splitlines()[:-1])
        nursery.finish(out, SWEEP, sweep=True)
        for run in sorted((unbroken / "runs").iterdir()):
            assert_same_run(run, out / "runs" / run.name)
        assert result_of(out) == result_of(unbroken)
        tried()


def result_of(sweep: Path) -> dict[str, Any]:
    """What sweep.json says, but for the folder that it is in."""
    text = (sweep / "sweep.json").read_text(encoding="utf-8")
    return json.loads(text.replace(str(sweep), "sweep"))
