"""What the verbs print and leave: a path as it is, and what was measured though the rest fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.text import Text
from typer.testing import CliRunner

from betavae_core.bench import report
from betavae_core.cli import app
from betavae_core.errors import FailureError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", ["runs/[bold]/kl.png", "runs/:car:/kl.png"])
def test_a_path_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr("betavae_core.gallery.plot", lambda *_, **__: Path(path))
    assert CliRunner().invoke(app, ["plot", "run", "kl"]).stdout == f"{path}\n"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `bench` measures, without measuring."""
    result = {"step": [], "ratios": {}}
    monkeypatch.setattr(report, "run", lambda *_, **__: result)
    monkeypatch.setattr(report, "table", lambda _: Text("a table"))
    monkeypatch.setattr(report, "figure", lambda _: Figure())
    return result


def test_bench_leaves_its_picture_and_its_numbers(measured: dict[str, Any]) -> None:
    result = CliRunner().invoke(app, ["bench", "--out", "some/folder"])
    assert result.exit_code == 0, result.exception
    assert json.loads(Path("some/folder/bench.json").read_text()) == measured
    assert sorted(p.name for p in Path("some/folder").iterdir()) == ["bench.json", "bench.png"]


def test_what_bench_measured_is_kept_where_the_picture_fails(
    monkeypatch: pytest.MonkeyPatch, measured: dict[str, Any]
) -> None:
    def fail(_: Any) -> None:
        raise FailureError("no picture")

    monkeypatch.setattr(report, "figure", fail)
    assert CliRunner().invoke(app, ["bench", "--out", "folder"]).exit_code == 1
    assert json.loads(Path("folder/bench.json").read_text()) == measured


def test_a_write_that_fails_leaves_the_numbers_of_before(
    monkeypatch: pytest.MonkeyPatch, measured: dict[str, Any]
) -> None:
    Path("folder").mkdir()
    Path("folder/bench.json").write_text("of before")

    move = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(target).name == "bench.json":
            raise OSError("the disk is full")
        move(source, target)

    monkeypatch.setattr("os.replace", fail)
    assert CliRunner().invoke(app, ["bench", "--out", "folder"]).exit_code != 0
    assert Path("folder/bench.json").read_text() == "of before"
