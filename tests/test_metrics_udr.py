"""UDR: alike models above turned ones, the formula in loops with scikit-learn's Lasso, the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import Lasso

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics.udr import lasso, udr, udr_scores


def factors(N: int = 2000, D: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, D))


def rotation(D: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(D, D)))[0]


def scrambled(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other order, signs, scales and places of the latents."""
    D = z.shape[1]
    return z[:, rng.permutation(D)] * rng.choice([-1, 1], D) * rng.uniform(0.1, 5, D) + 3


def as_the_paper_says(codes: list[np.ndarray], kls: list[np.ndarray]) -> list[float]:
    """UDR in loops, one Lasso of scikit-learn's for each target."""
    codes = [((c - c.mean(0)) / c.std(0))[:, kl > 0.01] for c, kl in zip(codes, kls, strict=True)]
    result = []
    for i, own in enumerate(codes):
        scores = []
        for j, other in enumerate(codes):
            if i == j:
                continue
            R = np.zeros((own.shape[1], other.shape[1]))
            for b in range(other.shape[1]):
                fit = Lasso(alpha=0.1, tol=1e-10, max_iter=100_000).fit(own, other[:, b])
                R[:, b] = np.abs(fit.coef_)
            by_b = [
                max(R[:, b]) ** 2 / sum(R[:, b]) if sum(R[:, b]) else 0 for b in range(len(R.T))
            ]
            by_a = [max(R[a]) ** 2 / sum(R[a]) if sum(R[a]) else 0 for a in range(len(R))]
            scores.append((np.mean(by_b) + np.mean(by_a)) / 2)
        result.append(float(np.median(scores)))
    return result


def test_it_is_the_formula_with_scikit_learns_lasso() -> None:
    rng = np.random.default_rng(1)
    z = factors(500)
    codes = [np.tanh(z @ rng.normal(size=(4, D))) + 0.3 * rng.normal(size=(500, D))
             for D in (3, 4, 6, 5)]  # fmt: skip
    kls = [rng.choice([0.001, 2.0], c.shape[1], p=[0.3, 0.7]) for c in codes]
    kls[0][:] = 1
    assert udr(codes, kls) == pytest.approx(as_the_paper_says(codes, kls), abs=1e-6)


def test_models_alike_but_for_order_sign_and_scale_score_the_highest() -> None:
    rng = np.random.default_rng(0)
    codes = [scrambled(factors(), rng) for _ in range(4)]
    assert udr(codes, [np.ones(4)] * 4) == pytest.approx(np.full(4, 0.9), abs=1e-9)
    perfect = udr(codes, [np.ones(4)] * 4, correlation="spearman")
    assert perfect == pytest.approx(np.full(4, 0.95), abs=0.05)  # chance correlations in Σ R


@pytest.mark.parametrize("correlation", ["lasso", "spearman"])
def test_an_axis_aligned_population_is_above_a_rotated_one(correlation: str) -> None:
    rng = np.random.default_rng(0)
    kls = [np.ones(4)] * 5
    aligned = [scrambled(factors() + 0.2 * rng.normal(size=(2000, 4)), rng) for _ in kls]
    rotated = [a @ rotation(4, rng) for a in (factors() + 0.2 * rng.normal(size=(2000, 4)),) * 5]
    above, below = (udr(c, kls, correlation=correlation) for c in (aligned, rotated))
    assert above.min() > below.max() + 0.2


def test_one_rotated_model_among_aligned_ones_is_the_lowest() -> None:
    rng = np.random.default_rng(0)
    codes = [scrambled(factors(), rng) for _ in range(4)] + [factors() @ rotation(4, rng)]
    scores = udr(codes, [np.ones(4)] * 5)
    assert scores.argmin() == 4
    assert scores[:4] == pytest.approx(np.full(4, 0.9), abs=1e-9)


def test_unrelated_models_score_nothing() -> None:
    codes = [factors(5000, seed=s) for s in range(3)]
    assert udr(codes, [np.ones(4)] * 3) == pytest.approx(np.zeros(3))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), correlation=st.sampled_from(["lasso", "spearman"]))
def test_order_sign_scale_and_place_of_latents_do_not_matter(seed: int, correlation: str) -> None:
    rng = np.random.default_rng(seed)
    codes = [factors(200, 3, seed) @ rng.normal(size=(3, 3)) for _ in range(3)]
    before = udr(codes, [np.ones(3)] * 3, correlation=correlation)
    codes[1] = scrambled(codes[1], rng)
    after = udr(codes, [np.ones(3)] * 3, correlation=correlation)
    assert after == pytest.approx(before, abs=1e-5)


def test_rank_correlation_sees_through_any_monotone_curve() -> None:
    rng = np.random.default_rng(0)
    codes = [factors() @ rng.normal(size=(4, 4)) for _ in range(3)]
    bent = [np.exp(3 * c) for c in codes]
    kls = [np.ones(4)] * 3
    ranked = udr(codes, kls, correlation="spearman")
    assert udr(bent, kls, correlation="spearman") == pytest.approx(ranked, abs=1e-12)
    assert udr(bent, kls) != pytest.approx(udr(codes, kls), abs=0.01)


def test_a_spearman_score_is_scipys() -> None:
    a, b = factors(300, 2), factors(300, 2) @ [[1, 0.5], [0.2, 1]]
    R = np.abs(spearmanr(a, b).statistic[:2, 2:])
    expected = ((R.max(0) ** 2 / R.sum(0)).mean() + (R.max(1) ** 2 / R.sum(1)).mean()) / 2
    scores = udr_scores([a, b], [np.ones(2)] * 2, correlation="spearman")
    assert scores[0, 1] == scores[1, 0] == pytest.approx(expected)
    assert np.isnan(np.diag(scores)).all()


def test_latents_not_in_use_do_not_count() -> None:
    rng = np.random.default_rng(0)
    codes = [scrambled(factors(), rng) for _ in range(3)]
    # Latents at the prior still follow the input a little, and standardising blows that up.
    padded = [np.column_stack((c, 1e-3 * factors() @ rng.normal(size=(4, 3)))) for c in codes]
    kls = [np.r_[np.ones(4), np.full(3, 0.005)]] * 3
    assert udr(padded, kls) == pytest.approx(udr(codes, [np.ones(4)] * 3), abs=1e-12)
    assert udr(padded, kls, threshold=0.001).max() < 0.8


def test_the_threshold_is_a_setting() -> None:
    codes, kls = [factors(), factors()], [np.full(4, 0.05)] * 2
    assert udr(codes, kls).min() > 0.8
    assert udr(codes, kls, threshold=0.1).tolist() == [0, 0]


def test_a_model_that_uses_no_latent_scores_zero_and_its_peers_go_on() -> None:
    codes, kls = [factors()] * 4, [np.ones(4), np.zeros(4), np.ones(4), np.ones(4)]
    assert udr(codes, kls) == pytest.approx([0.9, 0, 0.9, 0.9])


def test_a_constant_latent_matches_nothing() -> None:
    codes = [np.column_stack((factors(), np.full(2000, 0.1))), factors()]
    scores = udr_scores(codes, [np.ones(5), np.ones(4)])
    assert scores[0, 1] == scores[1, 0] == pytest.approx((0.9 + 0.9 * 4 / 5) / 2)


@pytest.mark.parametrize("penalty", [0.0, 0.1, 0.5])
def test_the_lasso_is_scikit_learns(penalty: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5)) @ (np.eye(5) + 0.6 * rng.normal(size=(5, 5)))
    X = (X - X.mean(0)) / X.std(0)
    Y = X @ rng.normal(size=(5, 7)) + rng.normal(size=(300, 7))
    Y = (Y - Y.mean(0)) / Y.std(0)
    found = lasso(X.T @ X / 300, X.T @ Y / 300, penalty)
    if penalty:
        fit = Lasso(alpha=penalty, tol=1e-12, max_iter=100_000, fit_intercept=False).fit(X, Y)
        assert found == pytest.approx(fit.coef_.T, abs=1e-6)
    else:
        assert found == pytest.approx(np.linalg.lstsq(X, Y, rcond=None)[0], abs=1e-6)


@pytest.mark.parametrize(
    ("codes", "kls", "said"),
    [
        ([factors()], [np.ones(4)], "two or more, got 1 and 1"),
        ([], [], "two or more, got 0 and 0"),
        ([factors()] * 2, [np.ones(4)], "got 2 and 1"),
        ([factors()] * 2, [np.ones(4), np.ones(3)], r"kls of model 1 .* 4 latents, got \(3,\)"),
        ([factors(), factors(10)], [np.ones(4)] * 2, r"the same samples .* \[10, 2000\]"),
        ([factors(), factors()[0]], [np.ones(4)] * 2, r"model 1 must be \(N, D\) finite"),
        ([np.full((5, 1), np.nan)] * 2, [[1]] * 2, "model 0 must be .* finite"),
    ],
)  # fmt: skip
def test_what_is_no_population_is_refused(codes: list, kls: list, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        udr(codes, kls)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"correlation": "pearson"}, {"penalty": 1.0}, {"penalty": -0.1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="lasso or spearman and penalty in"):
        udr([factors()] * 2, [np.ones(4)] * 2, **wrong)
