"""A run on disk: its settings, its log, its checkpoints, its result. Nothing is ever unpickled.

    config.toml                    every setting, resolved; a run exists when this file does
    metrics.jsonl, timings.jsonl   one object a line; only the second holds clock readings
    checkpoint/step-N.safetensors  weights, optimizer, the log rows not yet written
    checkpoint/latest.json         which file, its SHA-256, the length of the logs; replaced last
    model.safetensors              the weights, at the end
    summary.json                   the result, at the end, with the SHA-256 of the weights
    figures/*.png

Files are replaced atomically and a checkpoint is named only once it is whole, so a reader and a
resumed run always find a good one, whenever the writer dies.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from betavae_core import architectures
from betavae_core.config import CUSTOM, Config, read_toml
from betavae_core.errors import UsageError
from betavae_core.model import BetaVAE, build
from betavae_core.storage import PARTIAL, read_json, read_weights, serialise, write_atomic

LOGS = ("metrics.jsonl", "timings.jsonl")


@dataclass
class RunDirectory:
    """The files of one run, held under a lock from `create` or `open` until `close`."""

    path: Path
    _lock: int = field(default=-1, repr=False)

    @classmethod
    def create(cls, path: Path, config: Config) -> RunDirectory:
        """A new run. Raises UsageError when `path` is not empty or cannot be written.

        config.toml comes first: until it is there, the folder counts as empty.
        """
        directory = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            directory._acquire()
            if any(entry.name != PARTIAL.format("config.toml") for entry in path.iterdir()):
                raise UsageError(
                    f"--out must be a new or an empty folder, and {path} is not empty; "
                    "add --resume to go on with the run in it"
                )
            (path / "checkpoint").mkdir()
            directory._write_config(config)
        except OSError as error:
            directory.close()
            raise UsageError(
                f"--out must be a folder that can be written, got {path}: {error.strerror}"
            ) from None
        except UsageError:
            directory.close()
            raise
        return directory

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run. Raises UsageError when there is none or another process writes it."""
        if not (path / "config.toml").is_file():
            raise UsageError(
                f"--resume needs a run in --out, and {path} holds no config.toml; "
                "start one without --resume"
            )
        directory = cls(path)
        directory._acquire()
        return directory

    def _acquire(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows has no flock
            return
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UsageError(
                f"--out must not be in use, and another training writes {self.path}; "
                "wait for it or choose another folder"
            ) from None

    def close(self) -> None:
        """Release the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def extend(self, config: Config) -> None:
        """Replace the settings by those of a longer run: its result is no longer this one's."""
        (self.path / "summary.json").unlink(missing_ok=True)
        self._write_config(config)

    def _write_config(self, config: Config) -> None:
        write_atomic(self.path / "config.toml", config.write_toml().encode())

    def append(self, log: str, row: Mapping[str, Any]) -> None:
        """Add a line to a log."""
        with open(self.path / log, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def save_checkpoint(
        self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> None:
        """Write the state at `step` and make it the latest; the one before is removed."""
        folder = self.path / "checkpoint"
        content = serialise(tensors, facts)
        name = f"step-{step}.safetensors"
        write_atomic(folder / name, content)
        latest = {
            "file": name,
            "step": step,
            "sha256": hashlib.sha256(content).hexdigest(),
            "log_bytes": {log: self._durable_length(log) for log in LOGS},
        }
        write_atomic(folder / "latest.json", json.dumps(latest, indent=2).encode())
        for old in folder.glob("step-*.safetensors"):
            if old.name != name:
                old.unlink()

    def _durable_length(self, log: str) -> int:
        with open(self.path / log, "ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def read_checkpoint(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """The step, tensors and facts of the latest checkpoint, if there is one."""
        latest = read_latest(self.path)
        if latest is None:
            return None
        tensors, facts = read_weights(self.path / "checkpoint" / latest["file"], latest["sha256"])
        return latest["step"], tensors, facts

    def cut_logs(self) -> None:
        """Forget the lines of the logs that came after the latest checkpoint."""
        latest = read_latest(self.path)
        for log in LOGS:
            with open(self.path / log, "ab") as file:
                file.truncate(latest["log_bytes"][log] if latest else 0)

    def finish(
        self, weights: Mapping[str, Tensor], facts: Mapping[str, Any], summary: dict[str, Any]
    ) -> None:
        """Write model.safetensors and then, last, summary.json."""
        content = serialise(weights, facts)
        write_atomic(self.path / "model.safetensors", content)
        summary["model_sha256"] = hashlib.sha256(content).hexdigest()
        write_atomic(self.path / "summary.json", json.dumps(summary, indent=2).encode())


def next_directory(name: str, root: Path = Path("runs")) -> Path:
    """runs/NAME-NUMBER with the first number that is free."""
    number = 1
    while (root / f"{name}-{number}").exists():
        number += 1
    return root / f"{name}-{number}"


def read_config(path: Path) -> Config:
    """The settings of the run in `path`. Raises UsageError when there is none or it is damaged."""
    source = path / "config.toml"
    try:
        return Config(**read_toml(source.read_text(encoding="utf-8"), str(source)))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"RUN must be the folder of a run, got {path}: {error}") from None


def read_summary(path: Path) -> dict[str, Any] | None:
    """The result of the run in `path`, or None while it has none."""
    return read_json(path / "summary.json", ("steps", "model_sha256"))


def read_latest(path: Path) -> dict[str, Any] | None:
    """What checkpoint/latest.json says, or None before the first checkpoint."""
    return read_json(path / "checkpoint" / "latest.json", ("file", "step", "sha256", "log_bytes"))


@dataclass
class Run:
    """A trained model with its settings, its log and its result."""

    path: Path
    config: Config
    model: BetaVAE
    summary: dict[str, Any] | None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def load(
    path: str | os.PathLike[str],
    *,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> Run:
    """The run in the folder `path`: finished, or as its latest checkpoint has it.

    A run that was trained with modules of one's own needs the same modules here.
    Raises UsageError or DataError when there is no run, or its files are damaged.
    """
    path = Path(path)
    config, summary, latest = read_config(path), read_summary(path), read_latest(path)
    if summary is not None:
        weights, facts = read_weights(path / "model.safetensors", summary["model_sha256"])
    elif latest is not None:
        tensors, facts = read_weights(path / "checkpoint" / latest["file"], latest["sha256"])
        weights = weights_of(tensors)
    else:
        raise UsageError(f"the run in {path} has no checkpoint yet; resume it or wait")
    model = make_model(config, facts["image_shape"], facts["levels"], encoder, decoder)
    model.load_state_dict(weights)
    return Run(path, config, model.eval(), summary)


def make_model(
    config: Config,
    image_shape: Sequence[int],
    levels: int,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
) -> BetaVAE:
    """The model of a resolved configuration at step 0; one's own modules keep their weights."""
    shape = architectures.as_shape(image_shape)
    settings: dict[str, Any] = {
        "latent_dim": config.latent_dim,
        "image_shape": shape,
        "levels": levels,
        "likelihood": config.likelihood,
        "sigma": config.sigma,
        "backend": config.backend,
    }
    if (encoder is None) != (decoder is None):
        raise UsageError("give both encoder and decoder, or neither")
    if encoder is not None and decoder is not None:
        return BetaVAE(encoder, decoder, **settings)
    if config.arch in (None, CUSTOM):
        raise UsageError("this run was trained with modules of its own; pass encoder and decoder")
    plan = architectures.build(str(config.arch), shape, config.latent_dim, config.hidden)
    return build(plan, seed=config.seed, **settings)


def flatten_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The weights as model/NAME and the optimizer's tensors as optimizer/INDEX/NAME."""
    tensors = {f"model/{name}": t for name, t in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": t for name, t in state.items()}
    return tensors


def restore_state(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """The inverse of `flatten_state`: load the tensors into the model and the optimizer."""
    parameters = list(model.parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            if tensor.ndim:  # a fused optimizer walks memory: a moment lies as its weight does
                tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
            state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    model.load_state_dict(weights_of(tensors))


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors in a checkpoint, under their own names."""
    prefix = "model/"
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
