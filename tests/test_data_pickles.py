"""No pickle is ever read: traps in data files stay shut, and nothing here unpickles."""

from __future__ import annotations

import ast
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from promises import tried

from betavae_core.data import DataError, load

ROOT = Path(__file__).resolve().parents[1]


def saved(save: Callable, *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


class Hostile:
    """Unpickling one of these makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "images-idx3-ubyte", "a.pkl"])
def test_pickled_objects_are_refused_and_never_run(tmp_path: Path, name: str) -> None:
    trap = tmp_path / "sprung"
    array = np.empty((2, 3, 3), object)
    array[...] = Hostile(trap)
    data = {
        "a.npy": lambda: saved(np.save, array),
        "a.npz": lambda: saved(np.savez, images=array, labels=array[:, 0, 0]),
    }.get(name, lambda: pickle.dumps(Hostile(trap)))()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        load(tmp_path / name)
    assert not trap.exists()
    if name.startswith("a.np"):
        assert "pickled Python objects, which are never loaded" in str(caught.value)
    pickle.loads(pickle.dumps(Hostile(trap)))
    assert trap.exists()  # the trap works


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def unpickles(node: ast.Call) -> bool:
    """Whether a call may unpickle: by its name, or by what it is told."""
    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called(node) == "torch.load":  # safetensors.torch.load holds no code
        return arguments.get("weights_only") != "True"
    if arguments.get("allow_pickle", "False") != "False":
        return not called(node).startswith("np.save")  # which pickles, and unpickles nothing
    module, _, function = called(node).rpartition(".")
    return function in ("Unpickler", "read_pickle") or (
        module in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
        and function in ("load", "loads", "open")
    )


@pytest.mark.promise("pickle")
@pytest.mark.parametrize(
    "bad",
    [
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "joblib.load(path)",
    ],
)
def test_the_search_for_unpickling_finds_it(bad: str) -> None:
    call = ast.parse(bad).body[0].value  # type: ignore[attr-defined]
    assert unpickles(call)
    tried()


@pytest.mark.promise("pickle")
def test_no_path_of_the_repository_unpickles() -> None:
    folders = ("betavae_core", "kernels", "reference", "bench", "tests")
    files = [ROOT / "cli.py", *(f for folder in folders for f in (ROOT / folder).rglob("*.py"))]
    assert len(files) > 10
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {called(node)}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and unpickles(node)
    ]
    springing = f"tests/{Path(__file__).name}:"  # the trap above is sprung to show that it works
    assert [place for place in found if not place.startswith(springing)] == []
    tried(len(files))
