"""`pytest bench` measures, alone in its process, where the tests would run each once, untimed."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Undo `-n 2` and `--benchmark-disable` where nothing but this folder was asked for."""
    here = Path(__file__).parent
    paths = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    if all(path == here or here in path.parents for path in paths):
        config.option.numprocesses = 0
        config.option.benchmark_disable = False
