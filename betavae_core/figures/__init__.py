"""Pictures: NumPy arrays in, a matplotlib Figure out, in one style.

One file a picture; `page` holds the style and the layout in inches, `saving` writes a figure to
disk. Nothing here touches pyplot, needs a display, or imports torch, and the reader's own
matplotlib settings do not change a picture.
"""

from betavae_core.figures.animation import animate, traversal_frames
from betavae_core.figures.cloud import embedding, scatter
from betavae_core.figures.factor_plot import factors
from betavae_core.figures.frontier import frontier
from betavae_core.figures.interpolate import interpolation
from betavae_core.figures.kl_curves import kl_over, kl_per_latent
from betavae_core.figures.matrix import heatmap
from betavae_core.figures.pairs import reconstructions
from betavae_core.figures.panels import Panel, side_by_side
from betavae_core.figures.plane_tiles import manifold
from betavae_core.figures.prior_sheet import samples
from betavae_core.figures.reduction import reduce
from betavae_core.figures.saving import save
from betavae_core.figures.score_bands import score_bands
from betavae_core.figures.sheet import contact_sheet
from betavae_core.figures.training_curves import training
from betavae_core.figures.traverse import traversals
from betavae_core.figures.tuning import mean_codes

__all__ = [
    "Panel",
    "animate",
    "contact_sheet",
    "embedding",
    "factors",
    "frontier",
    "heatmap",
    "interpolation",
    "kl_over",
    "kl_per_latent",
    "manifold",
    "mean_codes",
    "reconstructions",
    "reduce",
    "samples",
    "save",
    "scatter",
    "score_bands",
    "side_by_side",
    "training",
    "traversal_frames",
    "traversals",
]
