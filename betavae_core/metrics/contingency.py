"""Joint counts of binned latents with factors, and the information in them, in nats.

One sparse matrix says which cell of which latent's table each point falls into; its product with
the weights of the resamples is every table of every resample. Of a table n (rows i, columns j, sum
N), the information is that of its frequencies (the plug-in estimate):

    I = 1/N [ Σ_ij n_ij ln n_ij - Σ_i n_i ln n_i - Σ_j n_j ln n_j ] + ln N
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.special import xlogy

from betavae_core.errors import UsageError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def equal_width_bins(codes: Floats, bins: int) -> Indices:
    """Each column of codes (N, D) cut into `bins` cells 0 … bins - 1 between its ends.

    The edges are those of `np.histogram`, a cell holds its left edge, and the last also its
    right one: disentanglement_lib's histogram discretizer. A constant latent is in one cell.
    Raises UsageError for fewer than 2 bins.
    """
    if bins < 2:
        raise UsageError(f"bins must be >= 2, got {bins}")
    edges = np.linspace(codes.min(0), codes.max(0), bins + 1)[1:-1]
    return np.stack([np.digitize(z, e) for z, e in zip(codes.T, edges.T, strict=True)], axis=1)


def joint_counts(cells: Indices, values: Indices, weights: Floats) -> Floats:
    """Tables (R, D, bins, V): the weight, for weights (R, N), of points in a cell with a value.

    `cells` (N, D) are the latents' bins, `values` (N,) a factor's indices.
    """
    (N, D), bins, V = cells.shape, int(cells.max()) + 1, int(values.max()) + 1
    flat = (np.arange(D) * bins + cells) * V + values[:, None]
    every = np.arange(0, N * D + 1, D)
    of_points = csc_array((np.ones(N * D), flat.ravel(), every), shape=(D * bins * V, N))
    tables = np.ascontiguousarray((of_points @ weights.T).T)  # sums of a row go in one order
    return tables.reshape(len(weights), D, bins, V)


def mutual_information(cells: Indices, factors: Indices, weights: Floats) -> Floats:
    """I(latent; factor) in nats (R, D, K), for cells (N, D), factors (N, K), weights (R, N)."""
    columns = [_information(joint_counts(cells, values, weights)) for values in factors.T]
    return np.stack(columns, axis=2)


def entropies(factors: Indices, weights: Floats) -> Floats:
    """H(factor) in nats (R, K); 0 in a resample that holds one value of it alone."""
    return np.stack(
        [_information(joint_counts(v[:, None], v, weights))[:, 0] for v in factors.T], axis=1
    )


def _information(tables: Floats) -> Floats:
    """I of tables (…, bins, V), their last two axes."""
    total = tables.sum((-2, -1))
    joint = _n_log_n(tables).sum((-2, -1))
    rows, columns = (_n_log_n(tables.sum(axis)).sum(-1) for axis in (-1, -2))
    return np.maximum((joint - rows - columns) / total + np.log(total), 0.0)


def _n_log_n(n: Floats) -> Floats:
    return xlogy(n, n)
