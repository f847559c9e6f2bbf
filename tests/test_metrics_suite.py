"""The suite: every score lies between its floor and its ceiling, under the protocol it names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import betavae_core as bv
from betavae_core import DataError, UsageError, metrics

SIZES = (3, 6, 8, 8)
FAST = [name for name in metrics.names("dlib") if not name.startswith("dci")]


def factors(n: int = 4000) -> np.ndarray:
    return np.random.default_rng(0).integers(0, SIZES, (n, len(SIZES)))


def noise(n: int, latents: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, latents))


def scores(codes: np.ndarray, truth: np.ndarray, **settings: Any) -> dict[str, metrics.Score]:
    return metrics.suite(codes, truth, only=FAST, resamples=20, **settings)


def test_codes_that_are_the_factors_reach_every_ceiling() -> None:
    truth = factors()
    for name, score in scores(truth.astype(float), truth).items():
        assert score.score == pytest.approx(score.ceiling, abs=0.02), name
        assert score.ceiling > score.floor + 0.1, name


def test_noise_lies_at_every_floor() -> None:
    truth = factors()
    found = scores(noise(len(truth), 6), truth)
    for name in ("infom", "infoc"):  # shares of next to nothing, which move from draw to draw
        assert found.pop(name).score < 0.9
    for name, score in found.items():
        assert score.score == pytest.approx(score.floor, abs=0.05), name


def test_order_and_sign_of_latents_do_not_matter() -> None:
    truth = factors()
    codes = np.concatenate((truth[:, :3] + noise(len(truth), 3), noise(len(truth), 2)), 1)
    turned = codes[:, [4, 2, 0, 3, 1]] * [1, -1, -1, 1, -1]
    straight = scores(codes, truth)
    for name, score in scores(turned, truth).items():
        low, high = straight[name].interval
        assert low - 0.02 <= score.score <= high + 0.02, name


def test_a_turn_by_45_degrees_lowers_what_looks_for_axes() -> None:
    truth = factors()
    codes = (truth - truth.mean(0)) / truth.std(0)
    turned = codes.copy()
    turned[:, 2:] = codes[:, 2:] @ np.array([[1, -1], [1, 1]]) / 2**0.5
    straight, rotated = scores(codes, truth), scores(turned, truth)
    for name in ("mig", "sap", "modularity", "infom", "infoc", "higgins", "factorvae", "irs"):
        assert rotated[name].score < straight[name].interval[0] - 0.02, name
    assert rotated["infoe"].score > 0.5  # it asks whether, and not along which axis


@pytest.mark.slow
def test_the_known_ceilings_of_the_shapes() -> None:
    shapes = bv.data.load("shapes2d")
    rows = np.random.default_rng(0).choice(len(shapes), 10_000, replace=False)
    assert shapes.factors is not None
    truth = shapes.factors[rows]
    codes = np.concatenate((truth[:, 1:], noise(10_000, 5)), 1)
    found = metrics.suite(codes, truth, only=["mig", "sap"])
    assert found["mig"].score == pytest.approx(0.896, abs=0.003)
    assert found["sap"].score == pytest.approx(0.229, abs=0.01)
    assert found["mig"].floor < 0.001


def test_a_score_names_its_protocol_and_keeps_to_what_was_asked() -> None:
    truth = factors(600)
    found = metrics.suite(truth.astype(float), truth, only=["sap", "mig"], resamples=5)
    assert list(found) == ["mig", "sap"]
    assert {score.protocol for score in found.values()} == {"dlib"}
    assert set(found["mig"].row()) == {"score", "interval", "ceiling", "floor", "protocol"}


def test_each_protocol_has_names_of_its_own() -> None:
    assert metrics.names("higgins2017") == ["higgins"]
    assert len(metrics.names("dlib")) == len(set(metrics.names("dlib"))) == 13
    assert metrics.names("fast") == metrics.names("dlib")


def test_what_is_not_there_is_said() -> None:
    truth = factors(50)
    with pytest.raises(UsageError, match="--protocol must be one of dlib, fast, original"):
        metrics.suite(truth, truth, protocol="dilb")
    with pytest.raises(UsageError, match="--metric must be one of higgins, factorvae"):
        metrics.suite(truth, truth, only=["gim"])
    with pytest.raises(DataError, match="codes and factors must be of the same points"):
        metrics.suite(truth[:4], truth)


def test_progress_tells_of_every_family() -> None:
    truth, heard = factors(300), []
    metrics.suite(
        truth, truth, only=["mig", "sap"], resamples=2, progress=lambda *told: heard.append(told)
    )
    assert heard == [("mig", 0, 2), ("sap", 1, 2), ("done", 2, 2)]


def test_a_function_is_found_where_its_module_bears_the_same_name() -> None:
    for name in metrics.__all__:
        assert getattr(metrics, name) is not None
    assert callable(metrics.mig)
    assert bv.metrics.mig is metrics.mig
