"""β-VAE with an oracle.

One equation written three times and proved equal: `betavae_core.reference` says what is true
(NumPy, float64, gradients by hand), `betavae_core.kernels` says it fast (Triton, and C on a CPU),
and the rest of the package uses it. Importing this module imports neither torch nor Triton: the
public names below load on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# In a source checkout `kernels`, `reference`, `bench` and `cli` lie beside this folder and not in
# it; in a wheel they lie in it and this does nothing. (A side effect, harmless: `tests` becomes
# importable as betavae_core.tests in a checkout.)
if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

_EXPORTS = {
    "BetaVAE": "model",
    "Config": "config",
    "DataError": "errors",
    "Interrupted": "errors",
    "Posterior": "posterior",
    "Run": "runs",
    "TrainingError": "errors",
    "UsageError": "errors",
    "evaluate": "scorecard",
    "load": "runs",
    "plot": "gallery",
    "sweep": "populations",
    "train": "training",
}
_MODULES = {"architectures", "baselines", "data", "figures", "metrics", "objectives", "ops"}

__all__ = sorted([*_EXPORTS, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
