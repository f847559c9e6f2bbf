"""InfoGAN: its codes, its step, that the seed decides, and that information rises."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from betavae_core import baselines
from betavae_core.baselines import infogan, loop, saved
from betavae_core.baselines.infogan import InfoGAN, Settings
from betavae_core.data import blobs
from betavae_core.errors import DataError, TrainingError, UsageError
from betavae_core.ops import philox

BLOBS = blobs.draw(16, 3.0)
TINY = Settings(steps=6, channels=4, categories=3, continuous=2, noise=4, batch_size=8)
ROW = {"discriminator", "generator", "category_nll", "continuous_nll", "mutual_information"}
CPU = torch.device("cpu")


def fit(**more: Any) -> Any:
    given: dict[str, Any] = {"settings": TINY, "device": "cpu"}
    return baselines.fit("infogan", BLOBS, **(given | more))


def test_the_code_is_a_category_and_uniforms_and_the_inputs_hold_it() -> None:
    gan = InfoGAN(BLOBS, TINY, 0, CPU)
    inputs, code = gan.draw(philox.make_key(0, 7), 30_000)
    one_hot, continuous, noise = inputs.split((3, 2, 4), dim=1)
    torch.testing.assert_close(continuous, code.continuous)
    assert torch.equal(one_hot.argmax(1), code.category)
    assert (one_hot.sum(1) == 1).all()
    assert ((inputs >= -1) & (inputs <= 1)).all()
    torch.testing.assert_close(one_hot.mean(0), torch.full((3,), 1 / 3), atol=0.01, rtol=0)
    uniforms = torch.cat((continuous, noise), dim=1)
    torch.testing.assert_close(uniforms.T.cov(), torch.eye(6) / 3, atol=0.01, rtol=0)


def test_each_step_draws_another_code() -> None:
    gan = InfoGAN(BLOBS, TINY, 0, CPU)
    first, again, next_ = (gan.draw(philox.make_key(0, step), 8)[0] for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, next_)


def test_the_representation_is_probabilities_and_means() -> None:
    found = fit()(np.arange(20))
    assert found.shape == (20, 3 + 2)
    np.testing.assert_allclose(found[:, :3].sum(1), 1, rtol=1e-5)
    assert (found[:, :3] > 0).all()


def test_the_codes_of_an_image_do_not_depend_on_its_batch() -> None:
    encode = fit()
    together = encode(np.arange(9))
    np.testing.assert_allclose(encode(np.array([5])), together[5:6], atol=1e-5)
    np.testing.assert_array_equal(encode(np.arange(9)), together)


def test_the_weights_of_the_discriminator_have_spectral_norm_one() -> None:
    gan = InfoGAN(BLOBS, TINY, 0, CPU)
    linear = gan.judge.trunk[-2]
    assert isinstance(linear, torch.nn.Linear)
    for step in range(30):
        gan.advance(step)
    assert torch.linalg.matrix_norm(linear.weight, 2).item() == pytest.approx(1, abs=0.1)


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    one = fit(seed=1)(np.arange(9))
    torch.manual_seed(2)
    same, other = fit(seed=1)(np.arange(9)), fit(seed=2)(np.arange(9))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_fitting_leaves_torchs_own_generator_alone() -> None:
    state = torch.random.get_rng_state()
    fit()
    assert torch.equal(state, torch.random.get_rng_state())


def test_each_network_moves_in_its_own_turn_only(monkeypatch: pytest.MonkeyPatch) -> None:
    gan = InfoGAN(BLOBS, TINY, 0, CPU)
    moved = []

    def note(*turn: Any) -> None:
        networks = (gan.make, gan.judge)
        before = [[p.clone() for p in net.parameters()] for net in networks]
        InfoGAN._descend(gan, *turn)
        after = [list(net.parameters()) for net in networks]
        changed = [
            any(not torch.equal(b, a) for b, a in zip(old, new, strict=True))
            for old, new in zip(before, after, strict=True)
        ]
        moved.append(changed)

    monkeypatch.setattr(gan, "_descend", note)
    gan.advance(0)
    assert moved == [[False, True], [True, False]]


def test_a_row_has_the_named_losses_and_the_bound_adds_up(tmp_path: Path) -> None:
    heard: list[tuple[int, int, dict[str, float]]] = []
    fit(folder=tmp_path, progress=lambda *now: heard.append(now))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert heard == [(6, 6, rows[0])]
    assert set(rows[0]) == ROW | {"step"}
    known = log(3) + 2 * log(2) - rows[0]["category_nll"] - rows[0]["continuous_nll"]
    assert rows[0]["mutual_information"] == pytest.approx(known, rel=1e-5)


def test_information_between_code_and_image_rises_above_zero() -> None:
    rows: list[dict[str, float]] = []
    settings = replace(TINY, steps=200, batch_size=32, continuous_weight=1.0)
    fit(settings=settings, progress=lambda step, steps, row: rows.append(row))
    assert rows[0]["mutual_information"] < 0
    assert rows[-1]["mutual_information"] > 0.5


def test_a_finished_training_is_found_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit(folder=tmp_path)(np.arange(20))
    monkeypatch.setattr(loop, "run", None)
    np.testing.assert_array_equal(fit(folder=tmp_path)(np.arange(20)), first)


def test_a_training_that_died_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(saved, "keep", lambda *_: None)
        fit(folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    fit(folder=tmp_path)
    assert (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(
    ("change", "name"), [({"seed": 1}, "seed"), ({"settings": replace(TINY, steps=5)}, "steps")]
)
def test_a_folder_with_another_model_is_refused(
    tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    fit(folder=tmp_path)
    with pytest.raises(UsageError, match=f"holds a model that differs in {name}; choose another"):
        fit(folder=tmp_path, **change)


def test_a_folder_with_other_images_is_refused(tmp_path: Path) -> None:
    fit(folder=tmp_path)
    with pytest.raises(UsageError, match="differs in data"):
        infogan.fit(blobs.draw(16, 2.0), settings=TINY, device="cpu", folder=tmp_path)


def test_weights_that_are_damaged_are_refused(tmp_path: Path) -> None:
    fit(folder=tmp_path)
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match="damaged"):
        fit(folder=tmp_path)


def test_a_folder_that_cannot_be_made_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "run", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="needs a folder that can be written"):
        fit(folder=tmp_path / "file" / "folder")


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    wild = replace(TINY, generator_lr=1e38, discriminator_lr=1e38)
    with pytest.raises(TrainingError, match="InfoGAN became non-finite by step 6: discriminator"):
        fit(settings=wild, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sides_that_cannot_be_halved_four_times_are_refused() -> None:
    with pytest.raises(UsageError, match="multiples of 16, got 24x24"):
        baselines.fit("infogan", blobs.draw(24, 3.0))
