"""What a data set looks like: its facts, its factors, and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from betavae_core import data, figures
from betavae_core.data.dataset import Dataset
from betavae_core.data.split import keyed_subset


def inspect(source: str, out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The facts of a data set and of its factors, and a contact sheet of it in `out`."""
    dataset = data.load(source)
    chosen = np.random.default_rng(0).permutation(keyed_subset(np.arange(len(dataset)), 60))
    images = dataset.take(chosen) / np.float32(dataset.levels)
    captions = None if dataset.labels is None else [str(label) for label in dataset.labels[chosen]]
    title = f"{dataset.name}: {len(chosen)} of {len(dataset):,} images"
    sheet = figures.contact_sheet(images, title=title, captions=captions)
    facts = {
        "name": dataset.name,
        "images": len(dataset),
        "shape": list(dataset.image_shape),
        "levels": dataset.levels,
        "bytes": dataset.nbytes,
        "labels": 0 if dataset.labels is None else len(np.unique(dataset.labels)),
        "sheet": str(figures.save(sheet, out / f"{dataset.name}.png")),
    }
    return facts, _factor_rows(dataset)


def _factor_rows(dataset: Dataset) -> list[dict[str, Any]]:
    """For each factor its number of values and its range."""
    if dataset.factors is None:
        return []
    rows = []
    for name, column in zip(dataset.factor_names, dataset.factors.T, strict=True):
        values = np.asarray(dataset.factor_values.get(name, np.unique(column)))
        first, last = values[0].item(), values[-1].item()
        rows.append({"factor": name, "values": len(values), "from": first, "to": last})
    return rows
