"""`evaluate`: what it says of a run and of codes from anywhere, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import betavae_core as bv
from betavae_core.cli import app

KEYS = {"score", "interval", "ceiling", "floor", "protocol"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ask(*arguments: Any) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(*arguments: Any) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


def codes_file(**arrays: np.ndarray) -> Path:
    truth = np.random.default_rng(0).integers(0, (3, 4, 5), (900, 3))
    np.savez("codes.npz", **({"codes": truth + 0.0, "factors": truth} | arrays))
    return Path("codes.npz")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images with two factors."""
    folder = tmp_path_factory.mktemp("scored")
    y, x = np.indices((8, 8)).reshape(2, -1)
    images = np.zeros((640, 8, 8), np.uint8)
    images[np.arange(640), np.tile(y, 10), np.tile(x, 10)] = 255
    truth = np.tile(np.stack((y, x), 1), (10, 1))
    np.savez(folder / "dots.npz", images=images, factors=truth)
    settings = {"data": str(folder / "dots.npz"), "arch": "mlp", "hidden": (16,), "steps": 30}
    bv.train(bv.Config(**settings, latent_dim=4), out=folder / "run")
    return folder / "run"


def test_codes_from_anywhere_get_every_score_that_was_asked_for() -> None:
    asked = [word for name in ("mig", "sap", "irs") for word in ("--metric", name)]
    found = ask("--codes", codes_file(), "--protocol", "dlib", *asked)["metrics"]
    assert set(found) == {"mig", "sap", "irs"}
    for score in found.values():
        assert set(score) == KEYS
        assert score["interval"][0] <= score["score"] <= score["interval"][1]
        assert score["floor"] < score["ceiling"]


def test_nothing_is_left_behind_of_codes_unless_out_says_where() -> None:
    file = codes_file()
    ask("--codes", file, "--metric", "mig")
    assert [path.name for path in Path().iterdir()] == ["codes.npz"]
    ask("--codes", file, "--metric", "mig", "--out", "scores")
    assert json.loads(Path("scores/metrics.json").read_text())["metrics"]["mig"]["score"] > 0.9
    assert Path("scores/figures/factors-by-latent.png").is_file()


def test_a_run_gets_all_scores_its_likelihood_and_what_needs_no_labels(run: Path) -> None:
    found = ask(run, "--protocol", "fast", "--out", "here")
    assert set(found["metrics"]) == set(bv.metrics.names("fast"))
    assert found["test"]["neg_elbo"] > 0
    parts = found["latents"]
    whole = sum(parts[k] for k in ("mutual_information", "total_correlation", "dimension_wise_kl"))
    assert parts["kl"] == pytest.approx(whole)
    assert json.loads(Path("here/metrics.json").read_text()) == found


def test_a_run_on_data_without_factors_says_what_can_be_said(tmp_path: Path) -> None:
    settings = {"data": "digits", "arch": "mlp", "hidden": (8,), "latent_dim": 2, "steps": 3}
    bv.train(bv.Config(**settings), out=tmp_path / "plain")
    found = ask("plain")
    assert "metrics" not in found
    assert {"test", "train", "latents"} <= set(found)
    assert "digits has no factors" in refusal("plain", "--metric", "mig")


def test_a_person_sees_tables_and_where_the_picture_is(run: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(run), "--metric", "mig", "--out", "here"])
    assert "mig" in result.stdout
    assert "ceiling" in result.stdout
    assert "factors-by-latent.png" in result.stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"codes": np.full((900, 2), np.nan)}, "codes must be finite, found NaN or infinity"),
        ({"codes": np.zeros((5, 2))}, "must be of the same points, got 5, 900"),
        ({"codes": np.zeros(900)}, "codes must be (N, D) numbers, got (900,)"),
        ({"factors": np.zeros((900, 2))}, "factors must vary"),
        ({"codes": np.array([None] * 900)}, "codes.npz"),
    ],
)
def test_bad_arrays_are_named_in_a_line(arrays: dict[str, Any], message: str) -> None:
    assert message in refusal("--codes", codes_file(**arrays))


def test_bad_usage_is_named_in_a_line(run: Path) -> None:
    assert "give the folder of a run, or --codes" in refusal()
    assert "give the folder of a run, or --codes" in refusal(run, "--codes", codes_file())
    assert "no-such-run" in refusal("no-such-run")
    assert "no-such.npz" in refusal("--codes", "no-such.npz")
    Path("other.npz").write_bytes(b"PK no zip")
    assert "other.npz" in refusal("--codes", "other.npz")
    np.savez("lone.npz", codes=np.zeros((4, 2)))
    assert "has no array 'factors', only codes" in refusal("--codes", "lone.npz")
    assert "--protocol must be one of" in refusal("--codes", codes_file(), "--protocol", "dilb")
    assert "--metric must be one of" in refusal("--codes", codes_file(), "--metric", "gim")
    assert "--seed must be >= 0, got -1" in refusal(run, "--seed", "-1")
    assert "--out must be a folder that can be written" in refusal(run, "--out", "other.npz")


def test_a_run_is_not_scored_or_drawn_on_other_images(tmp_path: Path) -> None:
    np.save("images.npy", np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8))
    settings = {"data": "images.npy", "hidden": (8,), "latent_dim": 2, "steps": 3}
    run = bv.train(settings, out="run")
    np.save("images.npy", np.load("images.npy")[::-1])
    for act in (lambda: bv.evaluate(run), lambda: bv.plot("run", "samples")):
        with pytest.raises(bv.UsageError, match="was trained on other images than images"):
            act()
    assert not Path("run/metrics.json").exists()


def test_images_that_were_passed_to_train_are_passed_again() -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)
    run = bv.train({"hidden": (8,), "latent_dim": 2, "steps": 3}, images=images, out="run")
    assert "was trained on an array; pass it as images=" in refusal("run")
    assert bv.evaluate("run", images=images)["latents"]["kl"] > 0
    assert bv.plot(run, "samples", images=images, out="here") == Path("here/samples.png")
    with pytest.raises(bv.UsageError, match="was trained on other images than array"):
        bv.evaluate("run", images=images[:20])


def test_fewer_images_than_latents_get_all_but_the_parts_of_the_kl() -> None:
    images = np.random.default_rng(0).integers(0, 255, (6, 8, 8), np.uint8)
    np.save("few.npy", images)
    bv.train({"data": "few.npy", "hidden": (8,), "latent_dim": 10, "steps": 3}, out="run")
    found = ask("run")["latents"]
    assert found["total_correlation"] is None
    assert found["kl"] > 0
    shown = CliRunner().invoke(app, ["evaluate", "run"])
    assert shown.exit_code == 0
    with pytest.raises(bv.UsageError, match="interpolation needs 8 test images, and few has"):
        bv.plot("run", "interpolation")
