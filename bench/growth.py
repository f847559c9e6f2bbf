"""The suite `growth`: the training step of `burgess-conv` as the work grows, along one axis a time.

    batch_size    images a step
    latent_dim    latents
    side          pixels along an image's side

The other sizes stay at batch 64, 10 latents, 64 x 64. A row has the images a second of ours and of
the eager loop of baselines.py, and their ratio. As everywhere, both are compared before they are
timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from betavae_core.bench.step import agreement, baselines, rectangles, timed, training

AXES: dict[str, tuple[int, ...]] = {
    "batch_size": (16, 64, 256),
    "latent_dim": (2, 10, 100),
    "side": (32, 64, 128),
}


def run(
    device: str,
    seconds: float,
    progress: Callable[[str], None],
    *,
    axes: Mapping[str, Sequence[int]] = AXES,
    images: int = 1024,
    **_: Any,
) -> list[dict[str, Any]]:
    """A row for each size of each axis; `seconds` are shared among them.

    Raises WrongResultError when the eager loop does not compute what ours computes.
    """
    points = [(axis, value) for axis, values in axes.items() for value in values]
    rows = []
    for axis, value in points:
        progress(f"burgess-conv at {axis} {value}")
        rows.append(measure(device, seconds / len(points), images, axis, value))
    return rows


def measure(device: str, seconds: float, images: int, axis: str, value: int) -> dict[str, Any]:
    """The row of one size."""
    sizes = {"batch_size": 64, "latent_dim": 10, "side": 64} | {axis: value}
    side = sizes.pop("side")
    with training("burgess-conv", rectangles((1, side, side), images), device, **sizes) as trainer:
        loop = baselines(trainer, compiled=False)["eager"]
        agreement(trainer, "eager", loop)
        rounds = timed(trainer, {"eager": loop.step}, seconds)
        return {
            "axis": axis,
            "value": value,
            "images_per_s": {
                name: rounds.rate(name, sizes["batch_size"])._asdict() for name in rounds.seconds
            },
            "vs_eager": rounds.ratio("eager", "ours")._asdict(),
        }
