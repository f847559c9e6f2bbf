"""What training minimised, and its parts: four small panels over the same steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from betavae_core.figures.curves import END_GAP, draw, increasing, name_ends, span
from betavae_core.figures.inputs import finite
from betavae_core.figures.page import (
    FRAME,
    INK,
    LINE,
    SMALL,
    TEXT_WIDTH,
    Page,
    number,
    styled,
    text_width,
)

HEIGHT, ABOVE, BELOW = 1.15, 0.2, 0.38  # inches: a panel, its heading, its axis
LEFT = 0.45
BETWEEN = 0.15
ENOUGH = 40  # points for a running mean


@styled
def training(steps: Any, recon_nll: Any, kl: Any, loss: Any, *, title: str) -> Figure:
    """recon_nll, kl, neg_elbo = recon_nll + kl, and the loss, each (T,) in nats, over `steps` (T,).

    From 40 points on the values are grey and a running mean over a fortieth of them is dark. The
    number at a line's end is its last height. The first twentieth of training may run off the top
    where it would flatten the rest. Raises UsageError when shapes disagree.
    """
    steps = increasing("steps", steps)
    recon_nll, kl, loss = (
        finite(name, curve, steps.shape)
        for name, curve in (("recon_nll", recon_nll), ("kl", kl), ("loss", loss))
    )
    panels = {"recon_nll": recon_nll, "kl": kl, "neg_elbo = recon_nll + kl": recon_nll + kl}
    panels["loss"] = loss
    means = {name: _running_mean(curve) for name, curve in panels.items()}
    right = END_GAP + max(text_width(number(mean[-1]), SMALL) for mean in means.values())
    width = (TEXT_WIDTH - BETWEEN) / 2 - LEFT - right
    page = Page(TEXT_WIDTH, 2 * (ABOVE + HEIGHT) + BETWEEN + BELOW, title)
    for n, (name, curve) in enumerate(panels.items()):
        x = LEFT + n % 2 * (LEFT + width + right + BETWEEN)
        y = ABOVE + n // 2 * (ABOVE + HEIGHT + BETWEEN)
        page.text(x, y - 0.6 * LINE, f"{name} (nats)")
        axes = page.panel(x, y, width, HEIGHT)
        if len(steps) >= ENOUGH:
            draw(axes, steps, curve, color=FRAME, linewidth=0.5)
        draw(axes, steps, means[name], color=INK, linewidth=1.0)
        span(axes, steps, *_range(curve))
        name_ends(axes, [means[name][-1]], [number(means[name][-1])], [INK])
        if n < 2:
            axes.tick_params(labelbottom=False)
        else:
            axes.set_xlabel("training step")
    return page.figure


def _running_mean(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """The centred mean over a fortieth of the points: of fewer at the ends, of one at the start."""
    if len(curve) < ENOUGH:
        return curve
    here, half = np.arange(len(curve)), max(1, len(curve) // 80)
    first = np.maximum(here - half, 0)
    stop = np.minimum(here + np.minimum(here, half) + 1, len(curve))
    sums = np.concatenate([[0.0], np.cumsum(curve)])
    return (sums[stop] - sums[first]) / (stop - first)


def _range(curve: NDArray[np.float64]) -> tuple[float, float]:
    settled = curve[len(curve) // 20 :]
    low, high = float(curve.min()), float(settled.max())
    if curve.max() - low < 2 * (high - low):
        high = float(curve.max())
    slack = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - slack, high + slack
