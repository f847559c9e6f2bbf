"""Ground truth, pixels, PCA, ICA and the models of this library, all through one interface."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cases import without_pictures

from betavae_core import baselines, training
from betavae_core.baselines import BASELINES, ica, pca, representation
from betavae_core.data import blobs, from_array
from betavae_core.data.dataset import Dataset
from betavae_core.data.split import split
from betavae_core.errors import DataError, UsageError

BLOBS = blobs.draw(16, 3.0)
SOME = np.array([3, 200, 0, 3])
TINY: dict[str, Any] = {"arch": "mlp", "hidden": (16,), "latent_dim": 3, "optimizer": "adam"}
TINY |= {"lr": 1e-3, "steps": 20, "batch_size": 16, "device": "cpu", "precision": "fp32"}


def codes(name: str, **more: Any) -> np.ndarray:
    return baselines.fit(name, BLOBS, **more)(np.arange(len(BLOBS)))


def test_every_baseline_has_a_line_and_a_file_that_fits() -> None:
    folder = Path(baselines.__file__).parent
    for name, baseline in BASELINES.items():
        assert name == baseline.name
        assert baseline.says
        assert "\n" not in baseline.says
        assert "def fit(" in (folder / f"{baseline.file}.py").read_text()


@pytest.mark.parametrize("name", ["ground-truth", "raw", "pca", "ica", "untrained"])
def test_codes_are_a_function_of_the_index(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row, in any order, with repeats, in batches or not, and none at all."""
    monkeypatch.setattr(representation, "_BATCH", 100)
    changes = {"arch": "mlp"} if name == "untrained" else {}
    encode = baselines.fit(name, BLOBS, **changes)
    everything = encode(np.arange(len(BLOBS)))
    np.testing.assert_allclose(encode(SOME), everything[SOME], rtol=1e-4, atol=1e-5)
    assert encode(np.array([], dtype=np.int64)).shape == (0, everything.shape[1])
    assert np.isfinite(everything).all()


@pytest.mark.parametrize(
    ("indices", "wrong"),
    [
        (np.array([256]), r"\[0, 256\), got 256 to 256"),
        (np.array([-1]), r"\[0, 256\), got -1"),
        (np.array([0.5]), r"whole numbers, got \(1,\) float64"),
        (np.zeros((2, 2), int), r"whole numbers, got \(2, 2\)"),
    ],
)
@pytest.mark.parametrize("name", ["ground-truth", "raw"])
def test_indices_that_are_none_are_refused(name: str, indices: np.ndarray, wrong: str) -> None:
    with pytest.raises(DataError, match=wrong):
        baselines.fit(name, BLOBS)(indices)


def test_ground_truth_is_the_varying_factors_from_0_to_1() -> None:
    assert BLOBS.factors is not None
    still = np.full((256, 1), 7)
    factors = np.concatenate((still, BLOBS.factors), axis=1)
    dataset = replace(BLOBS, factors=factors, factor_names=("still", "y", "x"))
    found = baselines.fit("ground-truth", dataset)(np.arange(256))
    np.testing.assert_array_equal(found, BLOBS.factors / 15)


def test_ground_truth_takes_the_values_of_a_factor_where_they_are_known() -> None:
    dataset = from_array(np.zeros((3, 4, 4), np.uint8))
    dataset = replace(
        dataset,
        factors=np.array([[0], [1], [2]]),
        factor_names=("size",),
        factor_values={"size": np.array([1.0, 2.0, 5.0])},
    )
    found = baselines.fit("ground-truth", dataset)(np.arange(3))
    np.testing.assert_array_equal(found, [[0.0], [0.25], [1.0]])


def test_raw_is_the_pixels_of_packed_images_too() -> None:
    images = np.random.default_rng(0).integers(0, 2, (9, 4, 4), dtype=np.uint8)
    packed = Dataset("bits", np.packbits(images.reshape(9, -1), axis=1), 1, (1, 4, 4), packed=True)
    found = baselines.fit("raw", packed)(np.array([8, 2]))
    np.testing.assert_array_equal(found, images[[8, 2]].reshape(2, -1))
    np.testing.assert_array_equal(codes("raw"), BLOBS.images.reshape(256, -1) / np.float32(255))


def test_pca_is_the_projection_on_the_largest_variances() -> None:
    """Its codes have the largest eigenvalues of the pixels' covariance as variances."""
    pixels, train = codes("raw").astype(np.float64), split(BLOBS)[0]
    found = codes("pca", components=4)[train]
    largest = np.linalg.eigvalsh(np.cov(pixels[train].T))[:-5:-1]
    np.testing.assert_allclose(np.cov(found.T), np.diag(largest), atol=1e-3 * largest[0])


def test_ica_spans_the_plane_of_pca_with_variance_one() -> None:
    train = split(BLOBS)[0]
    plane, found = (codes(name, components=4) for name in ("pca", "ica"))
    np.testing.assert_allclose(np.cov(found[train].T), np.eye(4), atol=0.02)
    _, residual, *_ = np.linalg.lstsq(np.c_[plane, np.ones(256)], found, rcond=None)
    assert residual.max() < 1e-4


def test_ica_finds_independent_sources_that_pca_mixes() -> None:
    """Two squares of independent, uniform brightness: one component each, and PCA's are not."""
    brightness = np.random.default_rng(0).integers(0, 256, (2000, 2))
    images = np.zeros((2000, 8, 8), np.uint8)
    images[:, :3, :3], images[:, 5:, 5:] = brightness.T[:, :, None, None]
    dataset = from_array(images)
    for name, least in (("ica", 0.99), ("pca", 0.0)):
        found = baselines.fit(name, dataset, components=2)(np.arange(2000))
        correlation = np.abs(np.corrcoef(np.c_[found, brightness].T)[:2, 2:]).max(axis=1)
        assert (correlation > least).all()
    assert (correlation < 0.95).all()  # of pca


def test_ica_that_does_not_settle_warns_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ica, "_ITERATIONS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(codes("ica")).all()


@pytest.mark.parametrize("name", ["pca", "ica", "untrained"])
def test_the_seed_alone_decides(name: str) -> None:
    changes = {"arch": "mlp"} if name == "untrained" else {"images": 100}
    one, same, other = (codes(name, seed=seed, **changes) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_fitting_looks_at_few_training_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def noted(dataset: Dataset, count: int, seed: int) -> np.ndarray:
        seen.append(representation.first_seen(dataset, count, seed))
        return seen[-1]

    monkeypatch.setattr(pca, "first_seen", noted)
    codes("pca", images=60)
    assert len(seen[0]) == len(set(seen[0])) == 60
    assert set(seen[0]) <= set(split(BLOBS)[0])


@pytest.mark.parametrize("components", [0, 12])
def test_more_components_than_images_are_refused(components: int) -> None:
    with pytest.raises(UsageError, match=f"from 1 to the 11 .* got {components}"):
        codes("pca", components=components, images=11)


def test_ground_truth_needs_factors_that_vary() -> None:
    with pytest.raises(DataError, match="needs factors that vary, and array has none"):
        baselines.fit("ground-truth", from_array(np.zeros((3, 4, 4), np.uint8)))


def test_an_unknown_baseline_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"one of ground-truth, raw, .* got 'pac'"):
        baselines.fit("pac", BLOBS)


def test_a_vae_without_a_folder_is_refused() -> None:
    with pytest.raises(UsageError, match="give its folder"):
        baselines.fit("vae", BLOBS)


@pytest.mark.parametrize(("name", "beta"), [("ae", 0.0), ("vae", 1.0), ("beta-vae", 4.0)])
def test_a_vae_is_a_run_of_its_beta(
    name: str, beta: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pictures(monkeypatch)
    found = codes(name, folder=tmp_path, **TINY)
    run = training.load(tmp_path)
    assert run.config.beta == beta
    np.testing.assert_allclose(found, run.model.encode(BLOBS.images).mu, rtol=1e-5, atol=1e-6)


def test_a_finished_vae_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pictures(monkeypatch)
    first = codes("vae", folder=tmp_path, **TINY)
    monkeypatch.setattr(training, "Trainer", None)
    np.testing.assert_array_equal(codes("vae", folder=tmp_path, **TINY), first)


def test_the_untrained_encoder_is_that_of_the_run_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pictures(monkeypatch)
    trained = codes("vae", folder=tmp_path, **TINY | {"steps": 1, "lr": 1e-12})
    np.testing.assert_allclose(codes("untrained", **TINY), trained, rtol=1e-4, atol=1e-5)
