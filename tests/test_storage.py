"""Files that are whole or absent, and that are refused once a bit of them has changed."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from run_cases import Died, resume, snapshot, without_pictures

import betavae_core as bv
from betavae_core import DataError, storage
from betavae_core.run_directory import read_summary
from betavae_core.storage import read_weights, serialise, write_atomic

OLD, NEW = b"old" * 1000, b"new" * 2000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)


def die(*_: Any) -> None:
    raise Died


class HalfWritten:
    """A file that takes half of what is written to it, and then dies; or dies when flushed."""

    def __init__(self, file: Any, at: str) -> None:
        self.file, self.at = file, at

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def fileno(self) -> int:
        return self.file.fileno()

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        if self.at == "write":
            raise Died
        self.file.write(content[len(content) // 2 :])

    def flush(self) -> None:
        if self.at == "flush":
            raise Died
        self.file.flush()


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("at", ["open", "write", "flush", "fsync", "replace", "folder"])
def test_a_crash_leaves_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, exists: bool
) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_bytes(OLD)
    with monkeypatch.context() as patch:
        if at in ("fsync", "replace"):
            patch.setattr(os, at, die)
        elif at == "folder":
            patch.setattr(storage, "sync_folder", die)
        else:
            opened = die if at == "open" else lambda *a: HalfWritten(open(*a), at)  # noqa: SIM115
            patch.setattr(storage, "open", opened, raising=False)
        with pytest.raises(Died):
            write_atomic(path, NEW)
    before = OLD if exists else None
    assert (path.read_bytes() if path.exists() else None) == (NEW if at == "folder" else before)
    write_atomic(path, NEW)
    assert path.read_bytes() == NEW
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))
        )
    write_atomic(tmp_path / "file", NEW)
    assert calls == ["fsync", "replace", "fsync"]


def test_weights_are_the_same_bytes_every_time_and_come_back() -> None:
    tensors = {name: torch.randn(3, 4) for name in "zyxwvu"}
    facts = {"b": [1, 2], "a": {"d": 1, "c": None}}
    content = serialise(tensors, facts)
    assert content == serialise(dict(reversed(tensors.items())), dict(reversed(facts.items())))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_weights_do_not_depend_on_their_layout_in_memory(layout: torch.memory_format) -> None:
    weight = torch.randn(2, 3, 4, 5)
    assert serialise({"w": weight.to(memory_format=layout)}, {}) == serialise({"w": weight}, {})


def test_weights_that_share_memory_are_saved_whole() -> None:
    weight = torch.randn(3, 4)
    serialise({"encoder": weight, "decoder": weight}, {})


def test_any_flipped_bit_in_the_weights_is_refused(finished: Path) -> None:
    file = finished / "model.safetensors"
    content = file.read_bytes()
    for position in range(0, len(content), len(content) // 60):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"model\.safetensors is damaged"):
            bv.load(finished)
    file.write_bytes(content)
    assert bv.load(finished).summary is not None


@pytest.mark.parametrize("use", [bv.load, resume])
@pytest.mark.parametrize("spoil", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_refused_and_nothing_is_touched(
    unfinished: Path, use: Callable[[Path], Any], spoil: str
) -> None:
    file = unfinished / "checkpoint" / "step-20.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if spoil == "remove":
        file.unlink()
    else:
        file.write_bytes(content if spoil == "flip" else content[:-1])
    before = snapshot(unfinished)
    with pytest.raises(DataError, match=r"step-20\.safetensors"):
        use(unfinished)
    assert snapshot(unfinished) == before


@pytest.mark.parametrize("name", ["summary.json", "checkpoint/latest.json"])
def test_a_cut_json_file_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content = (finished / name).read_bytes()
    if name == "checkpoint/latest.json":
        (finished / "summary.json").unlink()
    for length in range(0, len(content) - 1, 7):
        (finished / name).write_bytes(content[:length])
        for use in (bv.load, resume):
            with pytest.raises(DataError, match=f"{name} is damaged"):
                use(finished)


@pytest.mark.parametrize("text", ["null", "5", "[]", '"file"', "{}", '{"steps": 30}', "\xff"])
def test_a_json_file_that_holds_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"summary\.json is damaged"):
        read_summary(path.parent)


@pytest.mark.parametrize(
    "wrong", [{"file": 5}, {"step": "20"}, {"step": 21}, {"file": "../step-20.safetensors"}]
)
def test_a_latest_that_does_not_fit_its_checkpoint_is_refused(
    unfinished: Path, wrong: dict[str, Any]
) -> None:
    file = unfinished / "checkpoint" / "latest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    with pytest.raises(DataError, match=r"latest\.json|step-20"):
        resume(unfinished)


@pytest.mark.parametrize("left", [None, 10])
def test_a_log_that_has_lost_lines_is_refused_and_not_filled_up(
    unfinished: Path, left: int | None
) -> None:
    log = unfinished / "metrics.jsonl"
    if left is None:
        log.unlink()
    else:
        log.write_bytes(log.read_bytes()[:left])
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        resume(unfinished)
    assert b"\0" not in (log.read_bytes() if log.exists() else b"")


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "weights.safetensors"
    for content in (b"", b"{}", b"\xff" * 64, serialise({}, {})[:-1]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"weights\.safetensors"):
            read_weights(path, hashlib.sha256(content).hexdigest())


def test_nothing_is_unpickled(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, die)
    monkeypatch.setattr(torch, "load", die)
    bv.load(unfinished)
    resume(unfinished)
    assert bv.load(unfinished).summary is not None
