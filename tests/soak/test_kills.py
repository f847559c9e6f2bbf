"""Runs that are killed at random moments, and resumed, end bit for bit as unbroken ones."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from data_cases import idx, picture_file
from promises import size, tried
from run_cases import IMAGES, TINY, assert_same_run
from soak_cases import Nursery, saved_step

LONG = TINY | {"steps": 240, "log_every": 7, "checkpoint_every": 11}
VARIANTS: dict[str, dict[str, Any]] = {
    "beta fp32 npy": {"beta": 4.0},
    "beta bf16 npz": {"data": "images.npz", "precision": "bf16"},
    "autoencoder adagrad idx": {"data": "idx", "beta": 0.0, "optimizer": "adagrad"},
    "capacity hdf5": {"data": "images.h5", "objective": "capacity", "gamma": 10.0},
    "controlvae bf16": {
        "objective": "controlvae",
        "target_kl": 6.0,
        "precision": "bf16",
        "fp32_steps": 150,
    },
    "geco png": {"data": "pictures", "objective": "geco", "target_recon": 40.0},
    "gaussian": {"likelihood": "gaussian", "sigma": 0.2},
    "convolutions npz": {
        "data": "large.npz",
        "arch": "higgins-conv",
        "steps": 80,
        "checkpoint_every": 3,
    },
    "blobs": {"data": "blobs", "hidden": (8,), "steps": 600, "checkpoint_every": 3},
}
KILLS = 200


def write_sources(folder: Path) -> None:
    """One data set of random images, in every format."""
    np.save(folder / "images.npy", IMAGES)
    np.savez(folder / "images.npz", images=IMAGES)
    np.savez(folder / "large.npz", images=np.tile(IMAGES, (1, 2, 2)) & 1)
    with h5py.File(folder / "images.h5", "w") as file:
        file.create_dataset("images", data=IMAGES)
    (folder / "idx").mkdir()
    (folder / "idx" / "images-idx3-ubyte").write_bytes(idx(IMAGES))
    (folder / "pictures").mkdir()
    for number, image in enumerate(IMAGES):
        (folder / "pictures" / f"{number:02}.png").write_bytes(picture_file(image, "PNG"))


@pytest.fixture(scope="module", autouse=True)
def _sources(nursery: Nursery) -> None:
    write_sources(nursery.folder)


def of(variant: str) -> dict[str, Any]:
    return LONG | {"data": "images.npy"} | VARIANTS[variant]


def killed(nursery: Nursery, out: Path, settings: dict[str, Any], lasts: float) -> bool:
    """Start or resume the run and kill it after a while; False when it was done before that."""
    process = nursery.begin(out, settings)
    time.sleep(random.uniform(0, lasts))
    with suppress(ProcessLookupError):  # it was done
        os.kill(process, signal.SIGKILL)
    status, said = nursery.end()
    assert said == ""
    return os.WIFSIGNALED(status)


@pytest.mark.promise("kill")
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(
    nursery: Nursery, tmp_path: Path, variant: str
) -> None:
    settings, out, stages = of(variant), tmp_path / "run", set()
    began = time.monotonic()
    nursery.finish(tmp_path / "whole", settings)
    lasts, kills = time.monotonic() - began, 0
    wanted = size(2, -(-KILLS // len(VARIANTS)))
    while kills < wanted:
        survived = 0
        while survived < min(3, wanted - kills) and killed(nursery, out, settings, lasts):
            survived += 1
            stages.add(saved_step(out))
        nursery.finish(out, settings)
        assert_same_run(tmp_path / "whole", out)
        tried(survived)
        kills += survived
        shutil.rmtree(out)
    assert len(stages) > wanted / 4, f"the kills came at too few different steps: {stages}"
