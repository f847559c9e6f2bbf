"""Classes by name: single ones, ranges, in any case, and what is said when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from betavae_core.data import DataError, Dataset, class_names, from_array, load, select_classes

LETTERS = dict(enumerate("abcdefghijklmnopqrstuvwxyz", start=1))


def labelled(labels: Sequence[int], names: dict[int, str] | None = None) -> Dataset:
    """Images that each hold their own index, so that it is seen which were kept."""
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1) + np.zeros((2, 2), np.uint8)
    factors = np.arange(len(labels))[:, None]
    dataset = from_array(images, labels=labels, factors=factors, factor_names=["index"])
    return replace(dataset, label_names=names or {})


def chosen(dataset: Dataset, classes: str) -> list[int]:
    kept = select_classes(dataset, classes)
    assert kept.labels is not None
    assert kept.factors is not None
    np.testing.assert_array_equal(kept.images[:, 0, 0], kept.factors[:, 0])  # all rows alike
    return sorted(set(kept.labels.tolist()))


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ("A-D", [1, 2, 3, 4]),
        ("a-d", [1, 2, 3, 4]),
        ("a,z", [1, 26]),
        (" a , z ", [1, 26]),
        ("z,a,a", [1, 26]),
        ("x-z,A", [1, 24, 25, 26]),
        ("q - s", [17, 18, 19]),
        ("k", [11]),
        ("k-k", [11]),
    ],
)
def test_letters(classes: str, labels: list[int]) -> None:
    assert chosen(labelled([*LETTERS] * 2, LETTERS), classes) == labels


def test_digits_have_no_names_but_their_labels() -> None:
    digits = load("digits")
    assert chosen_labels(select_classes(digits, "0-3,7")) == [0, 1, 2, 3, 7]
    assert len(select_classes(digits, "0-9")) == len(digits)


def chosen_labels(dataset: Dataset) -> list[int]:
    return np.unique(dataset.labels).tolist()  # type: ignore[arg-type]


def test_a_range_skips_labels_that_do_not_occur() -> None:
    assert chosen(labelled([0, 5, 9, 7, 5]), "5-9") == [5, 7, 9]


def test_negative_labels_and_names_with_hyphens_are_found() -> None:
    assert chosen(labelled([-2, -1, 0, 1]), "-1") == [-1]
    assert chosen(labelled([-2, -1, 0, 1]), "-2-0") == [-2, -1, 0]
    assert chosen(labelled([0, 1, 2], {0: "T-shirt", 1: "dress", 2: "coat"}), "t-shirt-dress") == [
        0,
        1,
    ]


def test_case_matters_only_where_both_cases_are_there() -> None:
    both = labelled([0, 1, 2], {0: "A", 1: "a", 2: "B"})
    assert chosen(both, "a") == [1]
    assert chosen(both, "A") == [0]
    assert chosen(both, "b") == [2]


def test_the_official_split_is_kept() -> None:
    dataset = replace(labelled([1, 2, 1, 2, 2, 1]), test_from=4)
    kept = select_classes(dataset, "1")
    assert (len(kept), kept.test_from) == (3, 2)
    assert kept.images[:, 0, 0].tolist() == [0, 2, 5]


def test_a_split_that_loses_a_side_is_none() -> None:
    dataset = replace(labelled([1, 2, 2]), test_from=1)
    assert select_classes(dataset, "1").test_from is None
    assert select_classes(dataset, "2").test_from is None


def test_only_the_names_of_the_kept_classes_remain() -> None:
    kept = select_classes(labelled([*LETTERS], LETTERS), "a,c")
    assert dict(kept.label_names) == class_names(kept) == {1: "a", 3: "c"}


def test_a_packed_data_set_keeps_its_bits() -> None:
    packed = Dataset(
        "bits", np.array([[128], [64], [32]], np.uint8), 1, (1, 2, 4), packed=True,
        labels=np.array([0, 1, 0]),
    )  # fmt: skip
    assert select_classes(packed, "0").pixels.tolist() == [[128], [32]]


@pytest.mark.parametrize("classes", ["", ",", "a,", "é", "a-", "-a", "1", "a-1", "ab", "a-b-c"])
def test_what_is_no_class_is_told_the_classes(classes: str) -> None:
    with pytest.raises(DataError, match=r"no class or range .*; the classes are a, b, c") as caught:
        select_classes(labelled([1, 2, 3], {1: "a", 2: "b", 3: "c"}), classes)
    assert "\n" not in str(caught.value)


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(DataError, match="'d-a' runs backwards"):
        select_classes(labelled([*LETTERS], LETTERS), "d-a")


def test_without_labels_there_are_no_classes() -> None:
    with pytest.raises(DataError, match="has no labels"):
        select_classes(from_array(np.zeros((2, 2, 2), np.uint8)), "1")
