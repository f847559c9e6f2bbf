"""Pictures: NumPy arrays in, a matplotlib Figure out, in one style.

One file a picture; `page` holds the style and the layout in inches, `saving` writes a figure to
disk. Nothing here touches pyplot, needs a display, or imports torch, and the reader's own
matplotlib settings do not change a picture.
"""

from betavae_core.figures.kl_curves import kl_per_latent
from betavae_core.figures.pairs import reconstructions
from betavae_core.figures.saving import save
from betavae_core.figures.sheet import contact_sheet
from betavae_core.figures.training_curves import training
from betavae_core.figures.traverse import traversals

__all__ = [
    "contact_sheet",
    "kl_per_latent",
    "reconstructions",
    "save",
    "training",
    "traversals",
]
