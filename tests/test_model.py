"""The model: deterministic codes, images in [0, 1], weights from a seed, one's own modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from op_cases import sample
from torch import Tensor, nn

from betavae_core import architectures, evaluation, model
from betavae_core.architectures import Shape
from betavae_core.data import from_array
from betavae_core.data.resident import Resident
from betavae_core.layers import ConvTranspose2d, Linear
from betavae_core.ops import gaussian_nll, philox

GREY, COLOUR = (1, 6, 5), (3, 4, 5)
LATENTS = 3
Images = NDArray[np.uint8]


def vae(shape: Shape = GREY, seed: int = 0, **settings: object) -> model.BetaVAE:
    network = architectures.build("mlp", shape, LATENTS, (8,))
    return model.build(network, seed=seed, latent_dim=LATENTS, image_shape=shape, **settings)


def nchw(count: int, shape: Shape = GREY, levels: int = 255) -> Images:
    rng = np.random.default_rng(2)
    return rng.integers(levels + 1, size=(count, *shape)).astype(np.uint8)


def layouts(x: Images) -> list[Images]:
    """Every accepted layout of images (N, C, H, W)."""
    return [x, x.transpose(0, 2, 3, 1), *([x[:, 0]] if x.shape[1] == 1 else [])]


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_encode_takes_every_layout_as_array_or_tensor_and_gives_the_same_kind(shape: Shape) -> None:
    network, x = vae(shape), nchw(7, shape)
    mu, logvar = network.encoder(torch.from_numpy(x) / 255).detach().chunk(2, dim=1)
    for images in layouts(x):
        from_array, from_tensor = network.encode(images), network.encode(torch.tensor(images))
        assert isinstance(from_array.mu, np.ndarray)
        assert isinstance(from_tensor.mu, Tensor)
        for got, expected in ((from_array.mu, mu), (from_array.logvar, logvar)):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(from_tensor.mu, mu)
        torch.testing.assert_close(from_tensor.logvar, logvar)


@pytest.mark.parametrize("levels", [1, 16, 255])
def test_bytes_and_the_floats_they_stand_for_have_one_code_and_cost(levels: int) -> None:
    network, x = vae(levels=levels), nchw(4, levels=levels)
    key, images = philox.make_key(0), torch.from_numpy(x)
    costs = [network(form, key=key).recon_nll for form in (images, images / levels)]
    torch.testing.assert_close(*costs)
    for floats in (x / levels, (x / levels).astype(np.float32)):
        np.testing.assert_allclose(network.encode(x).mu, network.encode(floats).mu, atol=1e-6)


def test_a_code_is_the_mean_and_never_a_sample() -> None:
    network, x = vae(), nchw(5)
    first = network.encode(x)
    torch.manual_seed(1)
    network.train()
    for posterior in (network.encode(x), network.eval().encode(x)):
        assert np.array_equal(posterior.mu, first.mu)
    assert first.z is first.kl_per_sample is first.kl_per_latent is None


def test_an_array_is_encoded_and_decoded_in_batches_like_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, x = vae(), nchw(23)
    mu = network.encode(x).mu
    images = network.decode(mu)
    monkeypatch.setattr(model, "_ENCODE_BATCH", 4)
    np.testing.assert_allclose(network.encode(x).mu, mu, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.decode(mu), images, rtol=1e-5, atol=1e-6)


def test_no_images_have_no_codes_and_no_codes_no_images() -> None:
    assert vae().encode(nchw(0)).mu.shape == (0, LATENTS)
    assert vae().decode(np.zeros((0, LATENTS))).shape == (0, 6, 5)


def test_a_tensor_keeps_its_graph_and_an_array_has_none() -> None:
    network = vae()
    assert network.encode(torch.from_numpy(nchw(2))).mu.requires_grad
    assert network.decode(torch.zeros(2, LATENTS)).requires_grad


def test_images_that_may_not_be_written_to_are_encoded_without_a_warning() -> None:
    x = nchw(3)
    x.flags.writeable = False
    torch.set_warn_always(True)  # PyTorch says it once a process, perhaps in another test
    try:
        for images in layouts(x):
            assert vae().encode(images).mu.shape == (3, LATENTS)
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 6), (2, 3, 6, 5), (2, 6, 5, 3), (2, 1, 1, 6, 5)])
def test_images_of_another_shape_are_refused(kind: type, shape: tuple[int, ...]) -> None:
    network = vae()
    with pytest.raises(ValueError, match=r"\(N, 6, 5\), \(N, 6, 5, 1\) or \(N, 1, 6, 5\).*got"):
        network.encode(kind(shape))
    assert network.training  # as it was before


@pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
@pytest.mark.parametrize("shape", [(LATENTS,), (2, 4), (2, 3, 1)])
def test_codes_of_another_shape_are_refused(kind: type, shape: tuple[int, ...]) -> None:
    network = vae()
    with pytest.raises(ValueError, match=r"z must be \(N, 3\).*got"):
        network.decode(kind(shape))
    assert network.training


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_decoded_images_are_probabilities_in_the_layout_of_a_data_set(shape: Shape) -> None:
    network, z = vae(shape), 100 * np.random.default_rng(0).normal(size=(9, LATENTS))
    images = network.decode(z)
    c, h, w = shape
    assert images.shape == ((9, h, w) if c == 1 else (9, h, w, c))
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    from_tensor = network.decode(torch.from_numpy(z)).detach()
    assert from_tensor.shape == (9, *shape)
    np.testing.assert_allclose(
        from_tensor.permute(0, 2, 3, 1).reshape(images.shape), images, atol=1e-6
    )
    np.testing.assert_allclose(
        network.encode(images).mu, network.encode(from_tensor).mu.detach(), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_encodes_and_decodes(dtype: torch.dtype) -> None:
    network, x = vae().to(dtype), nchw(2)
    mu = network.encode(x).mu
    assert network.decode(mu).shape == (2, 6, 5)
    np.testing.assert_allclose(mu, vae().encode(x).mu, atol=0.05)


def test_the_likelihood_is_that_of_the_logits_and_not_of_their_sigmoid() -> None:
    network = vae()
    with torch.no_grad():
        network.decoder[-2].bias.fill_(200.0)  # the sigmoid is 1 to the last bit of a float64
    terms = network(torch.zeros(2, *GREY), eps=torch.zeros(2, LATENTS))
    assert terms.recon_nll.item() == pytest.approx(terms.logits.sum().item() / 2, rel=1e-6)
    assert terms.recon_nll.item() > 30 * 190


def test_the_terms_are_sums_over_pixels_and_means_over_the_batch() -> None:
    x, eps = torch.from_numpy(nchw(4)), sample((4, LATENTS), torch.float32, "contiguous")
    for likelihood, settings in (("bernoulli", {}), ("gaussian", {"sigma": 0.2})):
        terms = vae(likelihood=likelihood, **settings)(x, eps=eps)
        if likelihood == "bernoulli":
            nll = F.binary_cross_entropy_with_logits(terms.logits, x / 255, reduction="sum")
        else:
            nll = gaussian_nll(terms.logits, x, 255, 0.2).sum()
        torch.testing.assert_close(terms.recon_nll, nll / 4)
        assert terms.posterior.z.shape == (4, LATENTS)
        assert terms.logits.shape == x.shape


def test_half_batches_with_their_first_sample_make_the_whole_batch() -> None:
    network, x, key = vae().double(), torch.from_numpy(nchw(8)), philox.make_key(3, 5)
    whole = network(x, key=key).posterior.z
    halves = [network(x[i : i + 4], key=key, first_sample=i).posterior.z for i in (0, 4)]
    torch.testing.assert_close(torch.cat(halves), whole)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_weights_are_a_function_of_the_seed_alone(name: str) -> None:
    network = architectures.build(name, (1, 16, 16), LATENTS, (8,))
    settings = {"latent_dim": LATENTS, "image_shape": (1, 16, 16)}
    torch.manual_seed(1)
    one = model.build(network, seed=5, **settings).state_dict()
    torch.manual_seed(2)
    same = model.build(network, seed=5, **settings).state_dict()
    other = model.build(network, seed=6, **settings).state_dict()
    assert all(torch.equal(one[k], same[k]) for k in one)
    assert all((one[k] != other[k]).float().mean() > 0.99 for k in one if k.endswith("weight"))


def fan_in(layer: nn.Module) -> float:
    """How many inputs reach an output in the middle of an image, counted by the layer itself."""
    weight, bias = layer.weight.clone(), layer.bias.clone()
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias.zero_()
        if isinstance(layer, nn.Linear):
            count = layer(torch.ones(1, layer.in_features)).max()
        else:
            count = layer(torch.ones(1, layer.in_channels, 8, 8)).max()
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return count.item()


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
@pytest.mark.parametrize(("init", "share"), [("lecun", 1.0), ("pytorch", 1 / 3)])
def test_every_layer_starts_with_its_share_of_1_over_fan_in(
    name: str, init: str, share: float
) -> None:
    shape = (1, 32, 32)
    network = architectures.build(name, shape, 10)
    built = model.build(network, seed=0, init=init, latent_dim=10, image_shape=shape)
    layers = [m for m in built.modules() if hasattr(m, "weight")]
    assert {type(m) for m in layers} >= ({Linear} if "mlp" in name else {Linear, ConvTranspose2d})
    for layer in layers:
        weight, variance = layer.weight.detach(), share / fan_in(layer)
        spread = 5 / weight.numel() ** 0.5  # five deviations and more: a uniform's kurtosis is 1.8
        assert weight.square().mean().item() == pytest.approx(variance, rel=spread)
        assert abs(weight.mean().item()) < spread * variance**0.5
        assert weight.abs().max().item() <= (3 * variance) ** 0.5 * (1 + 1e-6)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_biases_start_at_zero_or_as_the_weights_do(name: str) -> None:
    network = architectures.build(name, (1, 32, 32), 10)
    settings = {"seed": 0, "latent_dim": 10, "image_shape": (1, 32, 32)}
    for layer in model.build(network, **settings).modules():
        assert not hasattr(layer, "bias") or not layer.bias.any()
    for layer in model.build(network, init="pytorch", **settings).modules():
        if hasattr(layer, "bias"):
            bound = fan_in(layer) ** -0.5
            assert bound / 3 < layer.bias.abs().max().item() <= bound or layer.bias.numel() < 4
            assert len(layer.bias.unique()) == len(layer.bias)


def test_pytorchs_own_layers_start_as_ours_do_under_its_name() -> None:
    network = architectures.build("higgins-mlp", (1, 32, 32), 10)
    settings = {"latent_dim": 10, "image_shape": (1, 32, 32)}
    ours = model.build(network, init="pytorch", seed=0, **settings)
    torch.manual_seed(0)
    theirs = [m for m in model.sequential(network.encoder) if isinstance(m, nn.Linear)]
    pairs = zip((m for m in ours.encoder if isinstance(m, nn.Linear)), theirs, strict=True)
    for one, other in pairs:
        assert one.weight.std().item() == pytest.approx(other.weight.std().item(), rel=0.05)
        assert one.bias.abs().max().item() == pytest.approx(other.bias.abs().max().item(), rel=0.3)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(24, 2 * LATENTS)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def test_an_encoder_and_a_decoder_of_ones_own_work() -> None:
    """The decoder gives flat logits; they only have to reshape to images."""
    encoder, decoder = Encoder(), nn.Linear(LATENTS, 60)
    network = model.BetaVAE(encoder, decoder, latent_dim=LATENTS, image_shape=COLOUR, levels=255)
    x = nchw(6, COLOUR)
    terms = network(torch.from_numpy(x), key=philox.make_key(0))
    (terms.recon_nll + terms.posterior.kl).backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())
    assert network.decode(network.encode(x).mu).shape == (6, 4, 5, 3)


def test_the_means_of_an_evaluation_do_not_depend_on_its_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = vae()
    images = Resident(from_array(nchw(23)[:, 0]), "cpu")
    indices, found = torch.arange(0, 23, 2), []
    for batch in (500, 1, 7):
        monkeypatch.setattr(evaluation, "_BATCH", batch)
        recon_nll, posterior = evaluation.expectation(network, images, indices, seed=4)
        found.append((recon_nll, posterior.kl, posterior.kl_per_latent, posterior.z))
    assert found[0][3].shape == (12, LATENTS)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-6)
    assert network.training


def test_the_noise_of_an_evaluation_belongs_to_the_image() -> None:
    images = Resident(from_array(nchw(9)[:, 0]), "cpu")
    every, some = (
        evaluation.expectation(vae(), images, index, seed=4)[1].z
        for index in (torch.arange(9), torch.tensor([7, 2]))
    )
    torch.testing.assert_close(some, every[[7, 2]])
