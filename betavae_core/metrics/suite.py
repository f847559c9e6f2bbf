"""All metrics of a protocol at once: each score with its interval, its ceiling and its floor.

The ceiling is what perfect codes score on the same factors, and the floor what noise does: few
metrics run from 0 to 1 on real data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from betavae_core.errors import UsageError
from betavae_core.metrics.points import Measured, Points
from betavae_core.metrics.protocols import FAMILIES, PROTOCOLS, Protocol

RESAMPLES = 100
FEWER = 2_000  # points that bounds of boosted trees are simulated on: theirs take minutes otherwise


@dataclass(frozen=True)
class Score:
    """What one metric says: the score, 95 % of its resamples, what perfect codes and noise get."""

    score: float
    interval: tuple[float, float]
    ceiling: float
    floor: float
    protocol: str
    details: Mapping[str, Any]

    def row(self) -> dict[str, Any]:
        """The numbers alone, for a table or JSON."""
        return {
            "score": self.score,
            "interval": list(self.interval),
            "ceiling": self.ceiling,
            "floor": self.floor,
            "protocol": self.protocol,
        }


def names(protocol: str) -> list[str]:
    """The scores that a protocol gives. Raises UsageError for a protocol that there is not."""
    return [name for family in _protocol(protocol) for name in FAMILIES[family].names]


def require(protocol: str, only: Iterable[str] | None, seed: int) -> set[str]:
    """The scores that are asked for. Raises UsageError for names that there are not, and a seed."""
    known = names(protocol)
    wanted = set(known if only is None else [only] if isinstance(only, str) else only)
    for name in sorted(wanted - set(known)):
        raise UsageError(
            f"--metric must be one of {', '.join(known)} under {protocol}, got {name!r}"
        )
    if seed < 0:
        raise UsageError(f"--seed must be >= 0, got {seed}")
    return wanted


def suite(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    protocol: str = "dlib",
    only: Iterable[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Score]:
    """The scores of codes (N, D) on factors (N, K) under a named protocol.

    `only`, a name or several, chooses among `names(protocol)`. `progress(what, done, total)` is
    called before each family of scores and at the end. Raises UsageError for unknown names,
    DataError for arrays that are not codes and factors of the same points.
    """
    wanted = require(protocol, only, seed)
    points, scores = Points.of(codes, factors), {}
    families = [f for f in _protocol(protocol) if wanted & set(FAMILIES[f].names)]
    for done, family in enumerate(families):
        if progress:
            progress(family, done, len(families))
        settings = _protocol(protocol)[family]
        found = FAMILIES[family].measure(points, seed=seed, resamples=resamples, **settings)
        ceiling, floor = bounds(points, family, settings, seed)
        for name in wanted & set(found):
            one = found[name]
            limits = (one.interval(), ceiling[name], floor[name])
            scores[name] = Score(one.score, *limits, protocol, one.details)
    if progress:
        progress("done", len(families), len(families))
    return {name: scores[name] for name in names(protocol) if name in scores}


def bounds(
    points: Points, family: str, settings: Mapping[str, Any], seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """What perfect codes and noise score, in codes of as many latents: ceilings and floors.

    A ceiling that theory gives is taken from there. Boosted trees are simulated on 2,000 points.
    """
    metric = FAMILIES[family]
    if settings.get("model") == "boosting":
        rows = np.random.default_rng(seed).permutation(len(points))[:FEWER]
        points = points.take(rows)
    best = dict(metric.best)
    if set(metric.names) - set(best):
        found = metric.measure(_perfect(points, seed), seed=seed, resamples=0, **settings)
        best = {name: one.score for name, one in found.items()} | best
    noise = np.random.default_rng([seed, 1]).normal(size=points.codes.shape)
    return best, _scores(
        metric.measure(points.with_codes(noise), seed=seed, resamples=0, **settings)
    )


def _scores(found: Mapping[str, Measured]) -> dict[str, float]:
    return {name: one.score for name, one in found.items()}


def _perfect(points: Points, seed: int) -> Points:
    """The factors themselves as codes; beside a lone one, noise, as some scores compare latents."""
    spare = max(0, 2 - len(points.columns))
    noise = np.random.default_rng([seed, 2]).normal(size=(len(points), spare))
    return points.with_codes(np.concatenate((points.factors, noise), axis=1))


def _protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol must be one of {', '.join(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]
