"""The choice of β on made-up numbers, and the picture of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from figure_reading import assert_legible, lightness, words
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from betavae_core.errors import UsageError
from betavae_core.figures.frontier import frontier
from betavae_core.populations.choice import recommend
from betavae_core.populations.report import markdown


def models(
    beta: float, scores: list[float | None], recon_nll: float, metric: str = "udr"
) -> list[dict[str, Any]]:
    """The rows of one β; the models reconstruct a little worse from seed to seed."""
    return [
        {
            "label": f"beta-{beta:g}-seed-{seed}",
            "setting": f"β = {beta:g}",
            "beta": beta,
            "beta_norm": beta / 100,
            "gamma": None,
            "capacity_max": None,
            "seed": seed,
            "recon_nll": recon_nll + 0.01 * seed,
            "kl": 10 / beta,
            "neg_elbo": recon_nll + 10 / beta,
            "active_latents": 3,
            "udr": None,
            **{metric: score},
            "path": f"runs/beta-{beta:g}-seed-{seed}",
        }
        for seed, score in enumerate(scores)
    ]


def test_the_setting_with_the_best_median_is_recommended_and_its_best_model_named() -> None:
    rows = [
        *models(1, [0.2, 0.21, 0.22], 10),
        *models(4, [0.50, 0.54, 0.52], 20),
        *models(16, [0.1, 0.9, 0.3], 40),  # the best model of all, in a worse setting
    ]
    choice = recommend(rows)
    assert (choice["beta"], choice["by"]) == (4, "udr")
    assert (choice["label"], choice["run"]) == ("beta-4-seed-1", "runs/beta-4-seed-1")
    assert choice["reason"] == (
        "Ranked by UDR, which needs no factors, β = 4 comes first: median 0.520 over 3 seeds, "
        "lower quartile 0.510; next is β = 16 with 0.300."
    )


def test_within_the_spread_over_seeds_the_lower_recon_nll_decides() -> None:
    rows = [*models(1, [0.43, 0.46, 0.47], 10), *models(4, [0.4, 0.5, 0.6], 20)]
    choice = recommend(rows)
    assert choice["beta"] == 1
    assert choice["reason"].endswith(
        "β = 4 comes first: median 0.500 over 3 seeds, lower quartile 0.450. β = 1, with 0.460, is "
        "within the spread over seeds and reconstructs better: 10.0 nats against 20.0."
    )


def test_within_the_spread_the_best_stays_when_it_reconstructs_best() -> None:
    choice = recommend([*models(1, [0.4, 0.5, 0.6], 10), *models(4, [0.44, 0.45, 0.46], 20)])
    assert choice["beta"] == 1
    assert "is within the spread over seeds but reconstructs worse: 20.0 nats" in choice["reason"]


def test_beyond_the_spread_reconstruction_does_not_count() -> None:
    rows = [*models(1, [0.44, 0.44, 0.49], 10), *models(4, [0.4, 0.5, 0.6], 20)]
    assert recommend(rows)["beta"] == 4


def test_one_lucky_seed_does_not_make_worse_settings_as_good() -> None:
    rows = [*models(1, [0.03, 0.08, 0.07], 10), *models(64, [0.13, 0.15, 0.30], 20)]
    assert recommend(rows)["beta"] == 64


@pytest.mark.parametrize("order", [1, -1])
def test_equal_scores_go_to_the_lower_recon_nll(order: int) -> None:
    rows = [*models(4, [0.5, 0.5], 20), *models(1, [0.5, 0.5], 10)][::order]
    assert recommend(rows)["beta"] == 1


@pytest.mark.parametrize("order", [1, -1])
def test_models_of_equal_score_go_to_the_lower_recon_nll(order: int) -> None:
    rows = models(4, [0.5, 0.5, 0.4], 20)[::order]
    assert recommend(rows)["label"] == "beta-4-seed-0"


def test_with_factors_mig_ranks_and_not_udr() -> None:
    rows = [*models(1, [0.1], 10, "mig"), *models(4, [0.3], 20, "mig")]
    for row in rows:
        row["udr"] = 1 / row["beta"]
    choice = recommend(rows)
    assert (choice["beta"], choice["by"]) == (4, "mig")
    assert choice["reason"] == (
        "Ranked by MIG, which takes the factors of the data, β = 4 comes first: 0.300 from one "
        "seed; next is β = 1 with 0.100."
    )


def test_a_setting_without_a_score_is_not_ranked() -> None:
    rows = [*models(1, [None, None], 10), *models(4, [0.3, None], 20)]
    choice = recommend(rows)
    assert choice["label"] == "beta-4-seed-0"
    assert choice["reason"].endswith("it is the only setting with a score.")


def test_without_any_score_nothing_is_recommended() -> None:
    choice = recommend(models(1, [None], 10))
    names = ("setting", "beta", "beta_norm", "gamma", "capacity_max", "label", "run", "by")
    assert {choice[name] for name in names} == {None}
    assert "UDR needs two seeds" in choice["reason"]


def test_the_table_has_the_scores_that_there_are_and_marks_the_choice() -> None:
    rows = [*models(1, [0.1], 10, "mig"), *models(4, [0.3], 20, "mig")]
    failed = {"beta-9-seed-0": "out of luck"}
    text = markdown({"runs": rows, "recommended": recommend(rows), "failed": failed})
    header, _, first, second = text.splitlines()[2:6]
    assert header.endswith("| active_latents | mig |")  # no model has a UDR
    assert "**" not in first
    assert second.startswith("| **beta-4-seed-0** | **β = 4** |")
    assert "- beta-9-seed-0 failed: out of luck" in text


SETTINGS = ("β = 1", "β = 4", "β = 16")


def figure(seeds: int, **more: Any) -> Figure:
    setting = np.repeat(np.arange(3), seeds)
    noise = np.random.default_rng(0).normal(size=(2, len(setting)))
    options: dict[str, Any] = {"ylabel": "UDR (higher is better)", "title": "a sweep", **more}
    return frontier(
        10 * setting + noise[0], 0.2 * setting + 0.1 * noise[1], setting, SETTINGS, **options
    )


def test_the_figure_says_what_every_mark_is() -> None:
    said = words(figure(3, recommended=4))
    assert {*SETTINGS, "median over seeds", "recommended"} <= set(said)
    assert "UDR (higher is better)" in said
    assert any("recon_nll (nats an image, lower is better)" in text for text in said)


def test_without_a_recommendation_none_is_marked() -> None:
    assert "recommended" not in words(figure(3))


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_every_model_is_a_point_and_the_recommended_one_is_ringed(seeds: int) -> None:
    picture = figure(seeds, recommended=seeds)
    axes = picture.axes[1]
    inside = [line for line in axes.lines if line.get_transform() == axes.transData]
    points = [line for line in inside if line.get_linestyle() == "None" and line.zorder == 3]
    assert [len(line.get_xdata()) for line in points] == [seeds] * 3
    (ring,) = [line for line in inside if line.get_markerfacecolor() == "none"]
    assert ring.get_xdata()[0] == points[1].get_xdata()[0]
    (joined,) = [line for line in inside if line.get_linestyle() == "-" and line.zorder == 1]
    medians = [[np.median(line.get_xdata()), np.median(line.get_ydata())] for line in points]
    np.testing.assert_allclose(joined.get_xydata(), medians)


def test_settings_differ_without_colour() -> None:
    lines = [line for line in figure(3).axes[1].lines if line.zorder == 3]
    looks = {(line.get_marker(), to_hex(line.get_color())) for line in lines}
    assert len({marker for marker, _ in looks}) == 3
    grey = sorted(lightness(color) for _, color in looks)
    assert min(np.diff(grey)) > 15


@pytest.mark.parametrize("count", [1, 2, 6, 40])
def test_the_figure_is_legible(count: int) -> None:
    names = [f"γ = {10 * n}, C = {n}" for n in range(count)]
    values = np.random.default_rng(0).normal(size=(2, 2 * count)) * 1e4
    setting = np.arange(2 * count) % count
    assert_legible(frontier(*values, setting, names, ylabel="UDR", title="t " * 200, recommended=0))
    assert_legible(frontier([1.0], [0.0], [0], names[:1], ylabel="UDR", title="t"))


@pytest.mark.parametrize("setting", [[0, 0, 0], [0, 1, 3], [0, 1]])
def test_settings_that_do_not_fit_are_refused(setting: list[int]) -> None:
    with pytest.raises(UsageError, match="setting must be"):
        frontier([1, 2, 3], [1, 2, 3], setting, ["a", "b"], ylabel="y", title="t")
