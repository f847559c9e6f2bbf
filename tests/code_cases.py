"""Factors, and codes of them, that the tests of the metrics share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHAPES = (3, 6, 40, 32, 32)  # the factors of the 2D shapes
FEW = (3, 4, 5)

Codes = NDArray[np.float64]
Factors = NDArray[np.int64]


def drawn(n: int, sizes: tuple[int, ...] = FEW, seed: int = 0) -> Factors:
    """(n, K) values, every combination as likely as any other."""
    return np.random.default_rng(seed).integers(0, sizes, (n, len(sizes)))


def noise(n: int, latents: int, seed: int = 1) -> Codes:
    return np.random.default_rng(seed).normal(size=(n, latents))


def perfect(factors: Factors, idle: int = 0) -> Codes:
    """The factors themselves, and `idle` latents of noise."""
    return np.concatenate([factors, noise(len(factors), idle)], axis=1)


def blurred(factors: Factors, sigma: float = 0.1, idle: int = 1) -> Codes:
    """The factors in units of their deviation, with noise added; no two codes are equal."""
    units = (factors - factors.mean(0)) / factors.std(0)
    return perfect(units, idle) + sigma * noise(len(factors), factors.shape[1] + idle, seed=2)


def turned(codes: Codes) -> Codes:
    """Each pair of neighbouring latents turned by 45 degrees; an odd one out stays."""
    out = codes.astype(np.float64)
    for d in range(0, codes.shape[1] - 1, 2):
        out[:, d : d + 2] = codes[:, d : d + 2] @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    return out
