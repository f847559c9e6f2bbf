"""Where the metrics that sample get their codes: groups of codes that share one factor's value.

Either out of points: a first point at random, the others among those that share its value of the
factor. Or fresh: factor vectors drawn evenly, one column made equal in a group, and encoded.
`source` takes whichever the user has; a metric asks it for `groups` and does not know which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from betavae_core.errors import DataError, UsageError
from betavae_core.metrics.points import Points

Encode = Callable[[NDArray[np.int64]], ArrayLike]
FIRST = 0  # the member of a group whose value the others share

_ENCODED_AT_ONCE = 8192  # codes: enough to fill an accelerator with 64 × 64 images
_GATHERED_AT_ONCE = 1 << 19  # numbers: few enough that what follows finds them in the cache


class Source(ABC):
    """Codes of D latents, drawn so that K factors, those that vary, can be held one at a time."""

    n_factors: int

    @abstractmethod
    def points(self, n: int, rng: np.random.Generator) -> Points:
        """n points drawn at random, or all that there are where the points are given."""

    @abstractmethod
    def groups(
        self, shared: NDArray[np.integer], size: int, rng: np.random.Generator
    ) -> NDArray[Any]:
        """(G, size, D) codes: those of group g share the value of factor shared[g], 0 … K - 1."""

    @property
    @abstractmethod
    def at_once(self) -> int:
        """How many codes are best drawn together."""

    def batches(self, n: int, codes_each: int) -> Iterator[slice]:
        """0 … n - 1 in slices, for items that take `codes_each` codes each."""
        step = max(1, self.at_once // codes_each)
        return (slice(start, min(start + step, n)) for start in range(0, n, step))


def source(codes: ArrayLike | Encode, factors: ArrayLike | Sequence[int]) -> Source:
    """The source of what a user has: codes (N, D) with factors (N, K), or a function with sizes.

    The function takes factor vectors (n, K), int64, where column k is 0 … sizes[k] - 1, to codes
    (n, D); it is called with at most 8192 at a time. A factor of size 1 is passed and never held.
    (Who has the codes of every combination passes
    `lambda v: codes[np.ravel_multi_index(v.T, sizes)]`.)

    Raises DataError as `Points.of` does, where a factor's values occur once each, and for sizes
    that are not whole numbers ≥ 1, one of them > 1; also for what a function returns.
    """
    if callable(codes):
        return FreshSource(codes, factors)
    return PointSource(Points.of(codes, factors))


def as_source(points: Points | Source) -> Source:
    """Points as a source of codes; a source stays itself."""
    return points if isinstance(points, Source) else PointSource(points)


def at_least_one(**counts: float) -> None:
    """Raises UsageError for the first count below 1."""
    for name, count in counts.items():
        if not count >= 1:
            raise UsageError(f"{name} must be at least 1, got {count}")


class PointSource(Source):
    """Groups out of points that are given.

    The first of a group is a point at random, whatever its value (so a value is held as often as
    it occurs); the others are drawn evenly from the *other* points of its value, with replacement.
    Hence no code is paired with itself, as it hardly ever is when codes are drawn afresh.
    """

    def __init__(self, points: Points) -> None:
        self._points, self._codes = points, _narrowed(points.codes)
        self.n_factors = points.factors.shape[1]
        shelves = [_shelf(column) for column in points.factors.T]
        for shelf, column in zip(shelves, points.columns, strict=True):
            if not len(shelf[0]):
                raise DataError(
                    f"two points must share a value of factor {column}, "
                    f"got {len(points)} points that all differ in it: give more points"
                )
        # The factors' shelves stand one behind the other: a place is an index along them all.
        lengths = np.array([len(rows) for rows, _, _ in shelves])
        self._end = lengths.cumsum()
        self._begin = self._end - lengths
        rows, starts, counts = zip(*shelves, strict=True)
        self._row, self._count = np.concatenate(rows), np.concatenate(counts)
        self._start = np.concatenate(starts) + np.repeat(self._begin, lengths)

    @property
    def at_once(self) -> int:
        return max(1, _GATHERED_AT_ONCE // self._codes.shape[1])

    def points(self, n: int, rng: np.random.Generator) -> Points:
        return self._points

    def groups(
        self, shared: NDArray[np.integer], size: int, rng: np.random.Generator
    ) -> NDArray[np.floating]:
        first = rng.integers(self._begin[shared], self._end[shared])[:, None]
        start, count = self._start[first], self._count[first]
        steps = rng.integers(1, count, (len(shared), size - 1))
        others = start + (first - start + steps) % count
        return self._codes[self._row[np.concatenate([first, others], axis=1)]]


class FreshSource(Source):
    """Groups of fresh factor vectors, every combination as likely as every other, encoded."""

    def __init__(self, encode: Encode, sizes: ArrayLike | Sequence[int]) -> None:
        given = np.asarray(sizes)
        if given.ndim != 1 or given.dtype.kind not in "iu" or not (given > 1).any():
            raise DataError(
                "sizes must be one whole number a factor, with one that is > 1, "
                f"got {given.tolist()}"
            )
        if (given < 1).any():
            raise DataError(f"sizes must all be at least 1, got {given.tolist()}")
        self._encode, self._sizes = encode, given.astype(np.int64)
        self._varying = np.flatnonzero(given > 1)
        self.n_factors = len(self._varying)

    @property
    def at_once(self) -> int:
        return _ENCODED_AT_ONCE

    def points(self, n: int, rng: np.random.Generator) -> Points:
        vectors = rng.integers(0, self._sizes, (n, len(self._sizes)))
        return Points.of(self._encoded(vectors), vectors)

    def groups(
        self, shared: NDArray[np.integer], size: int, rng: np.random.Generator
    ) -> NDArray[np.floating]:
        vectors = rng.integers(0, self._sizes, (len(shared), size, len(self._sizes)))
        held = self._varying[shared]
        everywhere = np.arange(len(shared))
        vectors[everywhere, :, held] = vectors[everywhere, FIRST, held][:, None]
        codes = self._encoded(vectors.reshape(-1, len(self._sizes)))
        return codes.reshape(len(shared), size, -1)

    def _encoded(self, vectors: NDArray[np.int64]) -> NDArray[np.floating]:
        starts = range(0, len(vectors), _ENCODED_AT_ONCE)
        parts = (vectors[start : start + _ENCODED_AT_ONCE] for start in starts)
        return np.concatenate([_checked(self._encode(part), len(part)) for part in parts])


def _shelf(
    column: NDArray[np.int64],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The rows in order of their value, and for each where its value starts and how many have it.

    A value that occurs once is left out: nothing can share it.
    """
    counts = np.bincount(column)
    rows = np.argsort(column, kind="stable")
    rows = rows[counts[column[rows]] > 1]
    counts = counts[counts > 1]
    return rows, np.repeat(counts.cumsum() - counts, counts), np.repeat(counts, counts)


def _narrowed(codes: NDArray[np.float64]) -> NDArray[np.floating]:
    """`codes` as float32, half the memory, if that loses nothing, as of a network's codes."""
    with np.errstate(over="ignore"):
        narrow = codes.astype(np.float32)
    return narrow if np.array_equal(narrow, codes) else codes


def _checked(codes: ArrayLike, n: int) -> NDArray[np.floating]:
    """What a function gave for n factor vectors, as floating point: bytes would wrap around."""
    given = np.asarray(codes)
    if given.ndim != 2 or len(given) != n or given.dtype.kind not in "biuf" or not given.size:
        raise DataError(
            f"the function must give ({n}, D) numbers for {n} factor vectors, "
            f"got {given.shape} {given.dtype}"
        )
    if not np.isfinite(given).all():
        raise DataError("codes must be finite, the function gave NaN or infinity")
    return given.astype(np.result_type(given.dtype, np.float32), copy=False)
