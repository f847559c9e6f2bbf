"""What a data set looks like: its facts, its factors, and a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from betavae_core import data, figures
from betavae_core.data.dataset import Dataset
from betavae_core.data.dsprites import comparable, compare_with_drawn
from betavae_core.data.split import keyed_subset


def inspect(
    source: str, out: Path, classes: str | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The facts of a data set and of its factors, and a contact sheet of it in `out`.

    Of labelled images, those in `classes` alone. A dSprites file is compared with our drawing.
    """
    dataset = data.load(source)
    if classes is not None:
        dataset = data.select_classes(dataset, classes)
    chosen = np.random.default_rng(0).permutation(keyed_subset(np.arange(len(dataset)), 60))
    images = dataset.take(chosen) / np.float32(dataset.levels)
    names, labels = data.class_names(dataset), dataset.labels
    captions = None if labels is None else [names[label] for label in labels[chosen].tolist()]
    title = f"{dataset.name}: {len(chosen)} of {len(dataset):,} images"
    sheet = figures.contact_sheet(images, title=title, captions=captions)
    facts = {
        "name": dataset.name,
        "images": len(dataset),
        "shape": list(dataset.image_shape),
        "levels": dataset.levels,
        "bytes": dataset.nbytes,
        "classes": ", ".join(names.values()) or None,
        "sheet": str(figures.save(sheet, out / f"{dataset.name}.png")),
    }
    if dataset.name != "shapes2d" and comparable(dataset):
        facts["against shapes2d"] = str(compare_with_drawn(dataset))
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
