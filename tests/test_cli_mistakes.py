"""The user's mistakes: one line on stderr that says what to do, exit code 2, nothing written."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cases import IMAGES
from typer.testing import CliRunner, Result

from betavae_core import training
from betavae_core.cli import app
from betavae_core.errors import TrainingError

FAST = ["--hidden", "8", "--latent-dim", "2", "--steps", "3", "--device", "cpu"]
IDX = struct.pack(">HBB3I", 0, 8, 3, *IMAGES.shape) + IMAGES.tobytes()


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    np.save("images.npy", IMAGES)


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tree() -> dict[str, tuple[bool, bytes]]:
    return {str(p): (p.is_dir(), b"" if p.is_dir() else p.read_bytes()) for p in Path().rglob("*")}


def mistaken(*arguments: Any, code: int = 2) -> str:
    """The one line that the verb says of a mistake; it wrote nothing, and printed nothing else."""
    before = tree()
    result = invoke(*arguments)
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.endswith("\n")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert tree() == before
    return result.stderr


def folder(path: str) -> None:
    Path(path).mkdir()


DATA: dict[str, tuple[str, Callable[[str], object], tuple[str, ...]]] = {
    "missing": ("missing.npy", lambda path: None, ("no data set", "shapes2d")),
    "truncated": (
        "t10k-images-idx3-ubyte",
        lambda path: Path(path).write_bytes(IDX[:-9]),
        ("truncated", "fetch"),
    ),
    "truncated gzip": (
        "t10k-images-idx3-ubyte.gz",
        lambda path: Path(path).write_bytes(gzip.compress(IDX)[:-9]),
        ("fetch it again",),
    ),
    "five dimensions": (
        "five.npy",
        lambda path: np.save(path, np.zeros((2, 2, 2, 2, 2))),
        ("(2, 2, 2, 2, 2)", "(N, H, W)", "reshape"),
    ),
    "NaN": ("nan.npy", lambda path: np.save(path, np.full((4, 8, 8), np.nan)), ("NaN", "replace")),
    "empty folder": ("empty", folder, ("empty folder", "name a folder or file")),
    "text for a zip": (
        "text.npz",
        lambda path: Path(path).write_text("hello"),
        ("write it again",),
    ),
    "pickled array": (
        "objects.npy",
        lambda path: np.save(path, np.array([{}, []], dtype=object)),
        ("pickled Python objects, which are never loaded",),
    ),
    "pickle": (
        "model.pkl",
        lambda path: Path(path).write_bytes(pickle.dumps([1, 2])),
        ("of no kind that can be read",),
    ),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("out", [["--out", "run"], []], ids=["out", "numbered"])
def test_data_that_cannot_be_used_are_named(name: str, out: list[str]) -> None:
    path, write, expected = DATA[name]
    write(path)
    said = mistaken("train", path, *FAST, *out)
    assert path in said
    assert [words for words in expected if words not in said] == []
    assert mistaken("data", "inspect", path) == said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--latent-dim 0", "--latent-dim must be >= 1, got 0"),
        ("--batch-size 0", "--batch-size must be >= 1, got 0"),
        ("--beta -1", "--beta must be >= 0, got -1.0"),
        ("--beta nan", "--beta must be a finite number, got nan"),
        ("--lr inf", "--lr must be a finite number, got inf"),
        ("--lr 0", "--lr must be > 0, got 0.0"),
        ("--steps 0", "--steps must be >= 1, got 0"),
        ("--steps 5 --epochs 1", "give --epochs or --steps, not both"),
        ("--beta 1 --beta-norm 1", "give --beta-norm or --beta, not both"),
        ("--hidden 512,abc", "--hidden must be widths >= 1"),
        ("--arch resnet", "--arch must be one of higgins-mlp, higgins-conv, burgess-conv, mlp"),
        ("--arch custom", "pass encoder and decoder"),
        ("--objective custom", "pass objective"),
        ("--likelihood custom", "--likelihood must be one of bernoulli, gaussian"),
        ("--preset nosuch", "--preset must be one of burgess-blobs, burgess-shapes"),
        ("--config nosuch.toml", "--config must be a readable TOML file, got nosuch.toml"),
        ("--arch burgess-conv", "sides that are multiples of 16, got 8x8; resize"),
        ("--resume", "--resume needs --out"),
        ("--out nothing --resume", "without --resume"),
        ("--seed -1", "--seed must be >= 0, got -1"),
        ("--steps many", "--steps must be a whole number, got 'many'; see"),
        ("--steps 1.5", "--steps must be a whole number, got '1.5'; see"),
        ("--lr small", "--lr must be a number, got 'small'; see"),
        ("--nosuch 1", "--nosuch"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(options: str, expected: str) -> None:
    assert expected in mistaken("train", "images.npy", *options.split())


def test_the_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said = mistaken("train", "images.npy", "--device", "cuda", "--out", "run")
    assert "--device cuda needs an NVIDIA GPU" in said
    assert "--device cpu" in said


def unwritable() -> list[str]:
    """Folders that nobody may write; permission bits alone do not bind root."""
    Path("file").write_text("")
    Path("locked").mkdir(mode=0o555)
    places = ["file", "file/run", "images.npy/a/b"]
    places += ["/proc/betavae-run"] if Path("/proc/self").exists() else []
    return places + (["locked", "locked/run"] if os.geteuid() else [])


def test_a_folder_that_cannot_be_written_is_named() -> None:
    for out in unwritable():
        said = mistaken("train", "images.npy", *FAST, "--out", out)
        assert said.startswith(f"--out must be a folder that can be written, got {out}: ")


@pytest.mark.parametrize("verb", [("data", "inspect", "images.npy"), ("plot", "run", "kl")])
def test_a_picture_that_cannot_be_written_is_named(verb: tuple[str, ...]) -> None:
    assert invoke("train", "images.npy", *FAST, "--out", "run").exit_code == 0
    for out in unwritable():
        assert out in mistaken(*verb, "--out", out)


def test_a_folder_that_is_not_empty_is_named() -> None:
    folder("mine")
    Path("mine/thesis.tex").write_text("years of work")
    said = mistaken("train", "images.npy", *FAST, "--out", "mine")
    assert "mine is not empty; add --resume to go on with the run in it" in said


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--lr 0.5", "--lr was 0.001 and is now 0.5"),
        ("--steps 2", "--steps was 3 and is now 2"),
        ("--beta 3", "--beta was 1.0 and is now 3.0"),
        ("--seed 1", "--seed was 0 and is now 1"),
    ],
)
def test_a_changed_setting_is_named(options: str, expected: str) -> None:
    assert invoke("train", "images.npy", *FAST, "--out", "run").exit_code == 0
    assert expected in mistaken("train", "--out", "run", "--resume", *options.split())


def test_changed_data_are_named() -> None:
    assert invoke("train", "images.npy", *FAST, "--out", "run").exit_code == 0
    np.save("images.npy", IMAGES[::-1])
    said = mistaken("train", "--out", "run", "--resume", "--steps", 5)
    assert "restore them or start a new run" in said


def test_a_run_whose_files_are_damaged_is_named() -> None:
    assert invoke("train", "images.npy", *FAST, "--out", "run").exit_code == 0
    file = Path("run/model.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    assert "run/model.safetensors is damaged" in mistaken("plot", "run", "kl")
    assert "run/model.safetensors is damaged" in mistaken("train", "--out", "run", "--resume")


def test_what_plot_cannot_draw_is_named() -> None:
    assert "nothing" in mistaken("plot", "nothing", "kl")
    assert invoke("train", "images.npy", *FAST, "--out", "run").exit_code == 0
    said = mistaken("plot", "run", "hologram")
    assert "KIND must be one of reconstructions, traversals, interpolation, samples," in said
    Path("images.npy").unlink()
    assert "images.npy" in mistaken("plot", "run", "reconstructions")


def test_a_run_without_a_line_of_log_yet_has_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*FAST[:-4], "--steps", "30", "--checkpoint-every", "10", "--log-every", "50"]

    def stop(*_: Any, **__: Any) -> None:
        raise TrainingError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("betavae_core.trainer.Trainer._log", stop)
        assert invoke("train", "images.npy", *options, "--out", "run").exit_code == 1
    for kind in ("kl", "training"):
        assert "run" in mistaken("plot", "run", kind)


def test_an_unknown_verb_is_named() -> None:
    assert "nosuch" in mistaken("nosuch")


@pytest.mark.parametrize(
    ("words", "said", "verb"),
    [
        ("plot run", "Missing argument 'KIND'", "plot"),
        ("data inspect", "Missing argument 'DATA'", "data inspect"),
        ("data nosuch", "No such command 'nosuch'", "data"),
        ("train --steps", "Option '--steps' requires an argument", "train"),
        ("train one two", "(two)", "train"),
        ("check one", "(one)", "check"),
        ("sweep X", "sweep takes its data as --data X", "sweep"),
        ("reproduce latent-size X", "reproduce takes its data as --data X", "reproduce"),
        ("--nosuch", "No such option: --nosuch", ""),
    ],
)
def test_what_cannot_be_parsed_is_said_with_the_verbs_own_help(
    words: str, said: str, verb: str
) -> None:
    line = mistaken(*words.split())
    message, _, where = line.partition("; see ")
    assert message.endswith(said)
    assert where.split()[1:] == [*verb.split(), "--help"]


def test_what_bench_cannot_write_is_said_before_it_measures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("betavae_core.bench.report.run", lambda *_, **__: pytest.fail("measured"))
    for out in unwritable():
        said = mistaken("bench", "--out", out)
        assert said.startswith(f"--out must be a folder that can be written, got {out}: ")


def test_a_training_that_fails_is_no_mistake_and_exits_with_one() -> None:
    result = invoke("train", "images.npy", *FAST, "--lr", "1e30", "--out", "run", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "training became non-finite at step 1: loss = nan" in result.stderr
    assert not Path("run/summary.json").exists()


def test_an_error_of_several_lines_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TrainingError("one\ntwo")

    monkeypatch.setattr(training, "draw_all", fail)
    result = invoke("train", "images.npy", *FAST, "--out", "run")
    assert result.stderr.splitlines()[-1] == "one two"


@pytest.mark.parametrize("moment", ["images_of", "make_model", "draw_all", "Trainer"])
def test_ctrl_c_at_any_moment_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def press(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, moment, press)
        result = invoke("train", "images.npy", *FAST, "--out", "run")
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    if Path("run/config.toml").exists():
        assert "train --out run --resume" in result.stderr
        assert invoke("train", "--out", "run", "--resume").exit_code == 0
