"""The figure of `bench`: how many times faster, one bar a comparison, from p20 to p80.

The scale is logarithmic, so that twice as fast and half as fast are equally far from 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from betavae_core.figures.page import (
    INK,
    LABEL,
    QUIET,
    SMALL,
    TEXT_WIDTH,
    Page,
    styled,
    text_width,
)

_BAR, _GAP = 0.15, 0.1  # inches: a bar's row, between groups
_AXIS = 0.45  # inches below the bars
_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
_COLORS = {
    "eager": "#4477aa",
    "tuned": "#66a3b0",
    "compile": "#c8a951",
    "end to end": "#b56576",
    "one at a time": "#7a7a9c",
    "batched": "#a3a36b",
}
_STEP = {
    "vs_eager": "eager",
    "vs_eager_tuned": "tuned",
    "vs_compile": "compile",
    "end_to_end": "end to end",
}
_POPULATION = {"vs_one_at_a_time": "one at a time", "vs_batched": "batched"}


class Bar(NamedTuple):
    """One comparison, and its median, p20 and p80."""

    name: str
    color: str
    median: float
    p20: float
    p80: float


@styled
def figure(result: dict[str, Any]) -> Figure:
    """The ratios of a result of `report.run`; what was not measured has no bar.

    Of an op the forward and the backward pass are drawn; both together are in the table.
    """
    groups = {heading: bars for heading, bars in _groups(result).items() if bars}
    everything = [bar for bars in groups.values() for bar in bars]
    lines = [text_width(line, LABEL) for heading in groups for line in heading]
    names = [text_width(bar.name, SMALL) for bar in everything]
    left = max(lines, default=0) + 0.2 + max(names, default=0) + 0.1
    height = max(_BAR * len(everything) + _GAP * len(groups), _BAR)
    page = Page(TEXT_WIDTH, height + _AXIS, _title(result))
    axes = page.panel(left, 0, TEXT_WIDTH - left - text_width("100.00×", SMALL), height)
    axes.set_ylim(height, 0)
    y = 0.0
    for heading, bars in groups.items():
        for n, line in enumerate(heading):
            page.text(0, y + (n + 0.5) * _BAR, line, color=QUIET if n else INK)
        for n, bar in enumerate(bars):
            _draw(axes, page, y + (n + 0.5) * _BAR, left, bar)
        y += _BAR * len(bars) + _GAP
    _scale(axes, everything)
    return page.figure


def _title(result: dict[str, Any]) -> str:
    machine = result["machine"]
    return f"How many times faster ours is: {machine['gpu'] or machine['cpu']}"


def _groups(result: dict[str, Any]) -> dict[tuple[str, str], list[Bar]]:
    """Bars under the two lines of what was measured: each architecture, each op at each shape."""
    groups: dict[tuple[str, str], list[Bar]] = {}
    for row in result["step"]:
        heading = row["arch"], f"batch {row['batch_size']}, {row['precision']}"
        spreads = {name: row["ratios"][key] for key, name in _STEP.items()}
        groups[heading] = [Bar(n, _COLORS[n], **s) for n, s in spreads.items() if s]
    for row in result["populations"]:
        spreads = {name: row[key] for key, name in _POPULATION.items()}
        heading = f"{row['models']} × {row['arch']}", "side by side"
        groups[heading] = [Bar(n, _COLORS[n], **s) for n, s in spreads.items()]
    for row in result["growth"]:
        bars = groups.setdefault((row["axis"].replace("_", " "), "burgess-conv"), [])
        bars.append(Bar(f"{row['value']}, eager", _COLORS["eager"], **row["vs_eager"]))
    for row in result["ops"]:
        if row["pass"] == "both":
            continue
        bars = groups.setdefault((row["op"], "{:,} × {:,}".format(*row["shape"])), [])
        for name in ("eager", "compile"):
            spread = row[f"vs_{name}"]
            if spread:
                bars.append(Bar(f"{row['pass']}, {name}", _COLORS[name], **spread))
    return groups


def _draw(axes: Axes, page: Page, y: float, left: float, bar: Bar) -> None:
    """A bar from 1 to the median, a line from p20 to p80, its name and its number."""
    axes.barh(y, bar.median - 1, left=1, height=0.72 * _BAR, color=bar.color, linewidth=0)
    axes.plot([bar.p20, bar.p80], [y, y], color=INK, linewidth=0.8, solid_capstyle="butt")
    page.text(left - 0.06, y, bar.name, size=SMALL, ha="right")
    axes.annotate(
        f"{bar.median:.2f}×",
        (max(bar.p80, bar.median, 1), y),
        xytext=(3, 0),
        textcoords="offset points",
        va="center_baseline",
        size=SMALL,
        annotation_clip=False,
    )


def _scale(axes: Axes, bars: list[Bar]) -> None:
    low = min([bar.p20 for bar in bars] + [0.9])
    high = max([bar.p80 for bar in bars] + [1.1])
    axes.set_xscale("log")
    axes.set_xlim(low / 1.05, high * 1.05)
    axes.xaxis.set_major_locator(
        FixedLocator([t for t in _TICKS if low / 1.05 <= t <= high * 1.05])
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.axvline(1, color=QUIET, linewidth=0.8, zorder=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("times faster (right of 1) or slower (left), p20 to p80 as a line")
