"""What the machine is asked for: memory kept for the next step, and mathematics of one accuracy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from betavae_core import hardware
from betavae_core.model import evaluating

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


# What ATen/cpu/vml.h of PyTorch hands to MKL.
VECTOR_MATH = (
    *("acos", "asin", "atan", "cos", "erf", "erfc", "erfinv", "exp", "log", "log10"),
    *("log2", "sin", "sqrt", "tan", "tanh", "trunc"),
)

FIRST_CALLS = """
import torch
from torch.utils._python_dispatch import TorchDispatchMode

class Calls(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if args and torch.is_tensor(args[0]) and args[0].numel() == 1:
            print(function.overloadpacket.__name__, args[0].dtype)
        return result

with Calls():
    import betavae_core.ops
"""


def test_the_first_call_of_every_function_of_mkl_is_on_one_thread() -> None:
    """One element is one thread's; two threads could be given code of different accuracy."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS], capture_output=True, text=True, check=True
    )
    calls = done.stdout.splitlines()
    for name in hardware.MKL_FUNCTIONS:
        assert {f"{name} torch.float32", f"{name} torch.float64"} <= set(calls)


def test_no_function_of_mkl_is_called_that_was_not_chosen() -> None:
    root = Path(hardware.__file__).parent
    source = "".join(path.read_text() for path in root.rglob("*.py"))
    called = {name for name in VECTOR_MATH if re.search(rf"(?<!np)\.{name}_?\(", source)}
    assert {"exp", "log"} <= called <= set(hardware.MKL_FUNCTIONS)


def test_evaluation_convolves_in_float32_with_equal_bits_and_gives_cudnn_back() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    with evaluating(torch.nn.Linear(1, 1)):
        assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True)
    assert (cudnn.allow_tf32, cudnn.deterministic) == before
