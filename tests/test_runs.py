"""A run directory: who may write it, what `--resume` accepts, what `load` finds in it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cases import IMAGES, TINY, Died, dying, resume, snapshot, train, without_pictures

import betavae_core as bv
from betavae_core import DataError, UsageError, trainer
from betavae_core.run_directory import RunDirectory, next_directory, read_config
from betavae_core.storage import write_atomic


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)


def refused(message: str, out: Path, **arguments: Any) -> None:
    """Going on with the run in `out` is refused with `message`, and changes no file."""
    before = snapshot(out)
    with pytest.raises(UsageError, match=message):
        resume(out, **arguments)
    assert snapshot(out) == before


def test_going_on_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="--resume needs --out"):
        bv.train(TINY, images=IMAGES, resume=True)


@pytest.mark.parametrize("kind", ["nothing", "empty", "file"])
def test_going_on_where_there_is_no_run_is_refused_with_the_remedy(
    tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    if kind == "empty":
        out.mkdir()
    elif kind == "file":
        out.write_text("no run")
    with pytest.raises(UsageError) as caught:
        resume(out)
    assert str(caught.value).startswith("--resume needs a run in --out")
    assert "without --resume" in str(caught.value)
    assert out.exists() == (kind != "nothing")


def test_going_on_with_a_finished_run_gives_its_result_and_writes_nothing(finished: Path) -> None:
    before, result = snapshot(finished), bv.load(finished).summary
    assert resume(finished).summary == result
    assert resume(finished, steps=TINY["steps"]).summary == result
    assert snapshot(finished) == before


def test_a_finished_run_needs_its_data_no_more(tmp_path: Path) -> None:
    data = tmp_path / "images.npy"
    np.save(data, IMAGES)
    run = bv.train(TINY | {"data": str(data)}, out=tmp_path / "run")
    data.unlink()
    assert bv.train(out=tmp_path / "run", resume=True).summary == run.summary


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr", 2e-3),
        ("beta", 2.0),
        ("beta_norm", 1.0),
        ("latent_dim", 4),
        ("batch_size", 8),
        ("seed", 1),
        ("optimizer", "adagrad"),
        ("precision", "bf16"),
        ("hidden", (16,)),
        ("objective", "capacity"),
        ("likelihood", "gaussian"),
        ("log_every", 5),
        ("checkpoint_every", 5),
    ],
)
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_a_changed_setting_is_refused_by_name(
    request: pytest.FixtureRequest, state: str, setting: str, value: Any
) -> None:
    out = request.getfixturevalue(state)
    name = setting.removesuffix("_norm").replace("_", "-")
    refused(f"--{name} was .* and is now", out, **{setting: value})


@pytest.mark.parametrize("fewer", [{"steps": 29}, {"epochs": 1.0}])
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_fewer_steps_are_refused(
    request: pytest.FixtureRequest, state: str, fewer: dict[str, Any]
) -> None:
    refused("--steps was 30 and is now", request.getfixturevalue(state), **fewer)


def test_the_same_settings_said_again_are_no_change(unfinished: Path) -> None:
    assert resume(unfinished, **TINY).summary is not None


def test_going_on_keeps_the_precision_that_auto_chose(tmp_path: Path) -> None:
    run = train(tmp_path / "run", precision="fp32")
    longer = bv.Config(**{**TINY, "steps": 35, "precision": "auto", "device": "auto"})
    assert bv.train(longer, images=IMAGES, out=run.path, resume=True).config.precision == "fp32"


def test_a_setting_that_the_file_leaves_open_is_the_default(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out, steps=20, checkpoint_every=1000)
    file = out / "config.toml"
    kept = [line for line in file.read_text().splitlines() if "checkpoint_every" not in line]
    file.write_text("\n".join(kept))
    assert resume(out, steps=30).config.checkpoint_every == 1000


@pytest.mark.parametrize("longer", [{}, {"steps": 50}])
def test_other_images_are_refused_and_touch_nothing(
    unfinished: Path, longer: dict[str, int]
) -> None:
    other = IMAGES.copy()
    other[3, 4, 5] ^= 1
    refused("was trained on other images", unfinished, images=other, **longer)


@pytest.mark.parametrize("settings", [{}, {"steps": TINY["steps"]}])
def test_other_images_do_not_get_the_result_of_a_finished_run(
    finished: Path, settings: dict[str, int]
) -> None:
    refused("was trained on other images", finished, images=255 - IMAGES, **settings)


def test_a_longer_run_on_other_images_keeps_the_result_of_the_shorter(finished: Path) -> None:
    refused("was trained on other images", finished, images=IMAGES[::-1], steps=50)
    assert bv.load(finished).summary is not None


def test_another_machine_is_said(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "environment", lambda device: {"threads": 64})
    with pytest.warns(UserWarning, match="may differ in its last bits"):
        resume(unfinished)


def test_a_folder_that_holds_anything_is_refused(tmp_path: Path, finished: Path) -> None:
    before = snapshot(finished)
    with pytest.raises(UsageError, match="add --resume to go on"):
        train(finished)
    assert snapshot(finished) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="--out must be a new or an empty folder"):
        train(tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert train(tmp_path / "run").summary is not None


def test_a_run_that_died_before_its_settings_were_saved_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_over_settings(path: Path, content: bytes) -> None:
        if path.name == "config.toml":
            path.with_name(".config.toml.partial").write_bytes(content[:10])
            raise Died
        write_atomic(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("betavae_core.run_directory.write_atomic", die_over_settings)
        with pytest.raises(Died):
            train(tmp_path / "run")
    assert not (tmp_path / "run" / "config.toml").exists()
    assert train(tmp_path / "run").summary is not None


@pytest.mark.parametrize("again", [False, True])
def test_a_second_training_in_the_same_folder_is_refused(tmp_path: Path, again: bool) -> None:
    seen = []

    def second(step: int, _: int, __: Any) -> None:
        with pytest.raises(UsageError, match="another training writes") as caught:
            train(tmp_path / "run", resume=again)
        seen.append((step, str(caught.value)))

    first = train(tmp_path / "run", progress=second)
    assert len(seen) == 5
    assert first.summary == bv.load(first.path).summary


def test_a_lock_is_released_when_the_training_ends_however_it_ends(unfinished: Path) -> None:
    RunDirectory.open(unfinished).close()
    with pytest.raises(UsageError):
        resume(unfinished, lr=1.0)
    RunDirectory.open(unfinished).close()


def test_a_number_is_taken_by_one_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: next_directory("array"), range(40)))
    assert len(set(paths)) == 40


def test_runs_are_numbered_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [bv.train(TINY | {"steps": 1}, images=IMAGES).path for _ in range(2)]
    assert paths == [Path("runs/array-1"), Path("runs/array-2")]
    (tmp_path / "runs" / "array-3").write_text("a file counts too")
    assert next_directory("array") == Path("runs/array-4")


def test_only_the_latest_checkpoint_is_kept(finished: Path) -> None:
    assert sorted(os.listdir(finished / "checkpoint")) == ["latest.json", "step-30.safetensors"]


def test_an_unfinished_run_loads_as_its_latest_checkpoint(unfinished: Path, tmp_path: Path) -> None:
    run, twenty = bv.load(unfinished), train(tmp_path / "twenty", steps=20)
    assert run.summary is None
    np.testing.assert_array_equal(run.model.encode(IMAGES).mu, twenty.model.encode(IMAGES).mu)


def test_a_loaded_run_is_the_run_that_was_trained(tmp_path: Path) -> None:
    run = train(tmp_path / "run", likelihood="gaussian", sigma=0.3)
    loaded = bv.load(str(run.path))
    assert loaded.config == run.config == read_config(run.path)
    assert loaded.summary == run.summary
    assert loaded.metrics == run.metrics
    assert not loaded.model.training
    assert (loaded.model.likelihood, loaded.model.sigma) == ("gaussian", 0.3)
    for posterior in ("mu", "logvar"):
        one, other = (getattr(r.model.encode(IMAGES), posterior) for r in (run, loaded))
        np.testing.assert_array_equal(one, other)


def test_loading_what_is_no_run_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"folder of a run.*nothing"):
        bv.load(tmp_path / "nothing")
    dying(monkeypatch, lambda: train(tmp_path / "young"), 3)
    with pytest.raises(UsageError, match="no checkpoint yet; resume it or wait"):
        bv.load(tmp_path / "young")


@pytest.mark.parametrize("text", ["\xff", "beta =", "beta = -1.0", "nosuch = 1", "hidden = 3"])
def test_damaged_settings_are_refused_and_named(finished: Path, text: str) -> None:
    (finished / "config.toml").write_bytes(text.encode("latin-1"))
    for use in (bv.load, resume):
        with pytest.raises((UsageError, DataError)) as caught:
            use(finished)
        assert "config.toml" in str(caught.value)
