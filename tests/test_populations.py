"""`sweep`: what it trains, leaves and says; what it refuses; and that it trains nothing twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cases import TINY, dying, snapshot
from sweep_cases import assert_same_sweep, quick, sweep, write_images

import betavae_core as bv
from betavae_core import populations
from betavae_core.errors import DataError, FailureError, UsageError
from betavae_core.metrics.mig import mig
from betavae_core.metrics.udr import udr
from betavae_core.populations import State
from betavae_core.populations.member import describe

COLUMNS = {
    *("label", "beta", "beta_norm", "gamma", "capacity_max", "seed", "path"),
    *("recon_nll", "kl", "neg_elbo", "active_latents", "udr"),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


@pytest.fixture(scope="module")
def with_factors(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_images(tmp_path_factory.mktemp("data") / "images.npz")


def test_a_sweep_leaves_every_run_a_result_a_table_and_a_figure(
    swept: tuple[Path, dict[str, Any]],
) -> None:
    out, result = swept
    assert json.loads((out / "sweep.json").read_text()) == result
    assert [(row["beta"], row["seed"]) for row in result["runs"]] == [
        (beta, seed) for beta in (1.0, 4.0) for seed in (0, 1, 2)
    ]
    assert all(set(row) >= COLUMNS for row in result["runs"])
    assert (out / "frontier.png").is_file()
    table = (out / "sweep.md").read_text()
    assert all(row["label"] in table for row in result["runs"])
    assert result["recommended"]["reason"] in table


def test_every_model_is_an_ordinary_run(swept: tuple[Path, dict[str, Any]]) -> None:
    for row in swept[1]["runs"]:
        run = bv.load(row["path"])
        assert run.summary is not None
        assert (run.config.beta, run.config.seed) == (row["beta"], row["seed"])
        assert row["recon_nll"] == run.summary["test"]["recon_nll"]
        assert row["neg_elbo"] == pytest.approx(row["recon_nll"] + row["kl"])
        assert row["beta_norm"] == pytest.approx(row["beta"] * 3 / 64)
        assert bv.train(out=row["path"], resume=True).summary == run.summary  # with its own data


def test_a_model_of_a_sweep_is_the_one_that_train_makes(
    swept: tuple[Path, dict[str, Any]], sweep_images: str, tmp_path: Path
) -> None:
    bv.train(TINY | {"data": sweep_images, "beta": 4.0, "seed": 1}, out=tmp_path / "run")
    one, other = tmp_path / "run", swept[0] / "runs" / "beta-4-seed-1"
    assert (one / "config.toml").read_text() == (other / "config.toml").read_text()
    for file in ("model.safetensors", "metrics.jsonl"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def test_udr_compares_the_models_of_one_setting(swept: tuple[Path, dict[str, Any]]) -> None:
    out, result = swept
    for beta in (1.0, 4.0):
        rows = [row for row in result["runs"] if row["beta"] == beta]
        arrays = [np.load(out / "codes" / f"{row['label']}.npz") for row in rows]
        expected = udr([a["codes"] for a in arrays], [a["kl"] for a in arrays])
        assert [row["udr"] for row in rows] == pytest.approx(list(expected))


def test_factors_bring_mig_and_are_kept_with_the_codes(with_factors: str, tmp_path: Path) -> None:
    result = sweep(tmp_path / "sweep", with_factors, betas=[1, 4], seeds=1)
    assert result["recommended"]["by"] == "mig"
    for row in result["runs"]:
        arrays = np.load(tmp_path / "sweep" / "codes" / f"{row['label']}.npz")
        assert row["mig"] == mig(arrays["codes"], arrays["factors"])
        assert row["udr"] is None


@pytest.mark.parametrize(
    ("axes", "varied"),
    [
        ({"beta_norms": [0.1, 0.2]}, {"beta_norm": [0.1, 0.2]}),
        ({"gammas": [10, 20]}, {"gamma": [10, 20], "capacity_max": [25, 25]}),
        ({"capacities": [5], "gammas": [1, 2]}, {"gamma": [1, 2], "capacity_max": [5, 5]}),
    ],
)
def test_what_varies_may_be_beta_norm_or_the_capacity_objective(
    axes: dict[str, Any], varied: dict[str, list[float]], with_factors: str, tmp_path: Path
) -> None:
    result = sweep(tmp_path / "sweep", with_factors, **axes, seeds=1)
    for name, values in varied.items():
        assert [row[name] for row in result["runs"]] == pytest.approx(values)
    capacity = "gamma" in varied
    assert all((row["beta"] is None) == capacity for row in result["runs"])
    run = bv.load(result["runs"][0]["path"])
    assert run.config.objective == ("capacity" if capacity else "beta")


def test_seeds_count_on_from_the_seed_of_the_settings(with_factors: str, tmp_path: Path) -> None:
    settings = {"seed": 7, "steps": 3}
    result = sweep(tmp_path / "sweep", with_factors, settings=settings, betas=[1], seeds=2)
    assert [row["seed"] for row in result["runs"]] == [7, 8]


def test_one_seed_without_factors_is_said_before_training(
    sweep_images: str, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    with pytest.warns(UserWarning, match="nothing will rank .* needs --seeds 2") as warned:
        result = sweep(out, sweep_images, betas=[1, 4], seeds=1)
    assert len(warned) == 1
    assert result["recommended"]["beta"] is None
    assert "UDR needs two seeds" in result["recommended"]["reason"]
    assert (out / "frontier.png").is_file()


def test_progress_counts_the_steps_of_all_runs(sweep_images: str, tmp_path: Path) -> None:
    states: list[State] = []
    sweep(tmp_path / "sweep", sweep_images, betas=[1, 4], seeds=2, progress=states.append)
    done = [state.done for state in states]
    assert done == sorted(done)
    assert {state.total for state in states} == {4 * TINY["steps"]}
    assert (states[0].done, states[0].running) == (0, ("beta-1-seed-0",))
    assert (states[-1].done, states[-1].running) == (4 * TINY["steps"], ())
    assert len(states[-1].finished) == 4
    assert dict(states[-1].steps) == dict.fromkeys(states[-1].finished, TINY["steps"])


def test_a_finished_sweep_gives_its_result_again_and_touches_nothing(
    swept: tuple[Path, dict[str, Any]],
) -> None:
    out, result = swept
    before = snapshot(out)
    assert sweep(out, resume=True) == result
    assert sweep(out, resume=True, betas=[1, 4], seeds=3, settings={"steps": 30}) == result
    assert snapshot(out) == before


def test_a_sweep_that_died_goes_on_from_its_checkpoint_bit_for_bit(
    swept: tuple[Path, dict[str, Any]],
    sweep_images: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "done"
    dying(monkeypatch, lambda: sweep(out, sweep_images, betas=(1, 4), seeds=3), 25)
    states: list[State] = []
    result = sweep(out, resume=True, progress=states.append)
    assert set(states[0].steps.values()) == {20}  # the last checkpoint before the step of its death
    assert_same_sweep(result, swept[1])


def test_a_run_that_fails_is_named_and_the_others_finish(sweep_images: str, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    with pytest.raises(FailureError, match="2 of 4 runs failed") as failure:
        sweep(out, sweep_images, betas=[1, 1e300], seeds=2)
    assert "beta-1e+300-seed-0: training became non-finite" in str(failure.value)
    assert "go on with --resume" in str(failure.value)
    result = json.loads((out / "sweep.json").read_text())
    assert [row["label"] for row in result["runs"]] == ["beta-1-seed-0", "beta-1-seed-1"]
    assert set(result["failed"]) == {"beta-1e+300-seed-0", "beta-1e+300-seed-1"}
    assert result["recommended"]["beta"] == 1.0
    with pytest.raises(FailureError, match="2 of 4"):  # they are tried again
        sweep(out, resume=True)


@pytest.mark.parametrize("damaged", ["summary.json", "config.toml", "checkpoint/latest.json"])
def test_a_damaged_run_fails_alone_and_can_be_made_again(
    damaged: str,
    sweep_images: str,
    swept: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "done"
    dying(monkeypatch, lambda: sweep(out, sweep_images, betas=(1, 4), seeds=3), 25)
    run = out / "runs" / "beta-1-seed-1"
    (run / damaged).write_bytes(b"\xff")
    with pytest.raises(FailureError, match=f"1 of 6 runs failed.*{damaged}"):
        sweep(out, resume=True)
    shutil.rmtree(run)
    assert_same_sweep(sweep(out, resume=True), swept[1])


def test_where_every_run_fails_there_is_no_result(sweep_images: str, tmp_path: Path) -> None:
    with pytest.raises(FailureError, match=r"4 of 4 runs failed.*; and 1 more; mend"):
        sweep(tmp_path / "sweep", sweep_images, betas=[1e300, 2e300], seeds=2)
    assert not (tmp_path / "sweep" / "sweep.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": [1, 2]}, "--betas was (1.0, 4.0) and is now (1.0, 2.0)"),
        ({"beta_norms": [1]}, "--betas was (1.0, 4.0) and is now None"),
        ({"seeds": 2}, "--seeds was 3 and is now 2"),
        ({"settings": {"steps": 60}}, "--steps was 30 and is now 60"),
        ({"settings": {"seed": 1}}, "--seed was 0 and is now 1"),
    ],
)
def test_another_plan_is_refused(
    options: dict[str, Any], message: str, swept: tuple[Path, dict[str, Any]]
) -> None:
    before = snapshot(swept[0])
    with pytest.raises(UsageError) as refusal:
        sweep(swept[0], resume=True, **options)
    assert message in str(refusal.value)
    assert "in another --out" in str(refusal.value)
    assert snapshot(swept[0]) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": []}, "--betas must be different numbers, got []"),
        ({"betas": [1, 1.0]}, "--betas must be different numbers"),
        ({"betas": ["a"]}, "--betas must be different numbers"),
        ({"betas": [1, -1]}, "--beta must be >= 0, got -1.0"),
        ({"betas": [1], "gammas": [1]}, "not --betas, --gammas"),
        ({"betas": [1], "beta_norms": [1]}, "not --betas, --beta-norms"),
        ({"seeds": 0}, "--seeds must be a whole number >= 1, got 0"),
        ({"seeds": 1.5}, "--seeds must be a whole number"),
        ({"settings": {"objective": "capacity"}}, "give --gammas or --capacities"),
        ({"settings": {"arch": "burgess-conv"}}, "burgess-conv needs sides"),
        ({"settings": {"nosuch": 1}}, "sweep: unknown setting 'nosuch'"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_written(
    options: dict[str, Any], message: str, sweep_images: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refusal:
        sweep(tmp_path / "sweep", sweep_images, **options)
    assert message in str(refusal.value)
    assert not (tmp_path / "sweep").exists()


def test_resume_needs_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no plan\.json; start one without --resume"):
        populations.sweep(out=tmp_path, resume=True)
    with pytest.raises(UsageError, match="--resume needs --out"):
        populations.sweep(resume=True)


def test_a_folder_that_is_not_empty_is_refused_without_resume(
    sweep_images: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty; add --resume"):
        sweep(tmp_path, sweep_images)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(
        '{"axes": {"beta": [1]}, "seeds": 1, "factors": true, "settings": {"steps": -1}}'
    )
    with pytest.raises(DataError, match=r"plan\.json is damaged: --steps must be >= 1"):
        populations.sweep(out=tmp_path, resume=True)


def test_workers_must_be_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(UsageError, match="--workers must be a whole number >= 1, got 0"):
        populations.sweep({"data": "digits", "device": "cpu"}, "never", workers=0)
    assert not Path("never").exists()


def test_an_error_that_the_library_does_not_name_is_told_with_its_place() -> None:
    with pytest.raises(KeyError) as error:
        {}["key"]
    assert describe(error.value).startswith("KeyError: 'key' (test_populations.py, line ")
    assert describe(FailureError("just this")) == "just this"
