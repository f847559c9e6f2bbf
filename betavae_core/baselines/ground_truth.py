"""The ground truth as a representation: the factors that vary, each scaled to [0, 1].

What a perfect encoder would give, and so the ceiling of every metric on this data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from betavae_core.baselines.representation import Representation, checked
from betavae_core.data.dataset import Dataset
from betavae_core.errors import DataError


def fit(dataset: Dataset, *, seed: int = 0) -> Representation:
    """Codes (n, K): (value - least) / (greatest - least) of every factor that varies.

    A class index stands for its value where values are known. Nothing is random: `seed` is there
    for the interface. Raises DataError for a data set without a factor that varies.
    """
    scaled = [_scaled(column) for column in _values(dataset) if np.ptp(column) > 0]
    if not scaled:
        raise DataError(f"ground truth needs factors that vary, and {dataset.name} has none")
    table = np.stack(scaled, axis=1)
    return lambda indices: table[checked(indices, len(table))]


def _values(dataset: Dataset) -> list[NDArray[np.float64]]:
    """The values of each factor, (N,)."""
    if dataset.factors is None:
        return []
    columns = []
    for name, column in zip(dataset.factor_names, dataset.factors.T, strict=True):
        known = dataset.factor_values.get(name)
        if known is not None and column.dtype.kind in "iu" and known.dtype.kind in "iuf":
            column = known[column]
        columns.append(column.astype(np.float64))
    return columns


def _scaled(column: NDArray[np.float64]) -> NDArray[np.float64]:
    return (column - column.min()) / np.ptp(column)
