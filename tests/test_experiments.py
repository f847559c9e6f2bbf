"""`reproduce`: what an experiment leaves, that it goes on where it stopped, and what it refuses."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import betavae_core as bv
from betavae_core import Config, DataError, Interrupted, cli, experiments, gallery
from betavae_core.data import Dataset
from betavae_core.experiments import (
    burgess_blobs,
    burgess_capacity,
    higgins_table,
    kathiriya_mnist,
    levy_emnist,
)
from betavae_core.experiments.study import Experiment, Study
from betavae_core.runs import images_of
from betavae_core.settings import read_preset


def tiny(study: Study) -> list[dict[str, Any]]:
    settings = {"data": "digits", "classes": "0,1", "arch": "mlp", "hidden": (8,)}
    run = study.train("one", **settings, latent_dim=2, steps=3)
    study.note("A sentence.")
    assert run.summary is not None
    loss = run.summary["test"]["loss"]
    return [{"name": "loss", "published": None, "ours": loss, "trained": run.summary["seconds"]}]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = "higgins-shapes"
    known = [
        Experiment("tiny", "Nothing.", tiny, preset=preset),
        Experiment("hungry", "-", tiny, "a folder", preset=preset),
    ]
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
def test_the_run_of_an_experiment_can_be_plotted_by_itself(tmp_path: Path) -> None:
    experiments.reproduce("tiny", tmp_path)
    picture = gallery.plot(tmp_path / "runs" / "one", "embedding")
    assert picture.is_file()
    run = bv.load(tmp_path / "runs" / "one")
    assert (run.config.data, run.config.classes) == ("digits", "0,1")
    assert set(images_of(run.config).labels.tolist()) == {0, 1}  # type: ignore[union-attr]


@pytest.mark.usefixtures("registered")
def test_an_experiment_trains_nothing_twice(tmp_path: Path) -> None:
    first = experiments.reproduce("tiny", tmp_path)
    again = experiments.reproduce("tiny", tmp_path)
    assert again["rows"] == first["rows"]  # the time that the training took included


@pytest.mark.usefixtures("registered")
def test_folder_and_data_may_be_text_or_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiments.reproduce("tiny", "folder", data="digits")
    assert Path("folder/table.json").is_file()
    np.save("images.npy", np.zeros((9, 8, 8), np.uint8))
    seen = []
    monkeypatch.setattr(Study, "train", lambda study, *_, **__: seen.append(study.dataset().name))
    with pytest.raises(AttributeError):  # of the run that it did not train
        experiments.reproduce("tiny", Path("other"), data=Path("images.npy"))
    assert seen == ["images"]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "NAME must be one of tiny, hungry, got 'nosuch'"),
        (["hungry"], "hungry needs --data, a folder"),
        (["tiny", "--seed", "-1"], "--seed must be >= 0, got -1"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli.app, ["reproduce", *arguments])
    assert result.exit_code == 2
    assert result.stderr.strip() == message


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("latent-size", "digits", "factors that vary, as shapes2d has; digits has no factors"),
        ("higgins-table", "digits", "factors that vary, as shapes2d has; digits has no factors"),
        ("burgess-blobs", "digits", "the factors x and y, as blobs has; digits has no factors"),
        (
            "burgess-blobs",
            "headlike",
            "the factors x and y, as blobs has; headlike has shape, azimuth, elevation, lighting",
        ),
    ],
)
def test_data_without_the_factors_that_are_needed_are_refused_before_any_training(
    tmp_path: Path, name: str, data: str, message: str
) -> None:
    options = ["--quick", "--data", data, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, ["reproduce", name, *options])
    assert result.exit_code == 2, result.exception
    assert result.stderr == f"this experiment needs data with {message}\n"
    assert not (tmp_path / "out").exists()


def of_factors(*rows: tuple[int, int]) -> Dataset:
    images = np.zeros((len(rows), 8, 8, 1), np.uint8)
    return Dataset("six", images, 255, (1, 8, 8), factors=np.array(rows), factor_names=("a", "b"))


def test_a_grid_is_every_combination_of_the_factors_in_order() -> None:
    order = [(a, b) for a in (0, 5) for b in (1, 2, 3)]
    assert higgins_table.grid(of_factors(*order)) == (2, 3)
    for rows in (order[:-1], [*order[:-1], order[0]], order[::-1]):
        with pytest.raises(DataError, match="one image of each combination of the factors, in ord"):
            higgins_table.grid(of_factors(*rows))


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch, registered: None) -> None:
    """The experiment `tiny`, which is stopped in its training by Ctrl-C."""

    def stop(*_: Any, out: Path, **__: Any) -> None:
        raise Interrupted(2, out)

    monkeypatch.setattr("betavae_core.experiments.study.train", stop)


@pytest.mark.usefixtures("stopping")
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--quick", "--data", "digits", "--classes", "0,1", "--device", "cpu", "--seed", "3"],
    ],
)
def test_ctrl_c_says_how_the_experiment_goes_on(tmp_path: Path, options: list[str]) -> None:
    arguments = ["reproduce", "tiny", *options, "--out", str(tmp_path / "my folder")]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 130
    said, _, command = result.stderr.strip().partition("; go on with: ")
    assert said == f"stopped at step 2, all saved in {tmp_path / 'my folder' / 'runs' / 'one'}"
    assert shlex.split(command)[-len(arguments) :] == arguments


@pytest.mark.usefixtures("registered")
def test_ctrl_c_outside_a_training_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Study, "note", press)
    result = CliRunner().invoke(cli.app, ["reproduce", "tiny", "--out", str(tmp_path)])
    assert result.exit_code == 130
    said = result.stderr.splitlines()[-1]
    assert said.startswith(f"stopped, all finished models saved in {tmp_path}; go on with: ")
    assert said.endswith(f" reproduce tiny --out {tmp_path}")


def test_every_experiment_has_its_papers_settings_as_a_preset() -> None:
    for experiment in experiments.experiments():
        Config(**read_preset(experiment.preset or experiment.name))


def test_every_experiment_has_a_name_of_its_own_and_says_what_it_shows() -> None:
    known = experiments.experiments()
    assert len({experiment.name for experiment in known}) == len(known)
    assert all(experiment.shows.endswith(".") for experiment in known)


def study(preset: str, out: Path) -> Study:
    """Of three classes of scikit-learn's digits."""
    return Study(preset, out, True, "digits", "1-3", "cpu", 0, lambda *_: None)


def test_kathiriya_leaves_its_six_pictures(tmp_path: Path) -> None:
    digits = study("kathiriya-mnist", tmp_path)
    rows = kathiriya_mnist.run(digits)
    assert len(digits.figures) == 6
    assert all(Path(figure).is_file() for figure in digits.figures)
    assert [row["ours"] > 0 for row in rows] == [True, True]


def test_levy_leaves_a_scatter_and_a_manifold_for_each_beta(tmp_path: Path) -> None:
    digits = study("levy-emnist", tmp_path)
    rows = levy_emnist.run(digits)
    assert [Path(figure).stem for figure in digits.figures] == [
        f"{kind}-beta-{beta}" for beta in (0, 1, 5) for kind in ("scatter", "manifold")
    ]
    assert [row["published"] for row in rows] == [200.0, 4.0, 0.0]
    assert all(0 < row["ours"] < np.inf for row in rows)


def test_the_capacity_can_be_raised_on_data_without_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"steps": 60, "capacity_steps": 60, "arch": "mlp", "hidden": (8,)}
    monkeypatch.setattr(burgess_capacity, "QUICK", small)
    digits = study("burgess-shapes", tmp_path)
    burgess_capacity.run(digits)
    assert [Path(figure).stem for figure in digits.figures] == ["kl-over-capacity", "traversals"]
    assert any("needs data with the factors" in note for note in digits.notes)


def test_blobs_are_aligned_where_one_latent_follows_x_and_another_y() -> None:
    x, y = 0, 1
    straight = np.array([[0.1, 0.99], [0.98, 0.2], [0.3, 0.3]])
    assert burgess_blobs.aligned(straight) == (0.98, 0.99)
    assert burgess_blobs.aligned(np.array([[0.7, 0.9], [0.6, 0.9]])) == (0.7, 0.9)
    assert burgess_blobs.aligned(np.array([[1.0, 1.0]])) == (0.0, 0.0)
    blobs = bv.data.load("blobs")
    assert blobs.factors is not None
    codes = np.stack([blobs.factors[:, 0] ** 3, -blobs.factors[:, 1]], 1).astype(np.float32)
    ranks = burgess_blobs.rank_correlations(codes, blobs)  # the factors are y and x
    assert np.round(ranks, 6).tolist() == [[0, 1], [-1, 0]]
    assert (ranks[0, y], ranks[1, x]) == (1, -1)
    turned = replace(blobs, factors=blobs.factors[:, ::-1], factor_names=("x", "y"))
    assert np.round(burgess_blobs.rank_correlations(codes, turned), 6).tolist() == [[0, 1], [-1, 0]]
