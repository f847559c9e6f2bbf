"""A benchmark can be believed: the wrong is never timed, and a result says what it is of."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from betavae_core.bench import machine, op_cases, ops, populations, report, step
from betavae_core.bench.agreement import WrongResultError, agree, standard_normal
from betavae_core.bench.baselines import VAE
from betavae_core.bench.op_cases import CASES, Tensors
from betavae_core.errors import UsageError
from betavae_core.figures.saving import save
from betavae_core.ops import philox

SIZES = [("reparam_kl", 32, 8), ("bernoulli_nll", 8, 16), ("gaussian_nll", 8, 16)]
TINY: dict[str, dict[str, Any]] = {
    "ops": {"sizes": SIZES},
    "step": {"cases": [("mlp", (1, 8, 8))], "images": 64, "batch_size": 16},
    "populations": {"architectures": ["mlp"]},
    "growth": {"axes": {"side": (16, 32), "latent_dim": (3,)}, "images": 64},
}


def never(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("something was timed")


def off_by(percent: float) -> Callable[[Tensor], Tensor]:
    return lambda t: (1 + percent / 100) * t


def slope_off_by(percent: float) -> Callable[[Tensor], Tensor]:
    """The same values with a gradient that is wrong."""
    return lambda t: t + percent / 100 * (t - t.detach())


@pytest.mark.parametrize("who", ["ours", "eager"])
@pytest.mark.parametrize("wrong", [off_by(0.1), slope_off_by(0.1), slope_off_by(float("nan"))])
@pytest.mark.parametrize("op", CASES)
def test_a_wrong_op_raises_before_anything_is_timed(
    op: str, wrong: Callable[[Tensor], Tensor], who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[op](64, 20, "cpu")
    right: Callable[..., Tensors] = getattr(case, who)
    # z may be any draw; its KLs may not.
    broken = replace(
        case, **{who: lambda *inputs: (*right(*inputs)[:-1], wrong(right(*inputs)[-1]))}
    )
    monkeypatch.setattr(ops, "interleave", never)
    with pytest.raises(WrongResultError, match="nothing was timed"):
        list(ops.measure(broken, "cpu", 0.01, compiled=False))


def test_an_op_without_noise_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    case = CASES["reparam_kl"](64, 20, "cpu")
    with pytest.raises(WrongResultError, match=r"drawn from N\(0, 1\)"):
        ops.verify(case, "eager", lambda: case.eager(*case.inputs))


def test_agreement_counts_every_element_unless_told_otherwise() -> None:
    exact = torch.ones(10_000)
    got = exact.clone()
    got[0] = 1.001
    agree("x", got, exact, 1e-4, typical=True)
    with pytest.raises(WrongResultError, match=r"within 0\.0001"):
        agree("x", got, exact, 1e-4)
    standard_normal("eps", torch.randn(10_000, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("loss", lambda self, logits, x, mu, logvar: self.right(logits, x, mu, logvar) * 1.001),
        ("loss", lambda self, logits, x, mu, logvar: self.right(logits, x, mu.detach(), logvar)),
        ("reparameterize", lambda self, mu, logvar: mu + 2 * torch.randn_like(mu)),
    ],
)
def test_a_loop_that_trains_something_else_raises_before_anything_is_timed(
    part: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VAE, "right", getattr(VAE, part), raising=False)
    monkeypatch.setattr(VAE, part, wrong)
    monkeypatch.setattr(step, "interleave", never)
    with pytest.raises(WrongResultError, match="nothing was timed"):
        step.run("cpu", 0.01, lambda message: None, **TINY["step"], compiled=False)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    """A tiny run of all suites, in which compiling leaves a function as it is."""
    torch.manual_seed(0)  # with some noise a ReLU is open in one loop and closed in the other
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **settings: function)
        return report.run(device="cpu", seconds=0.01, settings=TINY)


def test_a_result_is_json_and_says_what_it_was_measured_on(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(result) == {
        "machine", "versions", "commit", "date", "compile_unavailable", "ops", "step", "ratios",
        "populations", "growth",
    }  # fmt: skip
    assert result["machine"]["threads"] == torch.get_num_threads()
    assert result["machine"]["gpu"] is None
    assert result["versions"]["torch"] == torch.__version__


def test_every_op_has_a_row_a_pass_with_its_spreads(result: dict[str, Any]) -> None:
    rows = [(row["op"], *row["shape"], row["pass"]) for row in result["ops"]]
    assert rows == [(*size, which) for size in SIZES for which in ops.PASSES]
    for row in result["ops"]:
        assert set(row["seconds"]) == {"ours", "eager", "compile", "copy"}
        for name in ("vs_eager", "vs_compile", "share_of_copy", "gb_per_s"):
            spread = row[name]
            assert 0 < spread["p20"] <= spread["median"] <= spread["p80"]


def test_bytes_are_those_that_any_implementation_must_move(result: dict[str, Any]) -> None:
    moved = {(row["op"], row["pass"]): row["bytes"] for row in result["ops"]}
    assert moved["reparam_kl", "forward"] == 3 * 4 * 32 * 8 + 4 * (32 + 8)
    assert moved["bernoulli_nll", "backward"] == (4 + 4 + 4) * 8 * 16 + 4 * 8  # floats on a CPU
    for op in CASES:
        assert moved[op, "both"] == moved[op, "forward"] + moved[op, "backward"]


def test_ratios_of_the_step_are_named_and_come_from_its_rows(result: dict[str, Any]) -> None:
    names = {"vs_eager", "vs_eager_tuned", "vs_compile", "end_to_end"}
    (row,) = result["step"]
    assert set(result["ratios"]) == {"mlp"}
    assert set(result["ratios"]["mlp"]) == set(row["ratios"]) == names
    assert result["ratios"]["mlp"]["vs_eager"] == row["ratios"]["vs_eager"]["median"]
    assert set(row["images_per_s"]) == {
        "ours", "eager", "eager_tuned", "compile", "eager_end_to_end",
    }  # fmt: skip


def test_the_work_grows_along_each_axis_and_ours_is_compared_at_each_size(
    result: dict[str, Any],
) -> None:
    points = [(row["axis"], row["value"]) for row in result["growth"]]
    assert points == [("side", 16), ("side", 32), ("latent_dim", 3)]
    for row in result["growth"]:
        assert row["images_per_s"]["ours"]["median"] > 0
        assert 0 < row["vs_eager"]["p20"] <= row["vs_eager"]["median"]


def test_models_side_by_side_are_as_many_as_cores(result: dict[str, Any]) -> None:
    (row,) = result["populations"]
    assert row["models"] == len(os.sched_getaffinity(0))
    rates = row["model_steps_per_s"]
    ratio = rates["side_by_side"]["median"] / rates["one_at_a_time"]["median"]
    assert row["vs_one_at_a_time"]["median"] == pytest.approx(ratio, rel=0.5)
    assert row["vs_batched"]["p20"] > 0


def test_a_worker_that_ends_is_an_error_and_no_figure() -> None:
    with (
        pytest.raises(RuntimeError, match="ended"),
        populations.process("nosuch", "cpu", "team", 1, {}),
    ):
        pytest.fail("it did not start")


def test_the_table_has_a_line_a_row_and_the_figure_a_bar_a_ratio(
    result: dict[str, Any], tmp_path: Path
) -> None:
    lines = sum(table.row_count for table in report.table(result).renderables)
    assert lines == sum(len(result[suite]) for suite in report.SUITES)
    figure = report.figure(result)
    bars = [text for axes in figure.axes for text in axes.texts if text.get_text().endswith("×")]
    assert len(bars) == 4 + 2 * 2 * len(SIZES) + 2 * len(result["populations"]) + len(
        result["growth"]
    )
    assert save(figure, tmp_path / "bench.png").stat().st_size > 10_000


def test_what_cannot_be_compiled_is_said_and_not_made_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no C++ compiler\n  and how to get one")

    messages: list[str] = []
    monkeypatch.setattr(torch, "compile", fails)
    result = report.run(device="cpu", seconds=0.01, settings=TINY, progress=messages.append)
    assert result["compile_unavailable"] == "no C++ compiler"
    assert "no C++ compiler" in messages[0]
    assert result["ratios"]["mlp"]["vs_compile"] is None
    assert all(row["vs_compile"] is None for row in result["ops"])
    report.table(result)
    save(report.figure(result), tmp_path / "bench.png")


def test_a_suite_left_out_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    result = report.run(["ops"], device="cpu", seconds=0.01, settings=TINY)
    assert (result["step"], result["ratios"]) == ([], {})


@pytest.mark.parametrize(
    ("suites", "settings", "says"),
    [
        (["speed"], {}, "--suite must be one of ops, step, populations, growth, got 'speed'"),
        (["ops"], {"seconds": 0}, "--seconds must be > 0, got 0"),
        (["ops"], {"seconds": float("nan")}, "--seconds must be > 0, got nan"),
    ],
)
def test_bad_usage_is_refused(suites: list[str], settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        report.run(suites, device="cpu", **settings)


def test_formulas_get_noise_that_is_drawn_once_for_many_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(op_cases, "choose", lambda *_: "torch")
    supply = op_cases.Supply(4, 3, "cpu")
    fill, drawn = philox.fill_normal, []
    with patch.object(philox, "fill_normal", lambda *a: drawn.append(a) or fill(*a)):
        rows = [supply.next()["eps"] for _ in range(supply.calls)]
        assert len(drawn) == 1
        assert len({row.sum().item() for row in rows}) > 0.99 * supply.calls
        supply.next()
        assert len(drawn) == 2


def test_the_commit_of_another_repository_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the package is installed in an environment inside someone's checkout."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    assert len(str(machine.commit())) == 40
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(machine, "_ROOT", tmp_path / "site-packages")
    assert machine.commit() is None
