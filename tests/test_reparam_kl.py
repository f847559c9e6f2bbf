"""reparam_kl: closed forms, the oracle's values and gradients, bounds, and every transformation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import LAYOUTS, laid_out, wide
from op_cases import CHECKED_LAYOUTS, STRICT, assert_no_worse, halves, sample, with_gradient
from promises import tried
from torch import Tensor
from torch.library import opcheck

from betavae_core.ops import LOGVAR_MAX, LOGVAR_MIN, philox, reparam_kl
from betavae_core.reference import checks
from betavae_core.reference import philox as oracle_philox
from betavae_core.reference import reparam_kl as oracle

KEY = philox.make_key(5, 7)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
FORWARD = torch.ops.betavae.reparam_kl_fwd.default
BACKWARD = torch.ops.betavae.reparam_kl_bwd.default


def posterior(shape: tuple[int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    mu, logvar = halves(shape, dtype)
    return with_gradient(mu), with_gradient(logvar)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_is_zero_at_the_prior(dtype: torch.dtype) -> None:
    mu = torch.zeros(3, 10, dtype=dtype)
    _, per_sample, per_latent = reparam_kl(mu, mu, KEY)
    assert not per_sample.any()
    assert not per_latent.any()


@pytest.mark.parametrize(
    ("mu", "logvar", "kl"), [(1.0, 0.0, 5.0), (1.0, 1.0, 5 * (np.e - 1)), (0.0, -30.0, 145.0)]
)
def test_kl_has_its_closed_form(mu: float, logvar: float, kl: float) -> None:
    constant = torch.full((4, 10), mu), torch.full((4, 10), logvar)
    _, per_sample, per_latent = reparam_kl(*constant, KEY)
    np.testing.assert_allclose(per_sample, kl, rtol=1e-6)
    np.testing.assert_allclose(per_latent, kl / 10, rtol=1e-6)


def test_z_is_mu_plus_sigma_times_the_noise_of_the_key() -> None:
    mu, logvar = halves((6, 7), torch.float64)
    z = reparam_kl(mu, logvar, KEY, first_sample=100, stream=philox.EVALUATION).z
    eps = oracle_philox.normal(5, 7, 100 + np.arange(6), 7, oracle_philox.EVALUATION)
    np.testing.assert_allclose(oracle.inverse(z, mu, logvar), eps, atol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_key_gives_what_its_noise_gives(dtype: torch.dtype) -> None:
    mu, logvar = halves((5, 6), dtype)
    computation = torch.promote_types(dtype, torch.float32)
    eps = philox.normal(KEY, torch.arange(3, 8), 6, philox.SPLIT, computation)
    drawn = reparam_kl(mu, logvar, KEY, first_sample=3, stream=philox.SPLIT, backend="torch")
    given_it = reparam_kl(mu, logvar, eps=eps)
    assert all(torch.equal(a, b) for a, b in zip(drawn, given_it, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_z_has_the_inputs_dtype_and_the_kl_at_least_float32(dtype: torch.dtype) -> None:
    z, per_sample, per_latent = reparam_kl(*halves((3, 4), dtype), KEY)
    kl_dtype = torch.promote_types(dtype, torch.float32)
    assert (z.dtype, per_sample.dtype, per_latent.dtype) == (dtype, kl_dtype, kl_dtype)
    assert (z.shape, per_sample.shape, per_latent.shape) == ((3, 4), (3,), (4,))


def naive(
    mu: Tensor, logvar: Tensor, eps: Tensor, upstream: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The formula as one would write it in eager PyTorch, and its gradient by autograd."""
    m, s = with_gradient(mu), with_gradient(logvar)
    v = s.clamp(LOGVAR_MIN, LOGVAR_MAX)
    kl = 0.5 * (m**2 + v.exp() - 1 - v)
    z = m + (0.5 * v).exp() * eps.to(m.dtype)
    outputs = z, kl.sum(1), kl.sum(0) / max(len(m), 1)
    gradients = torch.autograd.grad(
        outputs, (m, s), [u.to(o.dtype) for u, o in zip(upstream, outputs, strict=True)]
    )
    return *(output.detach() for output in outputs), *gradients


BEYOND = [-np.inf, -1e4, -31, -30, -1, -1e-3, 0, 1e-4, 1, 10.9, 1e4, np.inf]


@pytest.mark.promise("parity-cpu")
@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(
    st.integers(0, 40),
    st.integers(1, 70),
    st.sampled_from(DTYPES),
    *[st.sampled_from(LAYOUTS)] * 3,
    st.integers(0, 2**32 - 1),
)
def test_values_and_gradients_are_the_oracle_s(
    B: int, D: int, dtype: torch.dtype, mu_as: str, logvar_as: str, dz_as: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape, computation = (B, D), torch.promote_types(dtype, torch.float32)
    spread = rng.choice([1e-3, 1.0, 6.0])
    near, extreme = rng.normal(0, spread, shape).clip(-30, 10.9), rng.choice(BEYOND, shape)
    mu = laid_out(rng.normal(0, 2, shape), dtype, mu_as)
    logvar = laid_out(np.where(rng.uniform(size=shape) < 0.1, extreme, near), dtype, logvar_as)
    eps = torch.from_numpy(rng.normal(size=shape)).to(computation)
    upstream = (
        laid_out(rng.normal(size=shape), dtype, dz_as),
        torch.from_numpy(rng.normal(size=B)).to(computation),
        torch.from_numpy(rng.normal(size=D)).to(computation),
    )
    m, s = with_gradient(mu), with_gradient(logvar)
    outputs = reparam_kl(m, s, eps=eps)
    gradients = torch.autograd.grad(outputs, (m, s), upstream)

    inputs, gz, gs, gl = (wide(mu), wide(logvar), wide(eps)), *map(wide, upstream)
    exact = (*oracle.reparam_kl(*inputs), *oracle.reparam_kl_backward(*inputs, gz, gs, gl))
    v = np.clip(inputs[1], LOGVAR_MIN, LOGVAR_MAX)
    noise = np.exp(v / 2) * np.abs(inputs[2])
    kl = (inputs[0] ** 2 + np.abs(np.expm1(v)) + np.abs(v)) / 2
    weight = np.abs(gs)[:, None] + np.abs(gl) / max(B, 1)
    slope = np.abs(gz) * noise / 2 + weight * np.abs(np.expm1(v)) / 2
    terms = (
        np.abs(inputs[0]) + noise, kl.sum(1), kl.sum(0) / max(B, 1),
        np.abs(gz) + weight * np.abs(inputs[0]), slope * (v == inputs[1]),
    )  # fmt: skip
    names = ("z", "kl_per_sample", "kl_per_latent", "dmu", "dlogvar")
    eager = naive(mu, logvar, eps, upstream)
    for case in zip(names, (*outputs, *gradients), eager, exact, terms, strict=True):
        assert_no_worse(*case, computation)
    tried()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("shape", [(1, 1), (64, 10), (129, 61)])
def test_the_oracle_agrees_given_the_same_noise(
    shape: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    mu, logvar = posterior(shape, dtype)
    eps = sample(shape, dtype, "contiguous", 1)
    outputs = reparam_kl(mu, logvar, eps=eps)
    upstream = [sample((1, o.numel()), o.dtype, "contiguous", 2).reshape(o.shape) for o in outputs]
    gradients = torch.autograd.grad(outputs, (mu, logvar), upstream)
    inputs = wide(mu), wide(logvar), wide(eps)
    exact = *oracle.reparam_kl(*inputs), *oracle.reparam_kl_backward(*inputs, *map(wide, upstream))
    for i, (got, value) in enumerate(zip((*outputs, *gradients), exact, strict=True)):
        checks.compare(f"output {i}", wide(got), value, tolerance)


def test_logvar_is_bounded_and_its_gradient_is_zero_outside_and_not_at_the_bounds() -> None:
    just_outside = [np.nextafter(LOGVAR_MIN, -99), np.nextafter(LOGVAR_MAX, 99)]
    values = [LOGVAR_MIN, LOGVAR_MAX, *just_outside, -1e4, 1e4, -np.inf, np.inf]
    logvar = torch.tensor([values], dtype=torch.float64, requires_grad=True)
    mu = torch.zeros(1, len(values), dtype=torch.float64, requires_grad=True)
    z, per_sample, per_latent = reparam_kl(mu, logvar, eps=torch.ones_like(mu))
    low, high = (oracle.reparam_kl([[0.0]], [[v]], [[1.0]]) for v in (LOGVAR_MIN, LOGVAR_MAX))
    expected = [low, high, low, high, low, high, low, high]
    checks.compare("z", wide(z)[0], [e.z.item() for e in expected], 1e-14)
    checks.compare("kl", wide(per_latent), [e.kl_per_latent.item() for e in expected], 1e-14)
    (z.sum() + per_sample.sum()).backward()
    assert (logvar.grad != 0).tolist() == [[True, True] + [False] * 6]
    assert (mu.grad == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", ["mu", "logvar"])
def test_nan_stays_nan_where_it_is_and_nowhere_else(which: str, dtype: torch.dtype) -> None:
    arguments = {"mu": torch.zeros(3, 4, dtype=dtype), "logvar": torch.zeros(3, 4, dtype=dtype)}
    arguments[which][1, 2] = torch.nan
    arguments = {name: with_gradient(a) for name, a in arguments.items()}
    z, per_sample, per_latent = reparam_kl(**arguments, key=KEY)
    assert z.isnan().nonzero().tolist() == [[1, 2]]
    assert per_sample.isnan().nonzero().tolist() == [[1]]
    assert per_latent.isnan().nonzero().tolist() == [[2]]
    per_sample.sum().backward()
    assert arguments[which].grad.isnan().nonzero().tolist() == [[1, 2]]


def test_a_float16_sample_of_the_widest_posterior_is_finite() -> None:
    mu = torch.zeros(1000, 64, dtype=torch.float16)
    z = reparam_kl(mu, torch.full_like(mu, 1e4), KEY).z
    assert z.isfinite().all()


def test_the_means_of_an_empty_batch_are_zero() -> None:
    mu, logvar = posterior((0, 5))
    z, per_sample, per_latent = reparam_kl(mu, logvar, KEY)
    assert (z.shape, per_sample.shape) == ((0, 5), (0,))
    assert per_latent.tolist() == [0] * 5
    per_latent.sum().backward()
    assert mu.grad.shape == logvar.grad.shape == (0, 5)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((4,), (4,)), ((2, 3, 4), (2, 3, 4))])
def test_posteriors_of_another_shape_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    mu, logvar = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match=r"must both be \(B, D\), got"):
        reparam_kl(mu, logvar, KEY)


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (4,), (2, 3, 4)])
def test_noise_of_another_shape_is_refused_and_not_broadcast(shape: tuple[int, ...]) -> None:
    mu = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"eps must .*\(3, 4\), got"):
        reparam_kl(mu, mu, eps=torch.zeros(shape))


def test_key_and_eps_are_one_or_the_other() -> None:
    mu = torch.zeros(3, 4)
    for noise in ({}, {"key": KEY, "eps": mu}):
        with pytest.raises(ValueError, match="exactly one of key and eps"):
            reparam_kl(mu, mu, **noise)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [*CHECKED_LAYOUTS, "halves of one", "empty", "one latent"])
def test_the_registered_ops_pass_opcheck(layout: str, dtype: torch.dtype) -> None:
    shape = {"empty": (0, 3), "one latent": (5, 1)}.get(layout, (5, 3))
    if layout in CHECKED_LAYOUTS:
        mu, logvar = (sample(shape, dtype, layout, seed) for seed in (0, 1))
    else:
        mu, logvar = halves(shape, dtype)
    draw = KEY, 3, philox.NOISE
    opcheck(FORWARD, (with_gradient(mu), with_gradient(logvar), *draw))
    upstream = [torch.ones_like(output) for output in FORWARD(mu, logvar, *draw)]
    opcheck(BACKWARD, (mu, logvar, *draw, *upstream))


def test_the_registered_op_gives_the_public_op_s_gradient() -> None:
    mu, logvar = posterior((4, 3))
    registered = FORWARD(mu, logvar, KEY, 2, 1)
    public = reparam_kl(mu, logvar, KEY, first_sample=2, stream=1)
    upstream = [torch.full_like(output, 0.7) for output in registered]
    gradients = (torch.autograd.grad(o, (mu, logvar), upstream) for o in (registered, public))
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    torch.testing.assert_close(registered, tuple(public), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3, 5), (1, 1)])
@pytest.mark.parametrize("noise", ["key", "eps"])
def test_gradcheck_and_gradgradcheck(shape: tuple[int, int], noise: str) -> None:
    draw = {"key": KEY} if noise == "key" else {"eps": sample(shape, torch.float64, "contiguous")}

    def op(mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
        return tuple(reparam_kl(mu, logvar, **draw))

    assert torch.autograd.gradcheck(op, posterior(shape), **STRICT)
    assert torch.autograd.gradgradcheck(op, posterior(shape), **STRICT)


def test_vmap_is_a_loop() -> None:
    mu, logvar = sample((30, 4), torch.float32, "contiguous").reshape(2, 5, 3, 4)
    mapped = torch.vmap(lambda m, v: reparam_kl(m, v, KEY))(mu, logvar)
    looped = zip(*(reparam_kl(m, v, KEY) for m, v in zip(mu, logvar, strict=True)), strict=True)
    for got, expected in zip(mapped, looped, strict=True):
        torch.testing.assert_close(got, torch.stack(expected), rtol=1e-6, atol=1e-6)


def loss(mu: Tensor, logvar: Tensor) -> Tensor:
    z, per_sample, per_latent = reparam_kl(mu, logvar, KEY)
    return (z**2).sum() + (per_sample**2).sum() + per_latent[0]


def test_func_grad_and_vmap_of_it_are_autograd() -> None:
    mu, logvar = posterior((3, 4))
    expected = torch.autograd.grad(loss(mu, logvar), (mu, logvar))
    got = torch.func.grad(loss, argnums=(0, 1))(mu.detach(), logvar.detach())
    torch.testing.assert_close(got, expected)
    stacked = torch.stack([mu.detach()] * 2), torch.stack([logvar.detach()] * 2)
    mapped = torch.vmap(torch.func.grad(loss, argnums=(0, 1)))(*stacked)
    torch.testing.assert_close([m[1] for m in mapped], list(expected))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's
def test_compiled_values_and_gradients_are_the_eager_ones() -> None:
    for shape in ((3, 4), (5, 4)):  # the second batch size compiles with a dynamic one
        mu, logvar = posterior(shape, torch.float32)
        compiled = torch.compile(reparam_kl, fullgraph=True, backend="aot_eager")
        outputs = [op(mu, logvar, KEY) for op in (compiled, reparam_kl)]
        upstream = [torch.full_like(output, 0.3) for output in outputs[0]]
        gradients = [torch.autograd.grad(o, (mu, logvar), upstream) for o in outputs]
        torch.testing.assert_close(tuple(outputs[0]), tuple(outputs[1]), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-6)


def test_under_autocast_a_bfloat16_posterior_keeps_its_kl_in_float32() -> None:
    x, layer = torch.ones(2, 3), torch.nn.Linear(3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        mu, logvar = layer(x).chunk(2, dim=1)
        z, per_sample, per_latent = reparam_kl(mu, logvar, KEY)
    assert (z.dtype, per_sample.dtype, per_latent.dtype) == (torch.bfloat16, *[torch.float32] * 2)
    assert torch.equal(per_sample, reparam_kl(mu, logvar, KEY).kl_per_sample)
    (z.sum() + per_sample.sum()).backward()
    assert layer.weight.grad.dtype == torch.float32
