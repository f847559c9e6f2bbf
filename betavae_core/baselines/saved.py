"""Baselines on disk: a finished one is found again, so that an interrupted table goes on.

model.safetensors   the weights
metrics.jsonl       the log of the losses, one object a line
summary.json        the identity (everything that the weights depend on), the seconds, the
                    last losses and the SHA-256 of the weights; written last
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from betavae_core.errors import UsageError
from betavae_core.storage import read_json, read_weights, serialise, write_atomic


def find(folder: Path | None, identity: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The weights of the finished model of this identity in `folder`, or None where it has none.

    Makes the folder, so that one that cannot be written is refused before the training.
    Raises UsageError for such a folder, and for one that holds another model.
    """
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"a baseline needs a folder that can be written, got {folder}: {error.strerror}"
        ) from None
    summary = read_json(folder / "summary.json", {"identity": dict, "model_sha256": str})
    if summary is None:
        return None
    _check_same(folder, summary["identity"], _plain(identity))
    return read_weights(folder / "model.safetensors", summary["model_sha256"])[0]


def keep(
    folder: Path | None,
    identity: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    rows: Sequence[Mapping[str, Any]],
    seconds: float,
) -> None:
    """Write a finished model, its summary last."""
    if folder is None:
        return
    content = serialise(weights, {"identity": _plain(identity)})
    write_atomic(folder / "model.safetensors", content)
    write_atomic(folder / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())
    summary = {
        "identity": _plain(identity),
        "seconds": seconds,
        "last": rows[-1],
        "model_sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomic(folder / "summary.json", json.dumps(summary, indent=2).encode())


def _check_same(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if names:
        raise UsageError(
            f"{folder} holds a model that differs in {', '.join(names)}; "
            "choose another folder or remove this one"
        )


def _plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from JSON: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain
