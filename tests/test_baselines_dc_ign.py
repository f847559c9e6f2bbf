"""DC-IGN: the clamp against the paper's formula, its mini-batches, and that it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from betavae_core import baselines
from betavae_core.baselines import dc_ign
from betavae_core.baselines.clamping import clamp
from betavae_core.baselines.dc_ign import DCIGN, Settings
from betavae_core.baselines.factor_grid import FactorGrid
from betavae_core.data import blobs, from_array
from betavae_core.data.split import split
from betavae_core.errors import DataError, TrainingError, UsageError

BLOBS = blobs.draw(16, 3.0)
TINY = Settings(steps=6, channels=4, hidden=16, images=4)
CPU = torch.device("cpu")


def fit(**more: Any) -> Any:
    given: dict[str, Any] = {"settings": TINY, "device": "cpu"}
    return baselines.fit("dc-ign", BLOBS, **(given | more))


def test_the_clamp_by_hand() -> None:
    """Two mini-batches of two images and three latents; latents 0 and 2 are active."""
    z = torch.tensor(
        [[[1.0, 2.0, 3.0], [5.0, 4.0, -3.0]], [[0.0, 1.0, 2.0], [2.0, 3.0, 8.0]]],
        requires_grad=True,
    )
    clamped = clamp(z, torch.tensor([0, 2]), strength=0.01)
    expected = [[[1.0, 3.0, 0.0], [5.0, 3.0, 0.0]], [[1.0, 2.0, 2.0], [1.0, 2.0, 8.0]]]
    assert clamped.tolist() == expected
    clamped.backward(torch.full_like(z, 10.0))
    assert z.grad is not None
    gradient = [
        [[10.0, -0.01, 0.03], [10.0, 0.01, -0.03]],  # (z - mean) / 100, and the active one's
        [[-0.01, -0.01, 10.0], [0.01, 0.01, 10.0]],
    ]
    torch.testing.assert_close(z.grad, torch.tensor(gradient))


def test_descending_the_clamps_gradient_draws_the_inactive_together() -> None:
    z = torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    clamp(z, torch.tensor([1]), 0.5).sum().backward()
    assert z.grad is not None
    after = (z - z.grad).detach()
    expected = z.detach().std(dim=1) * torch.tensor([[0.5, 1.0, 0.5]])
    torch.testing.assert_close(after.std(dim=1), expected)
    torch.testing.assert_close(after.mean(1)[0, [0, 2]], z.detach().mean(1)[0, [0, 2]])


def test_a_step_gives_the_encoder_a_hundredth_of_the_difference_a_pixel() -> None:
    """The whole loss: at mu of an inactive latent P (mu - mean) / 100, a mean over the images."""
    net = DCIGN(BLOBS, replace(TINY, rounds=1), 0, CPU)
    net.precision = "fp32"
    factors = torch.tensor([0, 1])
    mu = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    net.model.encoder = Given(torch.cat((mu, torch.zeros(8, 2)), dim=1))
    net.losses(net.images.gather(net.draw(0, factors).flatten()), factors, 0)["loss"].backward()
    assert mu.grad is not None
    z = mu.detach()
    for rows, inactive in ((slice(0, 4), 1), (slice(4, 8), 0)):
        difference = z[rows, inactive] - z[rows, inactive].mean()
        torch.testing.assert_close(mu.grad[rows, inactive], 256 * difference / 100 / 8)
        assert (mu.grad[rows, 1 - inactive].abs() > 1e-3 * z[rows, 1 - inactive].abs()).all()


def test_only_the_active_latent_is_sampled_and_pays_its_kl() -> None:
    net = DCIGN(BLOBS, replace(TINY, rounds=1), 0, CPU)
    mu = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    logvar = torch.zeros(8, 2, requires_grad=True)  # where the KL has no gradient, the sample has
    net.model.encoder = Given(torch.cat((mu, logvar), dim=1))
    factors = torch.tensor([0, 1])
    terms = net.losses(net.images.gather(net.draw(0, factors).flatten()), factors, 0)
    terms["loss"].backward()
    paid = torch.cat((mu[:4, 0], mu[4:, 1])).square().mean() / 2
    torch.testing.assert_close(terms["kl"].detach(), paid)
    assert logvar.grad is not None
    assert torch.equal(logvar.grad == 0, torch.tensor([[False, True]] * 4 + [[True, False]] * 4))


class Given(torch.nn.Module):
    """An encoder that says what it was told to, whatever the image."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output


def test_a_mini_batch_varies_its_factor_and_no_other() -> None:
    net = DCIGN(BLOBS, replace(TINY, rounds=3, images=12), 0, CPU)
    factors = torch.tensor([0, 1] * 3)
    assert BLOBS.factors is not None
    values = BLOBS.factors[net.draw(5, factors).numpy()]  # (6, 12, 2)
    for minibatch, factor in zip(values, factors.tolist(), strict=True):
        assert len(np.unique(minibatch[:, 1 - factor])) == 1
        assert len(np.unique(minibatch[:, factor])) > 4


def test_mini_batches_change_with_the_step_and_the_seed_and_hold_no_test_image() -> None:
    nets, factors = [DCIGN(BLOBS, TINY, seed, CPU) for seed in (0, 1)], torch.tensor([0, 1])
    drawn = [net.draw(step, factors) for net in nets for step in range(40)]
    assert len({tuple(d.flatten().tolist()) for d in drawn}) == 80
    assert set(torch.stack(drawn).flatten().tolist()) <= set(split(BLOBS)[0])
    assert torch.equal(drawn[3], DCIGN(BLOBS, TINY, 0, CPU).draw(3, factors))


def test_a_line_holds_the_images_that_differ_in_one_factor() -> None:
    """On a shuffled grid of 2 x 3 x 4 with a place empty and a factor that does not vary."""
    grid = np.indices((2, 1, 3, 4)).reshape(4, -1).T * 5
    order = np.random.default_rng(0).permutation(24)[1:]
    dataset = from_array(np.zeros((23, 4, 4), np.uint8))
    names = ("a", "still", "b", "c")
    dataset = replace(dataset, factors=grid[order], factor_names=names)
    found = FactorGrid(dataset, np.arange(23))
    assert (found.names, found.sizes) == (("a", "b", "c"), (2, 3, 4))
    for position in range(23):
        for factor, column in enumerate((0, 2, 3)):
            others = [c for c in range(4) if c != column]
            same = (grid[order][:, others] == grid[order][position, others]).all(axis=1)
            assert set(found.line(position, factor)) == set(np.flatnonzero(same))


def test_data_without_factors_is_refused() -> None:
    with pytest.raises(DataError, match="taught factors, and array has none"):
        baselines.fit("dc-ign", from_array(BLOBS.images))


@pytest.mark.parametrize("factors", [np.ones((256, 2)), np.random.default_rng(0).random((256, 2))])
def test_factors_that_make_no_grid_are_refused(factors: np.ndarray) -> None:
    with pytest.raises(DataError, match="make a grid, and blobs has 230 training images"):
        baselines.fit("dc-ign", replace(BLOBS, factors=factors))


def test_sides_that_cannot_be_halved_four_times_are_refused() -> None:
    with pytest.raises(UsageError, match="multiples of 16, got 12x12"):
        baselines.fit("dc-ign", blobs.draw(12, 3.0))


def test_the_seed_alone_decides() -> None:
    one, same, other = (fit(seed=seed)(np.arange(9)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_the_log_says_what_is_minimised(tmp_path: Path) -> None:
    heard: list[tuple[int, int, dict[str, float]]] = []
    fit(folder=tmp_path, progress=lambda *heard_now: heard.append(heard_now))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert heard == [(6, 6, rows[0])]
    assert set(rows[0]) == {"step", "loss", "recon_nll", "kl", "spread"}
    assert rows[0]["loss"] == pytest.approx(rows[0]["recon_nll"] + rows[0]["kl"], rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="DC-IGN became non-finite by step 50: loss"):
        fit(settings=replace(TINY, lr=1e30, steps=60), folder=tmp_path)
    assert not (tmp_path / "summary.json").exists()


def test_each_latent_learns_its_factor() -> None:
    """Latent 0 follows y and latent 1 x, and neither the other's."""
    settings = Settings(steps=400, channels=8, hidden=32)
    found = dc_ign.fit(BLOBS, settings=settings, device="cpu")(np.arange(256))
    assert BLOBS.factors is not None
    correlation = np.abs(np.corrcoef(np.c_[found, BLOBS.factors].T)[:2, 2:])
    assert np.diag(correlation).min() > 0.95
    assert correlation[[0, 1], [1, 0]].max() < 0.1
