"""The architectures: their shapes, the papers' layers, and gradients equal to the oracle's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_cases import wide
from op_cases import sample

from betavae_core import architectures, model, objectives
from betavae_core.architectures import Architecture, Shape
from betavae_core.errors import UsageError
from betavae_core.reference import checks
from betavae_core.reference import objectives as oracle
from betavae_core.reference.model import VAE

LATENTS = 5
NETWORKS = [
    ("mlp", (1, 7, 5), (12, 8)),
    ("mlp", (3, 4, 4), ()),
    ("higgins-mlp", (1, 4, 4), ()),
    ("higgins-conv", (3, 16, 32), ()),
    ("burgess-conv", (1, 32, 16), ()),
]
OBJECTIVES = [(objectives.Beta(4.0), oracle.Beta(4.0)),
              (objectives.Capacity(10.0, 25.0, 10), oracle.Capacity(10.0, 25.0, 10))]  # fmt: skip


def built(network: Architecture, shape: Shape, **settings: object) -> model.BetaVAE:
    return model.build(network, seed=3, latent_dim=LATENTS, image_shape=shape, **settings)


@pytest.mark.parametrize(("name", "shape", "hidden"), NETWORKS)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("pair", OBJECTIVES, ids=["beta", "capacity"])
def test_loss_terms_and_every_gradient_are_the_oracle_s(
    name: str,
    shape: Shape,
    hidden: tuple[int, ...],
    likelihood: str,
    pair: tuple[objectives.Objective, oracle.Objective],
) -> None:
    network = architectures.build(name, shape, LATENTS, hidden)
    vae = built(network, shape, likelihood=likelihood, sigma=0.3).double()
    with torch.no_grad():  # biases start at zero; here they are not
        for i, parameter in enumerate(vae.parameters()):
            parameter += 0.05 * sample((1, parameter.numel()), torch.float64, "contiguous", i).view(
                parameter.shape
            )
    rng = np.random.default_rng(1)
    x = rng.integers(256, size=(3, *shape)).astype(np.uint8)
    eps = sample((3, LATENTS), torch.float64, "contiguous")
    truth = VAE(network.encoder, network.decoder, likelihood, 255, 0.3)
    truth.load({name: wide(p) for name, p in vae.named_parameters()})

    terms = vae(torch.from_numpy(x), eps=eps)
    loss = pair[0](terms.recon_nll, terms.posterior, 5)
    loss.backward()
    exact_loss, exact, gradients = truth.loss_and_gradients(x, wide(eps), pair[1], 5)

    checks.compare("loss", loss.item(), exact_loss, 1e-12)
    checks.compare("recon_nll", terms.recon_nll.item(), exact.recon_nll, 1e-12)
    checks.compare("kl", terms.posterior.kl.item(), exact.kl, 1e-12)
    checks.compare("kl_per_latent", wide(terms.posterior.kl_per_latent), exact.kl_per_latent, 1e-10)
    for field in ("mu", "logvar", "z"):
        checks.compare(field, wide(getattr(terms.posterior, field)), getattr(exact, field), 1e-10)
    checks.compare("logits", wide(terms.logits), exact.logits, 1e-10)
    assert gradients.keys() == dict(vae.named_parameters()).keys()
    for name, parameter in vae.named_parameters():
        checks.compare(name, wide(parameter.grad), gradients[name], 1e-10)


@pytest.mark.parametrize(("name", "shape", "hidden"), NETWORKS)
def test_images_and_codes_have_the_shapes_asked_for(
    name: str, shape: Shape, hidden: tuple[int, ...]
) -> None:
    vae = built(architectures.build(name, shape, LATENTS, hidden), shape)
    assert vae.encoder(torch.zeros(2, *shape)).shape == (2, 2 * LATENTS)
    assert vae.decoder(torch.zeros(2, LATENTS)).shape == (2, *shape)


def parameters(name: str, shape: Shape, latent_dim: int) -> dict[str, int]:
    network = architectures.build(name, shape, latent_dim)
    return {
        side: sum(p.numel() for p in model.sequential(getattr(network, side)).parameters())
        for side in ("encoder", "decoder")
    }


def test_burgess_conv_has_the_layers_of_the_paper() -> None:
    """Four 4x4 convolutions of 32 channels and stride 2, then 256-256; the decoder mirrors it."""
    conv = (16 + 1) + 3 * (32 * 16 + 1)
    dense = 513 * 256 + 257 * 256
    expected = {
        "encoder": 32 * conv + dense + 257 * 20,
        "decoder": 11 * 256 + 257 * 256 + 257 * 512 + 3 * 32 * (32 * 16 + 1) + (32 * 16 + 1),
    }
    assert parameters("burgess-conv", (1, 64, 64), 10) == expected


def test_higgins_mlp_has_the_layers_of_the_paper() -> None:
    network = architectures.build("higgins-mlp", (1, 64, 64), 10)
    encoder = [layer for layer in network.encoder if layer[0] != "flatten"]
    assert encoder == [("linear", 4096, 1200), ("relu",), ("linear", 1200, 1200), ("relu",),
                       ("linear", 1200, 20)]  # fmt: skip
    assert [layer[0] for layer in network.decoder] == [*["linear", "tanh"] * 3, "linear", "reshape"]


def test_higgins_conv_has_the_layers_of_the_paper() -> None:
    network = architectures.build("higgins-conv", (3, 64, 64), 32)
    convolutions = [layer[1:] for layer in network.encoder if layer[0] == "conv"]
    assert convolutions == [
        (3, 32, 4, 2, 1),
        (32, 32, 4, 2, 1),
        (32, 64, 4, 2, 1),
        (64, 64, 4, 2, 1),
    ]
    assert [layer[1:] for layer in network.encoder if layer[0] == "linear"] == [
        (1024, 256),
        (256, 64),
    ]
    mirrored = [layer[1:3] for layer in network.decoder if layer[0] == "conv_transpose"]
    assert mirrored == [(64, 64), (64, 32), (32, 32), (32, 3)]


def test_an_mlp_is_as_wide_as_asked() -> None:
    network = architectures.build("mlp", (1, 28, 28), 20, (512, 256))
    widths = [layer[1:] for layer in network.encoder if layer[0] == "linear"]
    assert widths == [(784, 512), (512, 256), (256, 40)]
    widths = [layer[1:] for layer in network.decoder if layer[0] == "linear"]
    assert widths == [(20, 256), (256, 512), (512, 784)]


def test_the_default_is_convolutional_at_64_by_64_alone() -> None:
    shapes = [(1, 64, 64), (3, 64, 64), (1, 28, 28), (1, 64, 32)]
    assert [architectures.default_name(s) for s in shapes] == ["burgess-conv"] * 2 + ["mlp"] * 2


def test_an_unknown_architecture_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="burgess-conv, mlp, got 'resnet'"):
        architectures.build("resnet", (1, 8, 8), 2)


@pytest.mark.parametrize("name", ["higgins-conv", "burgess-conv"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 64, 60)])
def test_a_size_that_cannot_be_halved_four_times_is_refused(name: str, shape: Shape) -> None:
    with pytest.raises(
        UsageError, match=rf"multiples of 16, got {shape[1]}x{shape[2]}.*--arch mlp"
    ):
        architectures.build(name, shape, 2)
