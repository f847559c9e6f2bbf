"""The settings of a run: one frozen dataclass, validated once, written to and read from TOML.

A setting left at None is chosen by `resolve`, when the data is known. A resolved configuration
says everything that a run's numbers depend on, so `config.toml` alone repeats the run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from math import ceil, prod
from sys import float_info
from typing import Any

import tomli_w

from betavae_core.architectures import ARCHITECTURES, Shape, default_name
from betavae_core.errors import UsageError

CUSTOM = "custom"  # an architecture or an objective of the user's own, passed to `train`
TARGETS = {"controlvae": "target_kl", "geco": "target_recon"}  # what is held, by choosing β
DEFAULT_STEPS = {"cpu": 1_500, "cuda": 30_000}
DEFAULT_CHECKPOINT_EVERY = {"cpu": 1_000, "cuda": 10_000}  # a GPU is not to wait for disks


@dataclass(frozen=True)
class Config:
    """Every setting of a training run; the command line's options bear the same names.

    Raises UsageError when a value breaks its invariant.
    """

    data: str = "shapes2d"
    classes: str | None = None  # all; else names and ranges, as A-D or a,z
    objective: str = "beta"
    beta: float | None = None  # by the size of the images, or from beta_norm
    beta_norm: float | None = None  # β M / N: M latents, N values an image
    gamma: float = 1000.0
    capacity_max: float = 25.0
    capacity_steps: int | None = None  # the whole run
    target_kl: float | None = None  # that controlvae holds
    target_recon: float | None = None  # that geco holds
    arch: str | None = None  # by the size of the images
    hidden: tuple[int, ...] = (512, 256)
    init: str = "lecun"
    latent_dim: int = 10
    likelihood: str = "bernoulli"
    sigma: float = 0.1
    steps: int | None = None  # by the device, or from epochs
    epochs: float | None = None
    batch_size: int = 64
    lr: float = 1e-3
    optimizer: str = "adam"
    precision: str = "auto"
    fp32_steps: int = 500  # of a bf16 run, before its first in bf16
    device: str = "auto"
    backend: str = "auto"
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int | None = None  # by the device

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _plain(getattr(self, f.name)))
        for name, invariants in _INVARIANTS.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            for holds, invariant in invariants:
                if not holds(value):
                    raise UsageError(f"{flag(name)} must be {invariant}, got {value!r}")
        for one, other in _EITHER[::2]:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise UsageError(f"give {flag(one)} or {flag(other)}, not both")
        for objective, target in TARGETS.items():
            held = getattr(self, target) is not None
            if self.objective == objective and not held:
                raise UsageError(f"--objective {objective} needs {flag(target)}, in nats an image")
            if self.objective not in (objective, CUSTOM) and held:
                raise UsageError(f"{flag(target)} needs --beta auto, or --objective {objective}")

    def resolve(self, image_shape: Shape, images: int, device: str, precision: str) -> Config:
        """These settings with nothing left open, for `images` training images (C, H, W)."""
        ratio = self.latent_dim / prod(image_shape)
        beta: float | None = self.beta if self.beta is not None else default_beta(image_shape)
        if self.beta_norm is not None:
            beta = self.beta_norm / ratio
        if self.objective in TARGETS:  # it moves with the run
            beta = None
        steps = self.steps or DEFAULT_STEPS[device]
        if self.epochs is not None:
            steps = ceil(Fraction(str(self.epochs)) * images / self.batch_size)
        return replace(
            self,
            beta=beta,
            beta_norm=None,
            arch=self.arch or default_name(image_shape),
            steps=steps,
            epochs=None,
            capacity_steps=self.capacity_steps or steps,
            checkpoint_every=self.checkpoint_every or DEFAULT_CHECKPOINT_EVERY[device],
            device=device,
            precision=precision,
        )

    def norm_of(self, beta: float | None, image_shape: Shape) -> float | None:
        """β M / N for the latents of these settings (Higgins et al. 2017, section 4.2)."""
        return None if beta is None else beta * self.latent_dim / prod(image_shape)

    def updated(self, settings: Mapping[str, Any]) -> Config:
        """These settings with some replaced; β and β_norm, steps and epochs replace each other."""
        changes: dict[str, Any] = {**dict.fromkeys(replaced(settings)), **settings}
        return replace(self, **changes)

    def filled(self, saved: Config) -> Config:
        """These settings with those left open, or `auto`, taken from a resolved configuration."""
        left_open = [f.name for f in fields(self) if getattr(self, f.name) in (None, "auto")]
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_open}
        kept = [name for name in left_open if name not in replaced(chosen)]
        return replace(self, **{name: getattr(saved, name) for name in kept})

    def differences(self, other: Config) -> dict[str, tuple[Any, Any]]:
        """The settings in which `other` differs: name -> (this one's, the other's)."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def write_toml(self) -> str:
        """The settings as TOML, without those left open."""
        settings = {k: v for k, v in asdict(self).items() if v is not None}
        return tomli_w.dumps(settings | {"hidden": list(self.hidden)})


def default_beta(image_shape: Shape) -> float:
    """4 at 64x64, as Higgins et al. chose for the 2D shapes; 1 for smaller images.

    An image of few pixels is worth few nats, and a β of 4 leaves none of them in the code.
    """
    return 4.0 if prod(image_shape[1:]) >= 64 * 64 else 1.0


def flag(name: str) -> str:
    """How a setting is spelled on the command line."""
    return "--" + name.replace("_", "-") if name != "data" else "DATA"


def replaced(settings: Mapping[str, Any]) -> list[str]:
    """The settings that these replace without being them: β for β_norm, steps for epochs."""
    return [other for one, other in _EITHER if one in settings and other not in settings]


def read_toml(text: str, source: str) -> dict[str, Any]:
    """The settings in a TOML text; `source` names it in errors."""
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not valid TOML: {error}") from None
    return checked_names(settings, source)


def checked_names(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The settings, when each is one that exists."""
    known = [f.name for f in fields(Config)]
    for name in settings:
        if name not in known:
            raise UsageError(f"{source}: unknown setting {name!r}; there are {', '.join(known)}")
    return dict(settings)


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's, and any sequence of numbers as a tuple."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and abs(value) <= float_info.max


def _one_of(*names: str, custom: bool = False) -> tuple[Callable[[Any], bool], str]:
    accepted = (*names, CUSTOM) if custom else names
    return lambda value: value in accepted, f"one of {', '.join(names)}"


_WHOLE = (_is_int, "a whole number")
_FINITE = (_is_number, "a finite number")
_COUNT = (lambda value: value >= 1, ">= 1")
_NOT_NEGATIVE = (lambda value: value >= 0, ">= 0")
_POSITIVE = (lambda value: value > 0, "> 0")
_WIDTHS = (
    lambda value: isinstance(value, tuple) and all(_is_int(w) and w >= 1 for w in value),
    "widths >= 1",
)
_TEXT = (lambda value: isinstance(value, str) and value != "", "a data set's name or a path")
_NAMES = (lambda value: isinstance(value, str) and value != "", "classes, as A-D or a,z")

_EITHER = (("beta_norm", "beta"), ("beta", "beta_norm"), ("epochs", "steps"), ("steps", "epochs"))
_OPTIONAL = {
    "classes",
    "beta",
    "beta_norm",
    "capacity_steps",
    "checkpoint_every",
    "arch",
    "steps",
    "epochs",
    *TARGETS.values(),
}
_INVARIANTS: dict[str, tuple[tuple[Callable[[Any], bool], str], ...]] = {
    "data": (_TEXT,),
    "classes": (_NAMES,),
    "objective": (_one_of("beta", "capacity", *TARGETS, custom=True),),
    "beta": (_FINITE, _NOT_NEGATIVE),
    "beta_norm": (_FINITE, _NOT_NEGATIVE),
    "gamma": (_FINITE, _NOT_NEGATIVE),
    "capacity_max": (_FINITE, _NOT_NEGATIVE),
    "capacity_steps": (_WHOLE, _COUNT),
    "target_kl": (_FINITE, _POSITIVE),
    "target_recon": (_FINITE, (lambda value: value != 0, "a number of nats other than 0")),
    "arch": (_one_of(*ARCHITECTURES, custom=True),),
    "hidden": (_WIDTHS,),
    "init": (_one_of("lecun", "pytorch"),),
    "latent_dim": (_WHOLE, _COUNT),
    "likelihood": (_one_of("bernoulli", "gaussian"),),
    "sigma": (_FINITE, _POSITIVE),
    "steps": (_WHOLE, _COUNT),
    "epochs": (_FINITE, _POSITIVE),
    "batch_size": (_WHOLE, _COUNT),
    "lr": (_FINITE, _POSITIVE),
    "optimizer": (_one_of("adam", "adagrad"),),
    "precision": (_one_of("auto", "fp32", "bf16"),),
    "fp32_steps": (_WHOLE, _NOT_NEGATIVE),
    "device": (_one_of("auto", "cpu", "cuda"),),
    "backend": (_one_of("auto", "torch", "triton", "c"),),
    "seed": (_WHOLE, _NOT_NEGATIVE, (lambda value: value < 2**63, "< 2^63")),
    "log_every": (_WHOLE, _COUNT),
    "checkpoint_every": (_WHOLE, _COUNT),
}
