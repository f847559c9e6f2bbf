"""Choosing classes of a labelled data set by their names: "A-D", "a,z", "0-3,7"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from betavae_core.data.dataset import Dataset
from betavae_core.errors import DataError


def select_classes(dataset: Dataset, classes: str) -> Dataset:
    """The images whose class is in `classes`: names and ranges of names, with commas between.

    A class without a name is called by its label. A range runs over the labels between its ends.
    Capitals matter only where two names differ in nothing else. The official split stays where
    both of its sides keep images. Raises DataError, which says what classes there are.
    """
    if dataset.labels is None:
        raise DataError(f"{dataset.name} has no labels, so no classes can be chosen; leave it out")
    names = class_names(dataset)
    wanted: set[int] = set()
    for part in classes.split(","):
        wanted |= _labels_of(part.strip(), names)
    kept = np.flatnonzero(np.isin(dataset.labels, sorted(wanted)))
    return replace(
        dataset,
        pixels=dataset.pixels[kept],
        factors=None if dataset.factors is None else dataset.factors[kept],
        labels=dataset.labels[kept],
        label_names={k: v for k, v in dataset.label_names.items() if k in wanted},
        test_from=_split_among(kept, dataset.test_from),
    )


def class_names(dataset: Dataset) -> dict[int, str]:
    """What the classes that occur are called, in the order of their labels."""
    if dataset.labels is None:
        return {}
    present = np.unique(dataset.labels).tolist()
    return {label: dataset.label_names.get(label, str(label)) for label in present}


def _labels_of(part: str, names: Mapping[int, str]) -> set[int]:
    """The labels that one name or range stands for; a name may itself have a hyphen."""
    label = _find(part, names)
    if label is not None:
        return {label}
    for at in (i for i, character in enumerate(part) if character == "-"):
        first, last = _find(part[:at].strip(), names), _find(part[at + 1 :].strip(), names)
        if first is None or last is None:
            continue
        if first > last:
            raise DataError(f"classes: the range {part!r} runs backwards; turn it round")
        return {label for label in names if first <= label <= last}
    there = ", ".join(names.values())
    raise DataError(f"classes: there is no class or range {part!r}; the classes are {there}")


def _find(text: str, names: Mapping[int, str]) -> int | None:
    """The label of the class called `text`; None for none, or for several that differ in case."""
    exact = [label for label, name in names.items() if name == text]
    alike = [label for label, name in names.items() if name.casefold() == text.casefold()]
    found = exact or alike
    return found[0] if len(found) == 1 else None


def _split_among(kept: np.ndarray, test_from: int | None) -> int | None:
    """Where the test images start among those kept; None where one side is empty."""
    if test_from is None:
        return None
    start = int(np.searchsorted(kept, test_from))
    return start if 0 < start < len(kept) else None
