"""A trained model with its settings and its log, as `train` and `load` return it.

Also what goes between a model and a file: the model of some settings, and its state, with that of
its optimizer, as named tensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from betavae_core import architectures, data
from betavae_core.config import CUSTOM, Config
from betavae_core.data.arrays import UNNAMED
from betavae_core.data.dataset import Dataset
from betavae_core.errors import DataError, UsageError
from betavae_core.model import BetaVAE, build, evaluating
from betavae_core.optimizers import Optimizer
from betavae_core.run_directory import read_checkpoint, read_config, read_summary
from betavae_core.storage import read_weights


@dataclass
class Run:
    """A trained model with its settings, its log and its result.

    `data_sha256` is the digest of the images that it was trained on.
    """

    path: Path
    config: Config
    model: BetaVAE
    summary: dict[str, Any] | None
    data_sha256: str

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl."""
        log = self.path / "metrics.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [json.loads(line) for line in lines]

    def images(self, images: NDArray[Any] | Dataset | None = None) -> Dataset:
        """The images that it was trained on, from where its settings say, or as passed.

        Raises DataError when they cannot be read, and UsageError when they are others.
        """
        if images is None and self.config.data == UNNAMED:
            raise UsageError(f"{self.path} was trained on an array; pass it as images=, in Python")
        dataset = images_of(self.config, images)
        require_images(self.path, self.data_sha256, dataset)
        return dataset


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
    config, summary = read_config(path), read_summary(path)
    if summary is not None:
        weights, facts = read_weights(path / "model.safetensors", summary["model_sha256"])
    elif (checkpoint := read_checkpoint(path)) is not None:
        _, tensors, facts = checkpoint
        weights = weights_of(tensors)
    else:
        raise UsageError(f"the run in {path} has no checkpoint yet; resume it or wait")
    with fitting(path):
        model = make_model(config, facts["image_shape"], facts["levels"], encoder, decoder)
        model.load_state_dict(weights)
    return Run(path, config, model.eval(), summary, facts["data"])


def require_images(path: Path, data_sha256: str, dataset: Dataset) -> None:
    """Raises UsageError unless the run in `path` was trained on the images of `dataset`."""
    if dataset.digest() != data_sha256:
        raise UsageError(
            f"{path} was trained on other images than {dataset.name} holds now; restore them or "
            "start a new run"
        )


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Raises DataError where a model does not take the weights of the run in `path`."""
    try:
        yield
    except (KeyError, TypeError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise DataError(
            f"{path} holds weights that do not fit its config.toml, or the encoder and decoder "
            f"given: {cause}"
        ) from None


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
        return _with_own_modules(encoder, decoder, settings)
    if config.arch in (None, CUSTOM):
        raise UsageError("this run was trained with modules of its own; pass encoder and decoder")
    plan = architectures.build(str(config.arch), shape, config.latent_dim, config.hidden)
    return build(plan, seed=config.seed, init=config.init, **settings)


@torch.no_grad()
def _with_own_modules(encoder: nn.Module, decoder: nn.Module, settings: dict[str, Any]) -> BetaVAE:
    """A model that has been tried on two images. Raises UsageError for results of another shape."""
    model = BetaVAE(encoder, decoder, **settings)
    D, shape = model.latent_dim, model.image_shape
    device = next((p.device for p in model.parameters()), None)
    with evaluating(model):
        said = encoder(model.normalise(torch.zeros(2, *shape, device=device)))
        if not isinstance(said, Tensor) or said.shape != (2, 2 * D):
            raise UsageError(
                "an encoder must map images (B, C, H, W) to a tensor (B, 2 latent_dim), the means "
                f"and then the log-variances: of two images {(2, 2 * D)}, got {_described(said)}"
            )
        drawn = decoder(said[:, :D])
        if not isinstance(drawn, Tensor) or len(drawn) != 2 or drawn.numel() != 2 * prod(shape):
            raise UsageError(
                "a decoder must map codes (B, latent_dim) to logits (B, C, H, W): of two codes "
                f"{(2, *shape)}, got {_described(drawn)}"
            )
    return model


def _described(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def images_of(config: Config, images: NDArray[Any] | Dataset | None = None) -> Dataset:
    """The data set of a run: what is passed, or what its settings name; of that its classes."""
    if images is None:
        dataset = data.load(config.data)
    else:
        dataset = images if isinstance(images, Dataset) else data.from_array(images)
    return dataset if config.classes is None else data.select_classes(dataset, config.classes)


def flatten_state(
    model: nn.Module, optimizer: Optimizer, objective: nn.Module
) -> dict[str, Tensor]:
    """Weights as model/NAME, an objective's memory as objective/NAME, optimizer/INDEX/NAME."""
    tensors = {f"model/{name}": t for name, t in model.state_dict().items()}
    tensors |= {f"objective/{name}": t for name, t in objective.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": t for name, t in state.items()}
    return tensors


def restore_state(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: Optimizer,
    objective: nn.Module,
) -> None:
    """The inverse of `flatten_state`: load the tensors into the three."""
    model.load_state_dict(weights_of(tensors))
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
    objective.load_state_dict(weights_of(tensors, "objective/"))


def weights_of(tensors: Mapping[str, Tensor], prefix: str = "model/") -> dict[str, Tensor]:
    """The model's tensors in a checkpoint, under their own names."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
