"""The gradient checker: what is right passes, and every planted error is caught and named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from betavae_core.reference.checks import (
    FLOOR,
    GradientError,
    MismatchError,
    check_gradients,
    compare,
    relative_error,
)
from betavae_core.reference.reparam_kl import reparam_kl, reparam_kl_backward

Gradients = dict[str, np.ndarray]


def function(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two outputs, three arguments: a and b of one shape, c of another."""
    return np.sin(a) * np.exp(b / 2), (a * b).sum(axis=1) + c**3


def backward(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, u: np.ndarray, v: np.ndarray
) -> Gradients:
    product = np.exp(b / 2)
    return {
        "a": u * np.cos(a) * product + v[:, None] * b,
        "b": u * np.sin(a) * product / 2 + v[:, None] * a,
        "c": 3 * v * c**2,
    }


def arguments(rows: int = 4, columns: int = 5) -> Gradients:
    rng = np.random.default_rng(0)
    shapes = {"a": (rows, columns), "b": (rows, columns), "c": (rows,)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def planted(spoil: Callable[[Gradients], object]) -> Callable[..., Gradients]:
    def wrong(*values_and_upstream: np.ndarray) -> Gradients:
        gradients = backward(*values_and_upstream)
        spoil(gradients)
        return gradients

    return wrong


@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (7, 13), (0, 3), (3, 0)])
def test_a_right_gradient_passes_and_its_errors_are_tiny(shape: tuple[int, int]) -> None:
    errors = check_gradients(function, backward, arguments(*shape), tolerance=1e-9)
    assert list(errors) == ["a", "b", "c"]
    assert max(errors.values()) < 1e-9


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_gradient_wrong_by_a_thousandth_is_caught_and_named(name: str, seed: int) -> None:
    wrong = planted(lambda g: g[name].__imul__(1.001))
    with pytest.raises(GradientError, match=f"wrong gradient of {name} ") as caught:
        check_gradients(function, wrong, arguments(), seed=seed, tolerance=1e-4)
    line = next(row for row in str(caught.value).splitlines() if row.startswith(f"  {name} "))
    assert "WRONG" in line
    assert float(line.rsplit(" ", 1)[1]) == pytest.approx(1e-3, rel=0.01)
    assert str(caught.value).count("  ok   ") == 2


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_one_wrong_element_is_caught(name: str) -> None:
    wrong = planted(lambda g: g[name].flat.__setitem__(-1, g[name].flat[-1] * 1.001))
    with pytest.raises(GradientError, match=f"wrong gradient of {name} "):
        check_gradients(function, wrong, arguments(), tolerance=1e-7)


def test_swapped_gradients_are_caught_in_both() -> None:
    wrong = planted(lambda g: g.update(a=g["b"], b=g["a"]))
    with pytest.raises(GradientError, match="wrong gradient of a, b "):
        check_gradients(function, wrong, arguments())


def test_a_sign_is_caught() -> None:
    with pytest.raises(GradientError, match="wrong gradient of b "):
        check_gradients(function, planted(lambda g: g.update(b=-g["b"])), arguments())


def test_a_gradient_of_zeros_is_caught() -> None:
    with pytest.raises(GradientError, match=r"analytic 0, numeric .* relative error 1$"):
        check_gradients(function, planted(lambda g: g.update(c=0 * g["c"])), arguments())


def test_a_gradient_where_there_is_none_is_caught() -> None:
    constant = np.ones(3)
    with pytest.raises(GradientError, match="numeric 0, relative error 1"):
        check_gradients(lambda a: constant, lambda a, u: 1e-9 * u, {"a": np.zeros(3)})
    check_gradients(lambda a: constant, lambda a, u: 0 * u, {"a": np.zeros(3)})


def test_an_upstream_gradient_that_is_ignored_is_caught() -> None:
    with pytest.raises(GradientError, match="wrong gradient of a "):
        check_gradients(lambda a: a**2, lambda a, u: 2 * a, {"a": np.ones(3)})


def test_missing_gradients_are_caught() -> None:
    for spoil in (lambda g: g.update(b=None), lambda g: g.pop("b")):
        with pytest.raises(
            GradientError, match=r"gradient of b (.|\n)*b  WRONG  backward gave None"
        ):
            check_gradients(function, planted(spoil), arguments())
    with pytest.raises(GradientError, match="backward gave None"):
        check_gradients(lambda a: a, lambda a, u: None, {"a": np.ones(2)})


def test_a_wrong_shape_is_caught_even_where_it_would_broadcast() -> None:
    wrong = planted(lambda g: g.update(a=g["a"].mean(axis=0, keepdims=True)))
    with pytest.raises(GradientError, match=r"backward gave shape \(1, 5\), must be \(4, 5\)"):
        check_gradients(function, wrong, arguments())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_caught(value: float) -> None:
    wrong = planted(lambda g: g["a"].__setitem__((2, 1), value))
    with pytest.raises(GradientError, match=rf"backward gave {value} at \[2, 1\]"):
        check_gradients(function, wrong, arguments())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_function_that_is_not_finite_is_no_agreement(value: float) -> None:
    with pytest.raises(GradientError, match="numeric nan, relative error inf"):
        check_gradients(lambda a: a * 0 + value, lambda a, u: 0 * u, {"a": np.ones(2)})


def test_another_number_of_gradients_is_caught() -> None:
    with pytest.raises(GradientError, match=r"one gradient an argument, 1 \(a\); got 2"):
        check_gradients(lambda a: a, lambda a, u: (u, u), {"a": np.ones(2)})
    with pytest.raises(GradientError, match=r"gradients of no argument: \['d'\]"):
        check_gradients(function, planted(lambda g: g.update(d=g["a"])), arguments())


def test_gradients_may_be_an_array_a_tuple_or_a_mapping() -> None:
    a = {"a": np.array([1.0, 2.0])}
    for form in (lambda g: g, lambda g: (g,), lambda g: [g], lambda g: {"a": g}):
        check_gradients(lambda a: a**3, lambda a, u, form=form: form(3 * a**2 * u), a)


def test_plain_numbers_are_arguments_and_outputs() -> None:
    check_gradients(lambda x: x**2, lambda x, u: 2 * x * u, {"x": 3.0}, tolerance=1e-9)


def test_a_zero_gradient_of_a_large_function_is_not_called_wrong_for_rounding() -> None:
    # sin² + cos² is constant, but only up to rounding: here about 1e-10, or 1e-6 in a slope.
    check_gradients(
        lambda x: 1e6 * (np.sin(x) ** 2 + np.cos(x) ** 2),
        lambda x, u: 0 * u,
        {"x": np.linspace(0, 1, 50)},
    )


def test_a_large_output_that_does_not_move_hides_nothing() -> None:
    with pytest.raises(GradientError, match=r"relative error 0\.000999"):
        check_gradients(
            lambda x: (np.full(3, 1e12), 1e-6 * x),
            lambda x, u, v: 1e-6 * 1.001 * v,
            {"x": np.ones(3)},
        )


def test_upstream_and_directions_depend_on_the_seed_alone() -> None:
    def seen(seed: int) -> list[np.ndarray]:
        arrays: list[np.ndarray] = []

        def recorded(a: np.ndarray) -> np.ndarray:
            arrays.append(a)
            return a**2

        def recorded_backward(a: np.ndarray, u: np.ndarray) -> np.ndarray:
            arrays.append(u)
            return 2 * a * u

        check_gradients(recorded, recorded_backward, {"a": np.ones(3)}, seed=seed)
        return arrays[1:]  # the first is the argument itself

    first, again, other = seen(0), seen(0), seen(1)
    assert len(first) == 1 + 3 * 4
    assert all(map(np.array_equal, first, again))
    assert not any(map(np.array_equal, first, other))


def test_the_worst_direction_is_the_one_that_counts() -> None:
    def error(directions: int) -> float:
        wrong = planted(lambda g: g["a"].flat.__setitem__(0, 0.0))
        found = check_gradients(function, wrong, arguments(), directions=directions, tolerance=10)
        return found["a"]

    errors = [error(directions) for directions in range(1, 9)]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


def test_the_inputs_are_not_touched() -> None:
    given = arguments()
    kept = {name: a.copy() for name, a in given.items()}
    check_gradients(function, backward, given)
    assert all(np.array_equal(given[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    "nothing", [{"directions": 0}, {"step": 0.0}, {"tolerance": 0.0}, {"tolerance": float("nan")}]
)
def test_a_check_that_checks_nothing_is_refused(nothing: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a check needs"):
        check_gradients(function, backward, arguments(), **nothing)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a check needs"):
        check_gradients(function, backward, {})


@pytest.mark.parametrize("name", ["mu", "logvar"])
def test_a_thousandth_in_either_gradient_of_the_latent_op_is_caught(name: str) -> None:
    rng = np.random.default_rng(0)
    mu, logvar, eps = (rng.normal(size=(7, 13)) for _ in range(3))

    def wrong(mu: np.ndarray, logvar: np.ndarray, *upstream: np.ndarray) -> Gradients:
        dmu, dlogvar = reparam_kl_backward(mu, logvar, eps, *upstream)
        gradients = {"mu": dmu, "logvar": dlogvar}
        return gradients | {name: 1.001 * gradients[name]}

    with pytest.raises(GradientError, match=f"wrong gradient of {name} "):
        check_gradients(
            lambda mu, logvar: reparam_kl(mu, logvar, eps), wrong, {"mu": mu, "logvar": logvar}
        )


def test_relative_error_is_on_the_scale_of_the_array() -> None:
    assert relative_error([1.0, 100.0], [1.5, 100.0]) == pytest.approx(0.005)
    assert relative_error(3.0, 2.0) == 0.5
    assert relative_error([], []) == 0.0
    assert relative_error(np.array([1], np.uint8), np.array([2], np.uint8)) == 0.5


def test_relative_error_has_a_floor() -> None:
    assert relative_error([FLOOR / 10], [0.0]) == pytest.approx(0.1)
    assert relative_error([1e-9], [0.0], floor=1.0) == 1e-9


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (None, [1.0]),
        (None, None),
        ([1.0], [[1.0]]),
        ([1.0], [1.0, 1.0]),
        ([np.nan], [1.0]),
        ([1.0], [np.nan]),
        ([np.nan], [np.nan]),
        ([np.inf], [1.0]),
        ([1.0], [np.inf]),
        ([np.inf], [-np.inf]),
    ],
)
def test_what_cannot_be_compared_is_infinitely_wrong(got: object, expected: object) -> None:
    assert relative_error(got, expected) == np.inf  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match="dmu: relative error inf"):
        compare("dmu", got, expected, 1e300)  # type: ignore[arg-type]


def test_equal_infinities_agree() -> None:
    assert relative_error([np.inf, -np.inf, 2.0], [np.inf, -np.inf, 1.0]) == 1.0


def test_compare_says_what_differs_where_and_by_how_much() -> None:
    assert compare("z", [1.0, 2.0], [1.0, 2.0], 0.0) == 0.0
    expected = (
        r"z: relative error 0.5 is above 0.1; largest difference at \[1, 0\]: got 1, expected 2"
    )
    with pytest.raises(MismatchError, match=expected):
        compare("z", [[2.0], [1.0]], [[2.0], [2.0]], 0.1)
    with pytest.raises(MismatchError, match="above nan"):
        compare("z", [1.0], [1.0], np.nan)
    with pytest.raises(MismatchError, match="got None"):
        compare("z", None, [1.0], 0.1)
    with pytest.raises(MismatchError, match=r"got shape \(2,\), expected \(1,\)"):
        compare("z", [1.0, 1.0], [1.0], 0.1)
    with pytest.raises(MismatchError, match=r"at \[1\]: got nan, expected 1"):
        compare("z", [1.0, np.nan, 5.0], [1.0, 1.0, 1.0], 0.1)
