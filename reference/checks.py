"""Check a hand-written gradient against the function it belongs to, in your own tests.

    from betavae_core.reference.checks import check_gradients

    check_gradients(
        lambda mu, logvar: reparam_kl(mu, logvar, eps),
        lambda mu, logvar, *upstream: reparam_kl_backward(mu, logvar, eps, *upstream),
        {"mu": mu, "logvar": logvar},
    )

It says which argument's gradient is wrong and by how much. A direction costs four evaluations of
the function and compares one number, so any size is cheap. Nothing here imports a framework:
whatever NumPy can read as an array will do.

Source: Abramowitz, Stegun, "Handbook of mathematical functions" (1964), table 25.2, for the
differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.reference.philox import EVALUATION, normal

Array = NDArray[np.float64]

FLOOR = 1e-12  # where everything expected is smaller, an error is relative to this
ROUNDING = 16 * 2.0**-52  # how much of its size a float64 function may lose to rounding


class MismatchError(AssertionError):
    """Two arrays that should be equal are not."""


class GradientError(MismatchError):
    """A gradient is not the derivative of its function; the message says which and by how much."""


def relative_error(got: ArrayLike | None, expected: ArrayLike, *, floor: float = FLOOR) -> float:
    """max|got - expected| / max(max|expected|, floor): one scale for the whole array.

    An element near zero is therefore judged by the size of its array and not by its own. Two
    equal infinities agree. Infinite where `got` is None or of another shape, and where one side
    alone is infinite or either is NaN (NaN equals nothing).
    """
    if got is None or np.shape(got) != np.shape(expected):
        return np.inf
    got, expected = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    finite = np.isfinite(expected)
    same_infinities = np.array_equal(got[~finite], expected[~finite])
    if not same_infinities or not np.isfinite(got[finite]).all():
        return np.inf
    gap = np.abs(got[finite] - expected[finite]).max(initial=0.0)
    return float(gap / max(np.abs(expected[finite]).max(initial=0.0), floor))


def compare(
    name: str,
    got: ArrayLike | None,
    expected: ArrayLike,
    tolerance: float,
    *,
    floor: float = FLOOR,
) -> float:
    """The `relative_error` of `got`; raises MismatchError, which names it, above `tolerance`."""
    error = relative_error(got, expected, floor=floor)
    if not error <= tolerance:  # so that a tolerance of NaN forgives nothing
        raise MismatchError(
            f"{name}: relative error {error:.3g} is above {tolerance:.3g}; "
            f"{_difference(got, expected)}"
        )
    return error


def check_gradients(
    function: Callable[..., Any],
    backward: Callable[..., Any],
    arguments: Mapping[str, ArrayLike],
    *,
    tolerance: float = 1e-6,
    step: float = 1e-4,
    directions: int = 3,
    seed: int = 0,
) -> dict[str, float]:
    """The relative error of each argument's gradient; raises GradientError above `tolerance`.

    function(*values) returns an array or a tuple of arrays, the outputs y_k; `values` are those of
    `arguments` in float64. backward(*values, *upstream) is given one u_k an output, of its shape,
    and returns one gradient an argument: an array (for a single argument), a tuple in the order of
    `arguments`, or a mapping with their names.

    For every argument a by itself, random u, and random directions v, the two sides of

        <gradient_a, v> = d/dh Σ_k <u_k, y_k(a + h·v)>                          at h = 0

    are compared, the right one by differences of fourth order, good to about 1e-11 at h = `step`:

        dy/dh = (2/3)·(y(h) - y(-h))/h - (1/12)·(y(2h) - y(-2h))/h

    so a kink (ReLU, |·|) must be further away than that: take a smaller step near one. The error
    is the largest over the directions of |analytic - numeric| over the larger of the two, and
    over no less than what rounding could fake: ROUNDING·Σ|u·y|/step/tolerance, summed over the
    outputs that move. A gradient that is None, of another shape or not finite is infinitely
    wrong. The draws depend on `seed` and nothing else.
    """
    if not arguments or directions < 1 or not step > 0 or not tolerance > 0:
        raise ValueError(
            "a check needs an argument, a direction, a step > 0 and a tolerance > 0, got "
            f"{list(arguments)}, {directions}, {step}, {tolerance}"
        )
    values = {name: np.array(a, dtype=np.float64) for name, a in arguments.items()}
    y = _outputs(function, values)
    upstream = [_draw(seed, 0, k, output.shape) for k, output in enumerate(y)]
    returned = backward(*values.values(), *upstream)
    gradients = _by_name(returned, tuple(values))
    findings = {}
    for i, (name, value) in enumerate(values.items()):
        along = [_draw(seed, 1 + i, d, value.shape) for d in range(directions)]
        probe = _Probe(function, values, name, y, upstream, step, tolerance)
        findings[name] = probe.examine(gradients[name], along)
    if any(not finding.error <= tolerance for finding in findings.values()):
        raise GradientError(_report(findings, tolerance))
    return {name: finding.error for name, finding in findings.items()}


class _Finding(NamedTuple):
    error: float
    message: str


class _Probe(NamedTuple):
    """One argument of a function, to be moved along directions."""

    function: Callable[..., Any]
    values: dict[str, Array]
    name: str
    y: list[Array]
    upstream: list[Array]
    step: float
    tolerance: float

    def examine(self, gradient: Any, along: list[Array]) -> _Finding:
        """The worst finding over the directions, or what is wrong before any is tried."""
        if gradient is None:
            return _Finding(np.inf, "backward gave None")
        gradient, shape = np.asarray(gradient, dtype=np.float64), self.values[self.name].shape
        if gradient.shape != shape:
            return _Finding(np.inf, f"backward gave shape {gradient.shape}, must be {shape}")
        if not np.isfinite(gradient).all():
            bad = np.argwhere(~np.isfinite(gradient))[0].tolist()
            return _Finding(np.inf, f"backward gave {gradient[tuple(bad)]} at {bad}")
        return max((self.compare(gradient, v) for v in along), key=lambda finding: finding.error)

    def compare(self, gradient: Array, v: Array) -> _Finding:
        """The stated derivative along v against the measured one."""
        analytic = float((gradient * v).sum())
        numeric, resolution = self.measure(v)
        scale = max(abs(analytic), abs(numeric), resolution / self.tolerance)
        error = abs(analytic - numeric) / scale if scale > 0 else 0.0
        # What cannot be measured is not agreed upon.
        error = error if np.isfinite(numeric + resolution) else np.inf
        return _Finding(
            error, f"analytic {analytic:.9g}, numeric {numeric:.9g}, relative error {error:.3g}"
        )

    def measure(self, v: Array) -> tuple[float, float]:
        """The derivative of Σ<u, y> along v, and how much of it could be rounding."""
        h, slope, size = self.step, 0.0, 0.0
        points = (self.outputs_at(distance * v) for distance in (h, -h, 2 * h, -2 * h))
        for u, y, ahead, behind, far_ahead, far_behind in zip(
            self.upstream, self.y, *points, strict=True
        ):
            with np.errstate(invalid="ignore"):  # inf - inf is reported, not warned of
                near, far = ahead - behind, far_ahead - far_behind
                slope += float((u * (2 / 3 * near - far / 12)).sum()) / h
            moved = (near != 0) | (far != 0)  # the rest cancels exactly, whatever its size
            size += float(np.abs(u * y)[moved].sum())
        return slope, ROUNDING * size / h

    def outputs_at(self, offset: Array) -> list[Array]:
        """The outputs with this argument moved and every other one in place."""
        moved = self.values[self.name] + offset
        return _outputs(self.function, self.values | {self.name: moved})


def _outputs(function: Callable[..., Any], values: Mapping[str, Array]) -> list[Array]:
    y = function(*values.values())
    return [np.asarray(k, dtype=np.float64) for k in (y if isinstance(y, tuple | list) else (y,))]


def _by_name(returned: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """What backward returned, as one gradient an argument."""
    if isinstance(returned, Mapping):
        if odd := sorted(map(str, returned.keys() - set(names))):
            raise GradientError(f"backward gave gradients of no argument: {odd}")
        return {name: returned.get(name) for name in names}
    gradients = returned if isinstance(returned, tuple | list) else (returned,)
    if len(gradients) != len(names):
        raise GradientError(
            f"backward must give one gradient an argument, {len(names)} ({', '.join(names)}); "
            f"got {len(gradients)}"
        )
    return dict(zip(names, gradients, strict=True))


def _draw(seed: int, which: int, number: int, shape: tuple[int, ...]) -> Array:
    """Standard normals of a shape: the upstream of output `number` where `which` is 0."""
    size = int(np.prod(shape))
    return normal(seed, which, [number], size, EVALUATION)[0].reshape(shape)


def _report(findings: Mapping[str, _Finding], tolerance: float) -> str:
    wrong = [name for name, finding in findings.items() if not finding.error <= tolerance]
    width = max(map(len, findings))
    head = f"wrong gradient of {', '.join(wrong)} (relative error above {tolerance:.3g})"
    rows = [
        f"  {name:{width}}  {'WRONG' if name in wrong else 'ok   '}  {finding.message}"
        for name, finding in findings.items()
    ]
    return "\n".join((head, *rows))


def _difference(got: ArrayLike | None, expected: ArrayLike) -> str:
    """Where two unequal arrays differ most."""
    if got is None:
        return "got None"
    got, expected = np.asarray(got, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if got.shape != expected.shape:
        return f"got shape {got.shape}, expected {expected.shape}"
    with np.errstate(invalid="ignore"):
        gap = np.where(got == expected, 0.0, np.abs(got - expected))
    worst = np.unravel_index(np.argmax(np.nan_to_num(gap, nan=np.inf)), gap.shape)
    where = [int(i) for i in worst]
    return f"largest difference at {where}: got {got[worst]:.9g}, expected {expected[worst]:.9g}"
