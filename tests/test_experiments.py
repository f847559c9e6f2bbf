"""`reproduce`: what an experiment leaves, that it goes on where it stopped, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import betavae_core as bv
from betavae_core import cli, experiments
from betavae_core.experiments import kathiriya_mnist, levy_emnist
from betavae_core.experiments.study import Experiment, Study


def tiny(study: Study) -> list[dict[str, Any]]:
    images = bv.data.from_array(np.eye(64, dtype=np.uint8).reshape(64, 8, 8), name="tiny")
    run = study.train("one", images, arch="mlp", hidden=(8,), latent_dim=2, steps=3)
    study.note("A sentence.")
    assert run.summary is not None
    loss = run.summary["test"]["loss"]
    return [{"name": "loss", "published": None, "ours": loss, "trained": run.summary["seconds"]}]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Experiment("tiny", "Nothing.", tiny), Experiment("hungry", "-", tiny, "a folder")]
    monkeypatch.setattr(experiments, "experiments", lambda: known)


@pytest.mark.usefixtures("registered")
def test_an_experiment_leaves_its_table_and_its_runs(tmp_path: Path) -> None:
    result = experiments.reproduce("tiny", tmp_path)
    assert json.loads((tmp_path / "table.json").read_text()) == result
    assert {"name", "published", "ours"} <= set(result["rows"][0])
    assert "| loss | – |" in (tmp_path / "table.md").read_text()
    assert "- A sentence." in (tmp_path / "table.md").read_text()
    assert (tmp_path / "runs" / "one" / "summary.json").is_file()


@pytest.mark.usefixtures("registered")
def test_an_experiment_trains_nothing_twice(tmp_path: Path) -> None:
    first = experiments.reproduce("tiny", tmp_path)
    again = experiments.reproduce("tiny", tmp_path)
    assert again["rows"] == first["rows"]  # the time that the training took included


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "NAME must be one of tiny, hungry, got 'nosuch'"),
        (["hungry"], "hungry needs --data, a folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli.app, ["reproduce", *arguments])
    assert result.exit_code == 2
    assert result.stderr.strip() == message


def test_every_experiment_has_a_name_of_its_own_and_says_what_it_shows() -> None:
    known = experiments.experiments()
    assert len({experiment.name for experiment in known}) == len(known)
    assert all(experiment.shows.endswith(".") for experiment in known)


def labelled(count: int) -> bv.data.Dataset:
    """Noise of three classes, enough of it for every picture."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    labels = np.arange(count) % 3 + 1
    return bv.data.from_array(images, name="letters", labels=labels)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(Study, "dataset", lambda self, *args, **options: labelled(400))
    return Study(tmp_path, True, None, None, "cpu", 0, lambda *_: None)


def test_kathiriya_leaves_its_six_pictures(study: Study) -> None:
    rows = kathiriya_mnist.run(study)
    assert len(study.figures) == 6
    assert all(Path(figure).is_file() for figure in study.figures)
    assert [row["ours"] > 0 for row in rows] == [True, True]


def test_levy_leaves_a_scatter_and_a_manifold_for_each_beta(study: Study) -> None:
    rows = levy_emnist.run(study)
    assert [Path(figure).stem for figure in study.figures] == [
        f"{kind}-beta-{beta}" for beta in (0, 1, 5) for kind in ("scatter", "manifold")
    ]
    assert [row["published"] for row in rows] == [200.0, 4.0, 0.0]
    assert all(0 < row["ours"] < np.inf for row in rows)
