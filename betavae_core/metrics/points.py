"""What a metric is handed and what it gives back: codes with factors, and scores with resamples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import DataError

MOST_VALUES = 64  # a factor of numbers that takes more values than this is cut into BINS
BINS = 20


@dataclass(frozen=True)
class Points:
    """N codes of D latents and, of each, the K factors that vary.

    `codes` is (N, D) float64, finite. `factors` is (N, K): class indices 0 … sizes[k] - 1, each of
    which occurs. `columns` says which columns of the factors that were given these are.
    """

    codes: NDArray[np.float64]
    factors: NDArray[np.int64]
    columns: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each factor takes."""
        return tuple(int(n) for n in self.factors.max(0) + 1)

    @classmethod
    def of(cls, codes: ArrayLike, factors: ArrayLike) -> Points:
        """The points of codes (N, D) and factors (N, K), checked.

        A factor's values, numbers of any kind, become indices in their order; of more than 64
        values, 20 bins of equal counts. A factor with one value says nothing and is left out.
        Raises DataError for other shapes, for NaN or infinity, and where no factor varies.
        """
        z, v = _finite("codes", codes, "D"), _finite("factors", factors, "K")
        if len(z) != len(v):
            raise DataError(f"codes and factors must be of the same points, got {len(z)}, {len(v)}")
        indices = [_indices(column) for column in v.T]
        varying = tuple(k for k, column in enumerate(indices) if column.max() > 0)
        if not varying:
            raise DataError("factors must vary: every one of them takes a single value")
        return cls(z, np.stack([indices[k] for k in varying], axis=1), varying)

    def take(self, rows: NDArray[np.integer]) -> Points:
        """The points at `rows`; a factor may then lack some of its values."""
        return Points(self.codes[rows], self.factors[rows], self.columns)

    def with_codes(self, codes: NDArray[np.floating]) -> Points:
        """These points with other codes."""
        return Points(np.asarray(codes, np.float64), self.factors, self.columns)


@dataclass(frozen=True)
class Measured:
    """A score, the scores of resamples (R,) of the data, and what else there is to see.

    `resampled` are comparable with one another and may be shifted against `score` as a whole
    (a resample repeats points); the interval takes their spread.
    """

    score: float
    resampled: NDArray[np.float64]
    details: Mapping[str, Any] = field(default_factory=dict)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The score, give or take the spread of the resamples about their median."""
        if not len(self.resampled):
            return self.score, self.score
        tail = (1 - level) / 2
        low, middle, high = np.quantile(self.resampled, [tail, 0.5, 1 - tail])
        return float(self.score - (middle - low)), float(self.score + (high - middle))


@dataclass(frozen=True)
class Metric:
    """A family of scores that are measured together.

    `measure(points, seed=…, resamples=…, **settings)` gives a `Measured` for each of `names`;
    the settings are what a protocol names. `best` says the score of perfect codes where theory
    gives it for any data, name by name; the suite simulates what is missing.
    """

    names: tuple[str, ...]
    measure: Callable[..., dict[str, Measured]]
    best: Mapping[str, float] = field(default_factory=dict)


def resampled_rows(n: int, resamples: int, seed: int) -> list[NDArray[np.intp]]:
    """`resamples` draws of n rows out of n, with replacement; the same for the same seed."""
    rng = np.random.default_rng([seed, n])
    return [rng.integers(0, n, n) for _ in range(resamples)]


def _finite(name: str, array: ArrayLike, columns: str) -> NDArray[np.float64]:
    given = np.asarray(array)
    if given.ndim != 2 or given.dtype.kind not in "biuf" or not given.size:
        raise DataError(f"{name} must be (N, {columns}) numbers, got {given.shape} {given.dtype}")
    if not np.isfinite(given).all():
        raise DataError(f"{name} must be finite, found NaN or infinity")
    return given.astype(np.float64)


def _indices(column: NDArray[np.float64]) -> NDArray[np.int64]:
    values, inverse = np.unique(column, return_inverse=True)
    if len(values) <= MOST_VALUES:
        return inverse.astype(np.int64)
    edges = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]))
    _, inverse = np.unique(np.searchsorted(edges, column, side="right"), return_inverse=True)
    return inverse.astype(np.int64)
