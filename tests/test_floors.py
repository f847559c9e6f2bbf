"""The floors of the house: an import may only point down, read from every file's syntax tree."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("betavae_core", "kernels", "reference", "bench", "cli.py", "tests")
STACKS = {"reference": {"numpy"}, "kernels": {"torch", "triton"}}  # and Python's own library
# Which files, by the start of their path, may import a room; nobody else may.
DOORS = {
    "betavae_core.kernels": ("kernels/", "betavae_core/ops/", "bench/", "tests/"),
    "betavae_core.reference": ("reference/", "betavae_core/parity", "bench/", "tests/"),
    "betavae_core.bench": ("bench/", "cli.py", "tests/"),
    "betavae_core.cli": ("cli.py", "tests/"),
    "betavae_core.tests": (),
    "tests": (),
    "cli": (),
    "bench": (),
    "kernels": (),
    "reference": (),
}


def imported(file: Path) -> set[str]:
    """The dotted names that a file imports: modules, and what it takes out of them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the floor they come from"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def trespasses(root: Path) -> list[str]:
    """Every import under `root` that points up or sideways, as `file imports name`."""
    files = [f for room in ROOMS for f in sorted((root / room).rglob("*.py")) or [root / room]]
    found = []
    for file in filter(Path.is_file, files):
        path = file.relative_to(root).as_posix()
        for name in sorted(imported(file)):
            door = next((d for d in DOORS if f"{name}.".startswith(f"{d}.")), None)
            outside = door is not None and not path.startswith(DOORS[door])
            if outside or not stands_on_its_own(path.split("/")[0], name):
                found.append(f"{path} imports {name}")
    return found


def stands_on_its_own(room: str, name: str) -> bool:
    """Whether a room of few dependencies imports only these, Python's library, and itself."""
    top, own = name.split(".")[0], f"betavae_core.{room}"
    if room not in STACKS or top in STACKS[room] | sys.stdlib_module_names:
        return True
    return name == "betavae_core" or f"{name}.".startswith(f"{own}.")


def test_every_import_points_down() -> None:
    assert trespasses(ROOT) == []


@pytest.mark.parametrize(
    ("path", "line", "name"),
    [
        ("reference/layers.py", "import torch", "torch"),
        ("reference/layers.py", "import scipy.special", "scipy.special"),
        ("reference/layers.py", "from betavae_core.ops import philox", "betavae_core.ops"),
        ("kernels/philox.py", "import numpy as np", "numpy"),
        ("kernels/philox.py", "from betavae_core import errors", "betavae_core.errors"),
        ("betavae_core/a.py", "import betavae_core.kernels.x", "betavae_core.kernels.x"),
        ("betavae_core/model.py", "from betavae_core import kernels", "betavae_core.kernels"),
        ("betavae_core/x.py", "if 1:\n  import betavae_core.reference", "betavae_core.reference"),
        ("betavae_core/training.py", "from betavae_core.bench import x", "betavae_core.bench"),
        ("bench/run.py", "from betavae_core import cli", "betavae_core.cli"),
        ("bench/run.py", "import tests.test_model", "tests.test_model"),
        ("cli.py", "from betavae_core.reference import checks", "betavae_core.reference"),
        ("cli.py", "import kernels", "kernels"),
    ],
)  # fmt: skip
def test_the_test_above_finds_an_import_that_points_up(
    path: str, line: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(line)
    assert f"{path} imports {name}" in trespasses(tmp_path)


def test_the_test_above_allows_what_points_down(tmp_path: Path) -> None:
    for path, line in (
        ("reference/layers.py", "import numpy, math\nfrom betavae_core.reference import philox"),
        ("kernels/x.py", "import torch, triton.language\nfrom betavae_core.kernels import launch"),
        ("betavae_core/ops/x.py", "from betavae_core.kernels import philox"),
        ("betavae_core/parity.py", "from betavae_core import reference, ops"),
        ("cli.py", "from betavae_core import bench"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(line)
    assert trespasses(tmp_path) == []


def heavy_modules_after(statement: str) -> str:
    script = f"import sys\n{statement}\nprint(*sorted({{'torch', 'triton'}} & sys.modules.keys()))"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return run.stdout.strip()


@pytest.mark.parametrize(
    "statement",
    ["import betavae_core", "import betavae_core; dir(betavae_core)", "import betavae_core.config",
     "from betavae_core.architectures import build", "from betavae_core import reference"],
)  # fmt: skip
def test_importing_the_package_imports_no_torch(statement: str) -> None:
    assert heavy_modules_after(statement) == ""


def test_the_test_above_can_see_torch() -> None:
    assert "torch" in heavy_modules_after("import betavae_core; betavae_core.BetaVAE")


def test_the_public_names_exist_and_shadow_no_module() -> None:
    import betavae_core

    modules = {file.stem for file in (ROOT / "betavae_core").iterdir()}
    assert not (betavae_core._EXPORTS.keys() & modules)
    for name in betavae_core.__all__:
        assert getattr(betavae_core, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        betavae_core.nothing  # noqa: B018
