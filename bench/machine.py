"""What a figure was measured on: the machine, the versions, the commit.

Run as a module it prints the facts of this machine and its NVIDIA GPU as JSON, and fails where
there is none.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from betavae_core import __version__
from betavae_core.cores import cores
from betavae_core.errors import UsageError
from betavae_core.hardware import choose_device, environment
from betavae_core.ops import backend

_ROOT = Path(__file__).resolve().parent.parent
_GPU_FACTS = (
    "name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.memory",
    "compute_cap", "mig.mode.current", "persistence_mode",
)  # fmt: skip


def machine(device: str) -> dict[str, Any]:
    """Processor, cores, threads, kernels, and the GPU (null unless `device` is `cuda`)."""
    return {
        "device": device,
        "cpu": environment("cpu")["device"],
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "kernels": backend.identity("auto", torch.device(device)),
        "gpu": environment("cuda")["device"] if device == "cuda" else None,
        "nvidia_smi": nvidia_smi() if device == "cuda" else None,
        "system": platform.platform(),
    }


def versions() -> dict[str, str | None]:
    """Of Python and of what the figures depend on; null for what is not installed."""
    return {
        "betavae-core": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
        "numpy": _version("numpy"),
    }


def commit() -> str | None:
    """The commit of this checkout, null where it is none; `+` marks changes on top of it."""
    root = _run("git", "-C", str(_ROOT), "rev-parse", "--show-toplevel")
    head = _run("git", "-C", str(_ROOT), "rev-parse", "--verify", "HEAD")
    if not root or not head or Path(root).resolve() != _ROOT:  # installed inside another one's
        return None
    changed = _run("git", "-C", str(_ROOT), "status", "--porcelain", "--untracked-files=no")
    return head + ("+" if changed else "")


def nvidia_smi() -> dict[str, str] | None:
    """What the driver says of the GPU in use, null where there is no nvidia-smi."""
    index = str(torch.cuda.current_device()) if torch.cuda.is_available() else "0"
    query = f"--query-gpu={','.join(_GPU_FACTS)}"
    line = _run("nvidia-smi", "-i", index, query, "--format=csv,noheader")
    values = [value.strip() for value in line.split(",")] if line else []
    return dict(zip(_GPU_FACTS, values, strict=True)) if values else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _run(*command: str) -> str | None:
    """What a command prints, null when it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    try:
        facts = machine(choose_device("cuda"))
    except UsageError as error:
        sys.exit(str(error))
    json.dump({"machine": facts, "versions": versions(), "commit": commit()}, sys.stdout, indent=2)
