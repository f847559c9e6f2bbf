"""The command line: what each verb prints and leaves, and that the library is what it calls."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cases import IMAGES, ROW, SPLIT, SUMMARY, snapshot
from typer.main import get_command
from typer.testing import CliRunner, Result

import betavae_core as bv
from betavae_core.cli import app

FAST = [
    "--arch",
    "mlp",
    "--hidden",
    "32",
    "--latent-dim",
    "3",
    "--steps",
    "20",
    "--batch-size",
    "16",
]
FAST += ["--device", "cpu"]
KINDS = ("reconstructions", "traversals", "kl", "training")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, that holds images; the handler of warnings put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    np.save("images.npy", IMAGES)


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: Any) -> Result:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def answer(*arguments: Any) -> dict[str, Any]:
    """The one JSON object that a verb prints on stdout, and nothing else."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    stdout = succeed(*arguments, "--json").stdout
    assert stdout.endswith("}\n")
    assert stdout.count("\n") == 1
    result = json.loads(stdout, parse_constant=refuse)
    assert isinstance(result, dict)
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    np.save(folder / "images.npy", IMAGES)
    config = {"data": str(folder / "images.npy"), "hidden": (32,), "latent_dim": 3}
    return bv.train(config | {"steps": 20, "log_every": 10}, out=folder / "run").path


@pytest.fixture
def run(trained: Path) -> Path:
    """A copy of a trained run, whose data set is still there."""
    return Path(shutil.copytree(trained, "run"))


def verbs(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb, and the verbs of every group."""
    for name, inner in getattr(command or get_command(app), "commands", {}).items():
        yield (*path, name)
        yield from verbs(inner, (*path, name))


def test_the_verbs_of_this_release_are_there() -> None:
    expected = {("train",), ("plot",), ("data", "list"), ("data", "inspect"), ("check",)}
    assert set(verbs()) >= expected


@pytest.mark.parametrize("verb", [(), *verbs()], ids=" ".join)
def test_every_verb_explains_itself(verb: tuple[str, ...]) -> None:
    result = succeed(*verb, "--help")
    assert "Usage:" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("verb", [verb for verb in verbs() if verb != ("data",)], ids=" ".join)
def test_every_verb_can_print_json(verb: tuple[str, ...]) -> None:
    assert "--json" in succeed(*verb, "--help").stdout


def test_the_version_is_the_librarys() -> None:
    assert succeed("--version").stdout == f"betavae {bv.__version__}\n"


def test_train_prints_its_summary_and_nothing_else() -> None:
    summary = answer("train", "images.npy", *FAST, "--out", "run", "--seed", 3, "--beta", 0.5)
    assert set(summary) >= SUMMARY
    assert set(summary["train"]) == set(summary["test"]) == SPLIT
    assert (summary["run"], summary["steps"], summary["beta"]) == ("run", 20, 0.5)
    assert summary == json.loads(Path("run/summary.json").read_text())
    loaded = bv.load("run")
    assert (loaded.config.seed, loaded.config.hidden) == (3, (32,))
    assert [set(row) for row in loaded.metrics] == [ROW]


def test_train_ends_in_tables_and_says_where_the_pictures_are() -> None:
    result = succeed("train", "images.npy", *FAST, "--out", "run")
    assert "run/figures" in result.stdout
    for word in ("recon_nll", "neg_elbo", "train", "test", "beta_norm"):
        assert word in result.stdout
    assert "step 20 of 20" in result.stderr
    assert {f"{kind}.png" for kind in KINDS} == {p.name for p in Path("run/figures").iterdir()}


def test_the_library_and_the_command_line_train_the_same_model() -> None:
    answer("train", "images.npy", *FAST, "--out", "one", "--precision", "fp32")
    config = {"data": "images.npy", "arch": "mlp", "hidden": (32,), "latent_dim": 3, "steps": 20}
    bv.train(config | {"batch_size": 16, "device": "cpu", "precision": "fp32"}, out="other")
    for name in ("model.safetensors", "metrics.jsonl", "config.toml"):
        assert Path("one", name).read_bytes() == Path("other", name).read_bytes()


def test_runs_are_numbered_where_no_folder_is_named() -> None:
    for number in (1, 2):
        result = answer("train", "images.npy", *FAST)
        assert result["run"] == f"runs/images-{number}"
        assert (Path(result["run"]) / "summary.json").is_file()


def test_options_override_the_file_that_overrides_the_preset() -> None:
    Path("settings.toml").write_text('lr = 2e-3\nlatent_dim = 7\nhidden = [16]\narch = "mlp"\n')
    options = ["--preset", "higgins-shapes", "--config", "settings.toml", "--steps", 3]
    answer("train", "images.npy", *options, "--latent-dim", 2, "--out", "run")
    config = bv.load("run").config
    assert (config.latent_dim, config.lr, config.hidden) == (2, 2e-3, (16,))
    assert (config.optimizer, config.beta, config.steps) == ("adagrad", 4.0, 3)
    assert config.data == str(Path("images.npy").resolve())


def test_a_runs_own_settings_repeat_it() -> None:
    answer("train", "images.npy", *FAST, "--out", "one")
    answer("train", "--config", "one/config.toml", "--out", "other")
    for name in ("model.safetensors", "metrics.jsonl", "config.toml"):
        assert Path("one", name).read_bytes() == Path("other", name).read_bytes()


def test_beta_norm_and_epochs_are_options() -> None:
    options = [o for o in FAST if o not in ("--steps", "20")]
    summary = answer(
        "train", "images.npy", *options, "--epochs", 1.5, "--beta-norm", 0.25, "--out", "run"
    )
    assert summary["steps"] == 4  # 1.5 · 36 / 16
    assert summary["beta_norm"] == pytest.approx(0.25)
    assert summary["beta"] == pytest.approx(0.25 * 64 / 3)


def test_a_finished_run_prints_its_summary_again_and_writes_nothing() -> None:
    first = answer("train", "images.npy", *FAST, "--out", "run")
    before = snapshot(Path("run"))
    assert answer("train", "--out", "run", "--resume") == first
    assert answer("train", "images.npy", *FAST, "--out", "run", "--resume") == first
    assert "neg_elbo" in succeed("train", "--out", "run", "--resume").stdout
    assert snapshot(Path("run")) == before


def test_a_larger_number_of_steps_extends_a_run() -> None:
    answer("train", "images.npy", *FAST, "--out", "run")
    assert answer("train", "--out", "run", "--resume", "--steps", 30)["steps"] == 30
    assert bv.load("run").config.steps == 30


def test_a_run_goes_on_from_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data were named by a relative path."""
    answer("train", "images.npy", *FAST, "--out", "run")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert answer("train", "--out", "../run", "--resume", "--steps", 25)["steps"] == 25


@pytest.mark.parametrize("kind", KINDS)
def test_plot_draws_every_kind(run: Path, kind: str) -> None:
    (run / "figures" / f"{kind}.png").unlink()
    result = answer("plot", run, kind)
    assert result == {"figure": str(run / "figures" / f"{kind}.png")}
    assert Path(result["figure"]).read_bytes().startswith(b"\x89PNG")
    assert answer("plot", run, kind, "--out", "new/folder")["figure"] == f"new/folder/{kind}.png"
    shown = succeed("plot", run, kind).stdout
    assert f"{kind}.png" in shown.replace("\n", "")


def test_plot_draws_what_training_drew(run: Path) -> None:
    drawn = (run / "figures" / "traversals.png").read_bytes()
    answer("plot", run, "traversals", "--out", "new")
    assert Path("new/traversals.png").read_bytes() == drawn


@pytest.mark.parametrize(
    ("form", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("gif", b"GIF89a")]
)
def test_plot_draws_in_other_formats(run: Path, form: str, start: bytes) -> None:
    figure = answer("plot", run, "traversals", "--format", form, "--out", "new")["figure"]
    assert figure == f"new/traversals.{form}"
    assert Path(figure).read_bytes().startswith(start)


def test_traversals_start_from_an_image_or_from_the_prior(run: Path) -> None:
    drawn = set()
    for around in ("image", "prior", "0", "1"):
        figure = answer("plot", run, "traversals", "--around", around, "--out", around)["figure"]
        drawn.add(Path(figure).read_bytes())
    assert len(drawn) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["traversals", "--format", "jpg"], "--format must be one of png, pdf, svg, gif"),
        (["kl", "--format", "gif"], "--format gif and --around are for traversals, got kl"),
        (["kl", "--around", "prior"], "--format gif and --around are for traversals, got kl"),
        (["traversals", "--around", "40"], "--around must be image, prior or 0 to 39, got '40'"),
        (["traversals", "--around", "-1"], "--around must be image, prior or 0 to 39, got '-1'"),
    ],
)
def test_what_plot_cannot_draw_is_said(run: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["plot", str(run), *options, "--out", "new"])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("new").exists()


def test_training_keeps_to_the_classes_that_it_is_given() -> None:
    options = ("--arch", "mlp", "--hidden", "8", "--steps", 2, "--out", "some")
    summary = answer("train", "digits", "--classes", "0-1,7", *options)
    assert summary["train"]["n"] + summary["test"]["n"] == 178 + 182 + 179
    assert 'classes = "0-1,7"' in Path("some/config.toml").read_text()
    answer("plot", "some", "embedding")
    facts = answer("data", "inspect", "digits", "--classes", "7,0", "--out", "sheets")
    assert (facts["classes"], facts["images"]) == ("0, 7", 178 + 179)


def test_data_list_names_what_can_be_loaded() -> None:
    rows = answer("data", "list")["sources"]
    assert [set(row) for row in rows] == [{"name", "images", "shape", "bytes", "note"}] * len(rows)
    named = {row["name"]: row for row in rows}
    assert named["shapes2d"]["images"] == 737_280
    assert (named["digits"]["images"], named["digits"]["shape"]) == (1797, [1, 8, 8])
    shown = succeed("data", "list").stdout
    assert all(name in shown for name in named)


def test_data_inspect_shows_a_sheet_and_says_what_the_data_are() -> None:
    facts = answer("data", "inspect", "digits", "--out", "sheets")
    assert (facts["name"], facts["images"], facts["shape"]) == ("digits", 1797, [1, 8, 8])
    assert (facts["levels"], facts["factors"]) == (16, [])
    assert facts["classes"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert Path(facts["sheet"]).read_bytes().startswith(b"\x89PNG")
    assert "digits" in succeed("data", "inspect", "digits").stdout


def test_data_inspect_takes_a_path() -> None:
    facts = answer("data", "inspect", "images.npy", "--out", "sheets")
    assert (facts["images"], facts["shape"], facts["levels"]) == (40, [1, 8, 8], 255)
    assert facts["sheet"] == "sheets/images.png"


def test_data_inspect_lists_the_factors_of_the_shapes() -> None:
    facts = answer("data", "inspect", "shapes2d", "--out", "sheets")
    factors = {row["factor"]: row["values"] for row in facts["factors"]}
    assert list(factors.values()) == [1, 3, 6, 40, 32, 32]
    assert facts["images"] == np.prod(list(factors.values()))
    assert succeed("data", "inspect", "shapes2d").stdout.count("posX") == 1


def test_a_warning_goes_to_stderr_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answer("train", "images.npy", *FAST, "--out", "run")
    monkeypatch.setattr("betavae_core.trainer.environment", lambda device: {"threads": 64})
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        options = ("train", "--out", "run", "--resume", "--steps", 25, "--json")
        result = succeed(*options)
    assert json.loads(result.stdout)["steps"] == 25
    assert [line for line in result.stderr.splitlines() if line.startswith("warning: resumed on")]
