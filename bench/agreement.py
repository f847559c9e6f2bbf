"""Right before fast: a result that is wrong raises, and nothing is timed."""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from betavae_core.errors import FailureError

_SIGMAS = 6.0  # how far the moments of a fair draw may stray: once in 10⁹ draws


class WrongResultError(FailureError):
    """What was to be timed does not compute what it should."""


def agree(
    name: str, got: Tensor, exact: Tensor, tolerance: float, *, typical: bool = False
) -> None:
    """Raises WrongResultError where `got` is off by more than `tolerance` times the rms of `exact`.

    Every element counts, or with `typical` the rms of the errors: for low precisions, where a
    large element is off by more than a small one is long.
    """
    error = (got.double() - exact.double()).abs()
    off = error.square().mean().sqrt() if typical else error.max()
    scale = exact.double().square().mean().sqrt()
    if not off <= tolerance * scale:  # a NaN is no agreement
        raise WrongResultError(
            f"{name} must be within {tolerance:g} of what is exact (rms {float(scale):.4g}), "
            f"got an error of {float(off):.4g}; nothing was timed"
        )


def standard_normal(name: str, eps: Tensor) -> None:
    """Raises WrongResultError where `eps` has not the mean and the variance of N(0, 1)."""
    values, n = eps.double(), eps.numel()
    mean, excess = float(values.mean()), float(values.square().mean()) - 1
    if not (abs(mean) <= _SIGMAS / sqrt(n) and abs(excess) <= _SIGMAS * sqrt(2 / n)):
        raise WrongResultError(
            f"{name} must be drawn from N(0, 1), got mean {mean:.4g} and variance "
            f"{1 + excess:.4g} from {n} draws; nothing was timed"
        )
