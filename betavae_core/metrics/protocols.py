"""Named protocols: which metrics, with which settings. A score without its protocol says little.

A protocol is a family of scores (by the name of its file) -> the settings of its `measure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from betavae_core.metrics.dci import METRIC as DCI
from betavae_core.metrics.explicitness import METRIC as EXPLICITNESS
from betavae_core.metrics.factorvae import METRIC as FACTORVAE
from betavae_core.metrics.higgins import METRIC as HIGGINS
from betavae_core.metrics.infomec import METRIC as INFOMEC
from betavae_core.metrics.irs import METRIC as IRS
from betavae_core.metrics.mig import METRIC as MIG
from betavae_core.metrics.modularity import METRIC as MODULARITY
from betavae_core.metrics.points import Metric
from betavae_core.metrics.sap import METRIC as SAP

FAMILIES: dict[str, Metric] = {
    "higgins": HIGGINS,
    "factorvae": FACTORVAE,
    "mig": MIG,
    "dci": DCI,
    "sap": SAP,
    "modularity": MODULARITY,
    "explicitness": EXPLICITNESS,
    "irs": IRS,
    "infomec": INFOMEC,
}

Protocol = Mapping[str, Mapping[str, Any]]

# Locatello et al. 2019, as their library disentanglement_lib has it, but for what is wrong there.
_DLIB: Protocol = {
    "higgins": {"pairs": 64, "train": 10_000, "test": 5_000, "classifier": "logistic"},
    "factorvae": {"members": 64, "train": 10_000, "test": 5_000, "prune": 0.05},
    "mig": {"bins": 20},
    "dci": {"model": "boosting"},
    "sap": {},
    "modularity": {"bins": 20},
    "explicitness": {"normalised": True},
    "irs": {"bins": 20, "quantile": 0.99},
    "infomec": {},
}

PROTOCOLS: dict[str, Protocol] = {
    "dlib": _DLIB,
    # The same but for trees that vote in place of boosted ones: seconds, not minutes.
    "fast": {**_DLIB, "dci": {"model": "forest"}},
    # Each metric as the paper that brought it has it, where that differs.
    "original": {
        **_DLIB,
        "dci": {"model": "lasso"},
        "sap": {"continuous": True},
        "explicitness": {"normalised": False},
        "irs": {"bins": None, "quantile": 1.0},
    },
    # Higgins et al. 2017: a linear softmax under Adagrad 1e-2; of 10 x 3 scores the better half.
    "higgins2017": {
        "higgins": {
            "pairs": 64,
            "classifier": "adagrad",
            "seeds": 10,
            "classifiers": 3,
            "kept": 0.5,
        }
    },
}
