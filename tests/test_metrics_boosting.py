"""Boosted trees: scikit-learn's, grown from latents that are sorted once."""

from __future__ import annotations

import numpy as np
import pytest
from code_cases import Codes, Factors, blurred, drawn, noise, turned
from scipy.special import expit, softmax
from sklearn.ensemble import GradientBoostingClassifier

from betavae_core.metrics.boosting import boost
from betavae_core.metrics.resampling import draw_weights

N = 1500


def codes_of(values: Factors) -> Codes:
    return turned(blurred(values, 0.5, idle=3))


def theirs(codes: Codes, values: Factors, stages: int, seed: int = 0) -> GradientBoostingClassifier:
    return GradientBoostingClassifier(n_estimators=stages, random_state=seed).fit(codes, values)


def once(n: int) -> Codes:
    return np.ones((1, n))


@pytest.mark.parametrize("size", [2, 3, 7])
def test_trees_are_those_of_scikit_learn(size: int) -> None:
    """Of equally good cuts scikit-learn takes one at random: the trees of one of its seeds."""
    values = drawn(N, (size,))
    codes, others = codes_of(values), noise(500, 4)
    ours = boost(codes, values[:, 0], others, once(N), seed=0, stages=5)
    models = [theirs(codes, values[:, 0], 5, seed) for seed in range(6)]
    apart = [np.abs(ours.importance[0] - m.feature_importances_).max() for m in models]
    model = models[int(np.argmin(apart))]
    assert min(apart) < 1e-10
    np.testing.assert_array_equal(ours.predicted, model.predict(codes))
    np.testing.assert_array_equal(ours.predicted_test, model.predict(others))


def test_a_hundred_stages_stray_no_more_than_scikit_learn_from_itself() -> None:
    """Two cuts of few points are often equally good, and scikit-learn takes one at random."""
    values = drawn(400, (4,))
    codes = codes_of(values)
    ours = boost(codes, values[:, 0], codes, once(400), seed=0)
    models = [GradientBoostingClassifier(random_state=s).fit(codes, values[:, 0]) for s in range(3)]
    importances = [m.feature_importances_ for m in models]
    own = max(np.abs(a - b).max() for a in importances for b in importances)
    assert np.abs(ours.importance[0] - np.mean(importances, axis=0)).max() < max(3 * own, 1e-3)
    assert np.mean(ours.predicted == models[0].predict(codes)) > 0.99


@pytest.mark.parametrize("steps", [2, 5])
def test_ties_are_not_cut_apart(steps: int) -> None:
    values = drawn(N, (3,))
    codes = np.round(codes_of(values) * steps) / steps
    ours = boost(codes, values[:, 0], codes, once(N), seed=0, stages=3)
    model = theirs(codes, values[:, 0], 3)
    np.testing.assert_allclose(ours.importance[0], model.feature_importances_, atol=1e-3)


def test_equal_latents_share_their_importance_by_chance() -> None:
    values = drawn(200, (3,))
    one = blurred(values, 0.5, idle=0)
    codes = np.concatenate([one, one], axis=1)
    drawn_importances = [
        boost(codes, values[:, 0], codes, once(200), seed=s, stages=20).importance[0, 0]
        for s in range(8)
    ]
    assert 0.4 < np.mean(drawn_importances) < 0.6
    again = boost(codes, values[:, 0], codes, once(200), seed=0, stages=20).importance[0, 0]
    assert again == drawn_importances[0]


def reweighed(codes: Codes, values: Factors, weights: Codes, stages: int) -> Codes:
    """Falls of the weighted squared error in the cuts of scikit-learn's trees, node by node."""
    model = theirs(codes, values, stages)
    sums = np.tile(model._raw_predict_init(codes[:1].astype(np.float32)), (len(codes), 1))
    falls = np.zeros(codes.shape[1])

    def error(rows: Factors, target: Codes) -> float:
        w = weights[rows]
        mean = np.average(target[rows], weights=w) if w.any() else 0.0
        return float(w @ (target[rows] - mean) ** 2)

    for stage in model.estimators_:
        p = expit(sums) if sums.shape[1] == 1 else softmax(sums, axis=1)
        answers = (values[:, None] == np.arange(values.max() + 1))[:, -sums.shape[1] :]
        for v, grown in enumerate(stage):
            tree, target = grown.tree_, (answers - p)[:, v]
            reaches = tree.decision_path(codes.astype(np.float32)).toarray().astype(bool)
            for node in np.flatnonzero(tree.children_left >= 0):
                of, *sides = (
                    np.flatnonzero(reaches[:, i])
                    for i in (node, tree.children_left[node], tree.children_right[node])
                )
                fall = error(of, target) - sum(error(side, target) for side in sides)
                falls[tree.feature[node]] += fall
            sums[:, v] += 0.1 * grown.predict(codes)
    return falls / falls.sum()


@pytest.mark.parametrize("size", [2, 3])
def test_a_resample_reweighs_the_cuts_of_the_same_trees(size: int) -> None:
    values = drawn(600, (size,))
    codes, weights = codes_of(values), draw_weights(600, 2, seed=0)
    found = boost(codes, values[:, 0], codes, weights, seed=0, stages=3).importance
    for row, weight in zip(found, weights, strict=True):
        expected = reweighed(codes, values[:, 0], weight, 3)
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_a_single_value_is_predicted_and_nothing_matters() -> None:
    values = np.full(20, 3)
    ours = boost(noise(20, 2), values, noise(5, 2), once(20), seed=0)
    assert (ours.importance == 0).all()
    assert ours.predicted.tolist() == [3] * 20
    assert ours.predicted_test.tolist() == [3] * 5


def test_values_that_are_lacking_are_never_predicted() -> None:
    values = np.array([1, 4, 6])[drawn(200, (3,))[:, 0]]
    ours = boost(noise(200, 2), values, noise(50, 2), once(200), seed=0, stages=3)
    assert set(ours.predicted_test) <= {1, 4, 6}


def test_constant_latents_are_never_cut() -> None:
    values = drawn(100, (3,))
    ours = boost(np.ones((100, 2)), values[:, 0], np.zeros((5, 2)), once(100), seed=0, stages=3)
    assert (ours.importance == 0).all()
    assert (ours.predicted == np.bincount(values[:, 0]).argmax()).all()
