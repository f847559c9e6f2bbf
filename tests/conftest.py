"""One thread a process, and runs that several files look at."""

from pathlib import Path

import pytest
import torch
from run_cases import dying, train

torch.set_num_threads(1)  # the tests run side by side, and bits may depend on the thread count


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return train(tmp_path / "finished").path


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that died at step 25, with a checkpoint of step 20 and a log up to step 21."""
    out = tmp_path / "unfinished"
    dying(monkeypatch, lambda: train(out), 25)
    return out
