"""One thread a process, runs that several files look at, and the table of what is promised."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import promises
import pytest
import torch
from kernel_cases import launchers
from run_cases import dying, train
from sweep_cases import quick, sweep, write_images

from betavae_core.ops import backend

torch.set_num_threads(1)  # the tests run side by side, and bits may depend on the thread count


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="try every promise at its full size")


def pytest_configure(config: pytest.Config) -> None:
    promises.run_in_full(config.getoption("--soak"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """A test that holds a promise reports how often it was tried."""
    outcome: Any = yield
    marker, report = item.get_closest_marker("promise"), outcome.get_result()
    if marker is not None and (report.when == "call" or report.failed):
        attempts = promises.taken()
        if report.passed and not attempts:
            report.outcome, report.longrepr = "failed", f"{item.name} tried nothing"
        report.user_properties.append(("promise", (marker.args[0], attempts, not report.failed)))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table, at the end of `make soak`."""
    if not config.getoption("--soak"):
        return
    reports = [r for rs in terminalreporter.stats.values() for r in rs if hasattr(r, "when")]
    found = [value for r in reports for key, value in r.user_properties if key == "promise"]
    table = promises.rows(found)
    width = max(len(row["promise"]) for row in table)
    terminalreporter.write_line(f"\n{'promise':{width}}  {'tried':>9}  {'held':>9}")
    for row in table:
        mark = "" if row["tried"] == row["held"] > 0 else "  NOT HELD"
        line = f"{row['promise']:{width}}  {row['tried']:9,}  {row['held']:9,}{mark}"
        terminalreporter.write_line(line)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return train(tmp_path / "finished").path


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that died at step 25, with a checkpoint of step 20 and a log up to step 21."""
    out = tmp_path / "unfinished"
    dying(monkeypatch, lambda: train(out), 25)
    return out


@pytest.fixture(scope="module")
def sweep_images(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_images(tmp_path_factory.mktemp("data") / "images.npy")


@pytest.fixture(scope="module")
def swept(
    sweep_images: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A finished sweep of β 1 and 4 with three seeds, and its result."""
    out = tmp_path_factory.mktemp("sweeps") / "done"
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        return out, sweep(out, sweep_images, betas=(1, 4), seeds=3)


@pytest.fixture(scope="module", params=["triton", "c"])
def kernels(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The launchers of either kind of kernel."""
    return launchers(request.param)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets backend `triton` run on CPU tensors, as TRITON_INTERPRET=1 does at the start."""
    pytest.importorskip("triton", reason="Triton has no build for this platform")
    monkeypatch.setattr(backend, "_INTERPRETED", True)
