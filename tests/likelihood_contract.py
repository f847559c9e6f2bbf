"""What is true of every likelihood op; a test file subclasses it and adds what is its own.

The subclass names the op, its oracle and the parameters that follow `levels`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_cases import FLUSHED, LAYOUTS, laid_out, wide
from numpy.typing import NDArray
from op_cases import CHECKED_LAYOUTS, STRICT, assert_no_worse, halves, sample, with_gradient
from promises import tried
from torch import Tensor
from torch.library import opcheck

from betavae_core.reference import checks

Array = NDArray[np.float64]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
BYTES = ((torch.uint8, 1), (torch.uint8, 16), (torch.uint8, 255))
EXTREMES = [-np.inf, -1e4, -88, -40, -17, 0, 17, 40, 88, 1e4, np.inf]
RANDOM_CASES = settings(
    max_examples=600,
    derandomize=True,
    database=None,
    deadline=None,
    # Each subclass runs the one test on its own op; nothing is replayed from a database.
    suppress_health_check=[HealthCheck.differing_executors],
)
SEED = st.integers(0, 2**32 - 1)


def draw_targets(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: torch.dtype, levels: int
) -> Array:
    """Half black or white, half any grey."""
    grey = rng.integers(levels + 1, size=shape) if dtype == torch.uint8 else rng.uniform(size=shape)
    return np.where(rng.uniform(size=shape) < 0.5, rng.choice([0, levels], shape), grey) * 1.0


def pixels(levels: int = 255, shape: tuple[int, ...] = (3, 5)) -> Tensor:
    """Bytes of `levels` levels."""
    return torch.from_numpy(np.random.default_rng(9).integers(levels + 1, size=shape)).byte()


class LikelihoodContract:
    name: str  # of the registered op
    op: Callable[..., Tensor]
    exact_nll: Callable[..., Array]
    exact_gradient: Callable[..., Array]
    parameters: tuple[float, ...] = ()

    def exact(self, logits: Tensor, x: Tensor, levels: int, dnll: Tensor) -> tuple[Array, Array]:
        """The oracle's nll and dlogits."""
        inputs = wide(logits), wide(x), levels, *self.parameters
        return self.exact_nll(*inputs), self.exact_gradient(*inputs, wide(dnll))

    def naive(self, logits: Tensor, t: Tensor) -> Tensor:
        """The op as one would write it in eager PyTorch, from targets t = x/levels."""
        raise NotImplementedError

    def terms(self, logits: Array, t: Array) -> tuple[Array, Array]:
        """The magnitudes that a pixel's nll, and its gradient, add up."""
        raise NotImplementedError

    def __call__(self, logits: Tensor, x: Tensor, levels: int, backend: str = "auto") -> Tensor:
        return self.op(logits, x, levels, *self.parameters, backend=backend)

    @pytest.mark.promise("parity-cpu")
    @RANDOM_CASES
    @given(
        st.sampled_from(["auto", "torch"]),
        st.integers(0, 20),
        st.integers(1, 300),
        st.sampled_from(DTYPES),
        st.sampled_from(LAYOUTS),
        st.sampled_from(LAYOUTS),
        st.sampled_from([*BYTES, *((dtype, 1) for dtype in DTYPES)]),
        SEED,
    )
    def test_values_and_gradients_are_the_oracle_s(
        self, backend: str, B: int, P: int, dtype: torch.dtype, logits_as: str, x_as: str,
        target: tuple[torch.dtype, int], seed: int,
    ) -> None:  # fmt: skip
        rng, (x_dtype, levels) = np.random.default_rng(seed), target
        x = draw_targets(rng, (B, P), x_dtype, levels)
        extremes = rng.choice(EXTREMES, (B, P))
        raw = np.where(rng.uniform(size=(B, P)) < 0.1, extremes, rng.normal(0, 6, (B, P)))
        x = np.where(np.isinf(raw), np.where(raw > 0, levels, 0), x)  # certain, and right
        logits, x = laid_out(raw, dtype, logits_as), laid_out(x, x_dtype, x_as)
        x = x if "expanded" not in logits_as + x_as else agreeing(logits, x, levels)
        computation = torch.promote_types(dtype, torch.float32)
        dnll = torch.from_numpy(rng.normal(size=B)).to(computation)

        leaf = with_gradient(logits)
        nll = self(leaf, x, levels, backend)
        (dlogits,) = torch.autograd.grad(nll, leaf, dnll)
        assert (nll.dtype, dlogits.dtype) == (computation, dtype)

        finite = with_gradient(logits.clamp(-6e4, 6e4))
        naive = self.naive(finite, x.to(dtype) / levels)
        (naive_gradient,) = torch.autograd.grad(naive, finite, dnll.to(naive.dtype))
        exact, gradient = self.exact(logits, x, levels, dnll)
        value_terms, gradient_terms = self.terms(wide(logits), wide(x) / levels)
        gradient_terms = gradient_terms * np.abs(wide(dnll))[:, None]
        in_c = backend == "auto" and computation == torch.float32
        rule = computation, FLUSHED if in_c else 0.0
        assert_no_worse("nll", nll, naive, exact, value_terms.sum(1), *rule)
        assert_no_worse("dlogits", dlogits, naive_gradient, gradient, gradient_terms, *rule)
        tried()

    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)]
    )
    @pytest.mark.parametrize(("x_dtype", "levels"), [*BYTES, (torch.float32, 1)])
    def test_the_oracle_agrees(
        self, x_dtype: torch.dtype, levels: int, dtype: torch.dtype, tolerance: float
    ) -> None:
        rng = np.random.default_rng(1)
        logits = with_gradient(torch.from_numpy(rng.normal(0, 4, (7, 784))).to(dtype))
        x = torch.from_numpy(draw_targets(rng, (7, 784), x_dtype, levels)).to(x_dtype)
        nll = self(logits, x, levels)
        dnll = torch.from_numpy(rng.normal(size=7)).to(dtype)
        exact, gradient = self.exact(logits, x, levels, dnll)
        checks.compare("nll", wide(nll), exact, tolerance)
        (dlogits,) = torch.autograd.grad(nll, logits, dnll)
        checks.compare("dlogits", wide(dlogits), gradient, tolerance)

    @pytest.mark.parametrize("levels", [1, 16, 255])
    def test_bytes_and_the_floats_they_stand_for_give_the_same(self, levels: int) -> None:
        x, logits = pixels(levels), sample((3, 5), torch.float64, "contiguous")
        from_bytes = self(logits, x, levels)
        assert torch.equal(from_bytes, self(logits, x.double() / levels, 1))

    def test_images_of_any_shape_are_summed_over_everything_but_the_batch(self) -> None:
        logits, x = sample((2, 60), torch.float64, "contiguous"), pixels(255, (2, 60))
        flat = self(logits, x, 255)
        image = logits.reshape(2, 4, 5, 3).permute(0, 3, 1, 2)
        channels_last = x.reshape(2, 4, 5, 3).permute(0, 3, 1, 2)
        torch.testing.assert_close(self(image, channels_last, 255), flat)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_nan_stays_nan_where_it_is_and_nowhere_else(self, dtype: torch.dtype) -> None:
        logits = torch.zeros(3, 4, dtype=dtype)
        logits[1, 2] = torch.nan
        logits = with_gradient(logits)
        nll = self(logits, torch.zeros(3, 4, dtype=torch.uint8), 1)
        assert nll.isnan().tolist() == [False, True, False]
        nll.sum().backward()
        assert logits.grad.isnan().nonzero().tolist() == [[1, 2]]

    def test_an_empty_batch_costs_nothing(self) -> None:
        logits = torch.zeros(0, 5, requires_grad=True)
        nll = self(logits, torch.zeros(0, 5, dtype=torch.uint8), 255)
        assert nll.shape == (0,)
        nll.sum().backward()
        assert logits.grad.shape == (0, 5)

    @pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3, 4), (4,)), ((3,), (3,))])
    def test_images_of_another_shape_are_refused(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        with pytest.raises(ValueError, match=r"one shape \(B, \.\.\.\), got"):
            self(*map(torch.zeros, shapes), 1)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("layout", [*CHECKED_LAYOUTS, "half of one", "empty", "one pixel"])
    def test_the_registered_ops_pass_opcheck(self, layout: str, dtype: torch.dtype) -> None:
        shape = {"empty": (0, 3), "one pixel": (5, 1)}.get(layout, (5, 3))
        logits = halves(shape, dtype)[1]
        if layout in CHECKED_LAYOUTS:
            logits = sample(shape, dtype, layout)
        forward, backward = (getattr(torch.ops.betavae, f"{self.name}_{d}") for d in ("fwd", "bwd"))
        for x, levels in ((pixels(255, shape), 255), (torch.zeros(shape, dtype=dtype), 1)):
            arguments = x, levels, *self.parameters
            opcheck(forward.default, (with_gradient(logits), *arguments))
            dnll = torch.ones(shape[0], dtype=torch.promote_types(dtype, torch.float32))
            opcheck(backward.default, (logits, *arguments, dnll))

    def test_the_registered_op_gives_the_public_op_s_gradient(self) -> None:
        logits, x = with_gradient(sample((3, 5), torch.float64, "transposed")), pixels()
        registered = getattr(torch.ops.betavae, f"{self.name}_fwd")(
            logits, x, 255, *self.parameters
        )
        public = self(logits, x, 255)
        assert torch.equal(registered, public)
        dnll = torch.tensor([0.5, -2, 3], dtype=torch.float64)
        gradients = [torch.autograd.grad(nll, logits, dnll)[0] for nll in (registered, public)]
        assert torch.equal(*gradients)

    @pytest.mark.parametrize("shape", [(3, 5), (1, 1)])
    def test_gradcheck_and_gradgradcheck(self, shape: tuple[int, int]) -> None:
        logits = with_gradient(sample(shape, torch.float64, "contiguous"))
        assert torch.autograd.gradcheck(
            lambda v: self(v, pixels(255, shape), 255), logits, **STRICT
        )
        assert torch.autograd.gradgradcheck(
            lambda v: self(v, pixels(255, shape), 255), logits, **STRICT
        )

    def test_vmap_is_a_loop_over_images_or_logits_or_both(self) -> None:
        shape = 4, 5, 3
        logits, x = sample((20, 3), torch.float64, "contiguous").view(shape), pixels(255, shape)
        for dims in ((0, 0), (0, None), (None, 0)):
            arguments = [a if dim == 0 else a[0] for a, dim in zip((logits, x), dims, strict=True)]
            mapped = torch.vmap(lambda v, u: self(v, u, 255), in_dims=dims)(*arguments)
            expanded = [a.expand(shape) for a in arguments]
            looped = [self(v, u, 255) for v, u in zip(*expanded, strict=True)]
            torch.testing.assert_close(mapped, torch.stack(looped))

    def test_func_grad_and_vmap_of_it_are_autograd(self) -> None:
        logits, x = with_gradient(sample((3, 5), torch.float64, "contiguous")), pixels()

        def loss(logits: Tensor) -> Tensor:
            return (self(logits, x, 255) ** 2).sum()

        (expected,) = torch.autograd.grad(loss(logits), logits)
        torch.testing.assert_close(torch.func.grad(loss)(logits.detach()), expected)
        mapped = torch.vmap(torch.func.grad(loss))(torch.stack([logits.detach()] * 2))
        torch.testing.assert_close(mapped[1], expected)

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo
    def test_compiled_values_and_gradients_are_the_eager_ones(self) -> None:
        for batch in (3, 4):  # the second batch size compiles with a dynamic one
            logits = with_gradient(sample((batch, 5), torch.float32, "transposed"))
            x = pixels(255, (batch, 5))
            compiled = torch.compile(self.op, fullgraph=True, backend="aot_eager")
            nlls = [op(logits, x, 255, *self.parameters) for op in (compiled, self.op)]
            gradients = [torch.autograd.grad(nll.square().sum(), logits) for nll in nlls]
            torch.testing.assert_close(*nlls, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)

    def test_under_autocast_bfloat16_logits_are_summed_in_float32(self) -> None:
        layer = torch.nn.Linear(3, 5)
        with torch.autocast("cpu", torch.bfloat16):
            logits = layer(torch.ones(3, 3))
            nll = self(logits, pixels(), 255)
        assert (logits.dtype, nll.dtype) == (torch.bfloat16, torch.float32)
        assert torch.equal(nll, self(logits, pixels(), 255))
        nll.sum().backward()
        assert layer.weight.grad.dtype == torch.float32


def agreeing(logits: Tensor, x: Tensor, levels: int) -> Tensor:
    """x with white (black) where a logit is +∞ (-∞)."""
    white, black = torch.full_like(x, levels), torch.zeros_like(x)
    return torch.where(logits.isinf(), torch.where(logits > 0, white, black), x)
