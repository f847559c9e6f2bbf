"""What the machine is asked for: memory that a training gave back is there for its next step."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Two blocks of 4 MB that come and go, as activations do; a fault is a page taken from the system.
COUNT_FAULTS = """
from contextlib import nullcontext
from resource import RUSAGE_SELF, getrusage
import torch
from betavae_core.hardware import freed_memory_kept

def step():
    return torch.ones(2**20) + torch.ones(2**20)

def faults():
    step()
    before = getrusage(RUSAGE_SELF).ru_minflt
    for _ in range(10):
        step()
    return getrusage(RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
without = faults()
with freed_memory_kept():
    within = faults()
print(without, within)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_freed_in_training_is_not_taken_from_the_system_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True
    )
    without, within = map(int, done.stdout.split())
    assert without > 1000
    assert within < 100
