"""The oracle stands on NumPy alone, so that it loads in an instant and judges without bias."""

from __future__ import annotations

import subprocess
import sys

IMPORT = """
import sys
from betavae_core.reference import (
    bernoulli_nll, checks, gaussian_nll, layers, model, objectives, optimizers, philox, reparam_kl,
)
{more}
heavy = {{"torch", "triton", "scipy", "sklearn", "matplotlib"}} & sys.modules.keys()
sys.exit(f"imported {{sorted(heavy)}}" if heavy else 0)
"""


def run_import(more: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT.format(more=more)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_oracle_imports_no_torch() -> None:
    result = run_import()
    assert result.returncode == 0, result.stderr


def test_the_test_above_can_fail() -> None:
    result = run_import("import torch")
    assert result.returncode == 1
    assert "imported ['torch'" in result.stderr
