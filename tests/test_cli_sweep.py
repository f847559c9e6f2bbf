"""`sweep` as a command: what it prints and leaves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from betavae_core.cli import app

SMALL = ["--arch", "mlp", "--hidden", "8", "--latent-dim", "2", "--steps", "4"]
TINY = ["--data", "digits", "--classes", "0,1", *SMALL]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sweep_prints_its_runs_and_a_recommendation() -> None:
    options = ["--betas", "1,4", "--seeds", "2", "--workers", "2", "--out", "S"]
    result = CliRunner().invoke(app, ["sweep", *TINY, *options, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [(run["beta"], run["seed"]) for run in found["runs"]] == [(1, 0), (1, 1), (4, 0), (4, 1)]
    assert found["recommended"]["beta"] in (1, 4)
    assert json.loads(Path("S/sweep.json").read_text()) == found
    assert Path(found["figure"]).is_file()
    again = CliRunner().invoke(app, ["sweep", *TINY, *options, "--resume"])
    assert again.exit_code == 0
    assert "β" in again.stdout


def test_ctrl_c_says_how_the_sweep_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("betavae_core.populations._train", press)
        result = CliRunner().invoke(app, ["sweep", *TINY, "--betas", "1", "--out", "S"])
    assert result.exit_code == 130
    said, _, command = result.stderr.strip().partition("; go on with: ")
    assert said == "stopped at step 0, all saved in S"
    assert command.endswith(" sweep --out S --resume")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--betas", "1,x"], "x"),
        (["--betas", ""], "--betas"),
        (["--betas", "1", "--gammas", "1"], "--"),
        (["--seeds", "0"], "--seeds must be a whole number >= 1, got 0"),
        (["--resume"], "--resume"),
    ],
)
def test_what_cannot_be_swept_is_said_in_a_line(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["sweep", *TINY, *options])
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(Path().iterdir())
