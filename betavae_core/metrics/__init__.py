"""Is it disentangled? Arrays in and a number out, for the codes of any model.

`mig(codes, factors)` and its like take codes (N, D) and ground-truth factors (N, K); those that
need no labels take posteriors or the codes of several models. `suite` runs a named protocol:
every score with its interval, its ceiling and its floor. One file a metric; a new one is a file
with `METRIC`, a line in `protocols`, and a line here. Nothing here imports torch.
"""

from betavae_core.metrics.dci import dci
from betavae_core.metrics.decomposition import kl_decomposition, total_correlation
from betavae_core.metrics.explicitness import explicitness
from betavae_core.metrics.factorvae import factorvae
from betavae_core.metrics.higgins import higgins
from betavae_core.metrics.infomec import infoc, infoe, infom
from betavae_core.metrics.irs import irs
from betavae_core.metrics.latents import (
    active_latents,
    active_units,
    aggregate_moments,
    gaussian_total_correlation,
    kl_per_latent,
)
from betavae_core.metrics.mig import mig
from betavae_core.metrics.modularity import modularity
from betavae_core.metrics.points import Measured, Metric, Points
from betavae_core.metrics.protocols import PROTOCOLS
from betavae_core.metrics.sap import sap
from betavae_core.metrics.suite import Score, names, require, suite
from betavae_core.metrics.udr import udr

__all__ = [
    "PROTOCOLS",
    "Measured",
    "Metric",
    "Points",
    "Score",
    "active_latents",
    "active_units",
    "aggregate_moments",
    "dci",
    "explicitness",
    "factorvae",
    "gaussian_total_correlation",
    "higgins",
    "infoc",
    "infoe",
    "infom",
    "irs",
    "kl_decomposition",
    "kl_per_latent",
    "mig",
    "modularity",
    "names",
    "require",
    "sap",
    "suite",
    "total_correlation",
    "udr",
]
