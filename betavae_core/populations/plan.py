"""What a sweep trains: settings times seeds. Known before the first step, and written down.

Along an axis one setting varies. A sweep varies β, or β_norm, or γ and C together; every
combination with every seed is one run, and all else is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from betavae_core import architectures
from betavae_core.config import Config, checked_names, flag
from betavae_core.data import canonical
from betavae_core.data.dataset import Dataset
from betavae_core.data.split import split
from betavae_core.errors import DataError, UsageError
from betavae_core.hardware import choose_device, choose_precision
from betavae_core.ops import backend
from betavae_core.runs import images_of
from betavae_core.storage import read_json

Values = Sequence[float | str]  # of an axis, as they are given
Axes = Mapping[str, tuple[float, ...]]  # a setting -> the values that it takes

BETAS = (1.0, 2.0, 4.0, 8.0, 16.0)
SEEDS = 3
OPTIONS = {
    "beta": "--betas",
    "beta_norm": "--beta-norms",
    "gamma": "--gammas",
    "capacity_max": "--capacities",
}
SYMBOLS = {"beta": "β", "beta_norm": "β_norm", "gamma": "γ", "capacity_max": "C"}
CAPACITY = ("gamma", "capacity_max")


@dataclass(frozen=True)
class Job:
    """One run of a sweep: the name of its folder, its setting in words, and all its settings."""

    label: str
    setting: str
    config: Config


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep: `config` is what they share, `factors` whether they can measure it."""

    config: Config
    axes: Axes
    seeds: int
    factors: bool

    @property
    def jobs(self) -> list[Job]:
        """Every run, setting by setting."""
        seeds = range(self.config.seed, self.config.seed + self.seeds)
        points = product(*self.axes.values())
        settings = [dict(zip(self.axes, point, strict=True)) for point in points]
        return [self._job(setting, seed) for setting in settings for seed in seeds]

    def _job(self, values: dict[str, float], seed: int) -> Job:
        stem = "-".join(f"{name.replace('_', '-')}-{v:.12g}" for name, v in values.items())
        setting = ", ".join(f"{SYMBOLS[name]} = {v:.12g}" for name, v in values.items())
        settings: dict[str, Any] = {**values, "seed": seed}
        return Job(f"{stem}-seed-{seed}", setting, replace(self.config, **settings))

    def to_json(self) -> dict[str, Any]:
        """The contents of plan.json."""
        axes = {name: list(values) for name, values in self.axes.items()}
        settings = asdict(self.config)
        return {"axes": axes, "seeds": self.seeds, "factors": self.factors, "settings": settings}


def read_plan(path: Path) -> Plan | None:
    """The plan in a file, None where there is no such file. Raises DataError for a damaged one."""
    kinds = {"axes": dict, "seeds": int, "factors": bool, "settings": dict}
    content = read_json(path, kinds)
    if content is None:
        return None
    try:
        axes = {name: tuple(map(float, values)) for name, values in content["axes"].items()}
        return Plan(Config(**content["settings"]), axes, content["seeds"], content["factors"])
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}") from None


def make_plan(
    config: Config | Mapping[str, Any] | None,
    values: Mapping[str, Values | None],
    seeds: int | None,
    saved: Plan | None,
) -> Plan:
    """The plan with nothing left open; `values` are those of each axis, or None.

    What is not given is as in the `saved` plan of a sweep to go on with, else the default.
    Raises UsageError for what cannot be trained, and for a plan that is not the saved one.
    """
    if not isinstance(config, Config):
        settings = checked_names(config or {}, "sweep")
        config = (saved.config if saved else Config()).updated(settings)
    elif saved:
        config = config.filled(saved.config)
    before = saved.axes if saved else {}
    axes = _choose_axes(values, config, before) or before or {"beta": BETAS}
    seeds = seeds if seeds is not None else saved.seeds if saved else SEEDS
    if not is_count(seeds):
        raise UsageError(f"--seeds must be a whole number >= 1, got {seeds!r}")
    if saved and config == saved.config:  # so the data are not needed
        plan = replace(saved, axes=axes, seeds=seeds)
    else:
        plan = _settle(config, axes, seeds)
    if saved:
        _require_same(saved, plan)
    return plan


def is_count(value: Any) -> bool:
    """Whether `value` is a whole number of at least one."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _choose_axes(values: Mapping[str, Values | None], config: Config, before: Axes) -> Axes:
    """The axes among `values`, of which those not given are None.

    Where only one of γ and C is given the other stays as `before`, else at that of `config`.
    Raises UsageError for axes that exclude each other, and as `_numbers` does.
    """
    axes = {name: _numbers(name, given) for name, given in values.items() if given is not None}
    if len(axes) > 1 and set(axes) != set(CAPACITY):
        given = ", ".join(OPTIONS[name] for name in axes)
        raise UsageError(f"give --betas, --beta-norms, or --gammas with --capacities, not {given}")
    if axes and set(axes) <= set(CAPACITY):
        kept = {name: before.get(name, (float(getattr(config, name)),)) for name in CAPACITY}
        return {**kept, **axes}
    return axes


def _numbers(name: str, values: Values) -> tuple[float, ...]:
    """The values of an axis. Raises UsageError for none, for no numbers, and for one twice."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or len({f"{number:.12g}" for number in numbers}) < len(numbers):
        raise UsageError(f"{OPTIONS[name]} must be different numbers, got {values!r}")
    return numbers


def _settle(config: Config, axes: Axes, seeds: int) -> Plan:
    """The plan with everything chosen that depends on the data and the machine."""
    objective = "capacity" if set(axes) <= set(CAPACITY) else "beta"
    if config.objective not in ("beta", objective):
        raise UsageError(
            f"--objective {config.objective} has no β to vary; give --gammas or --capacities"
        )
    dataset, device = images_of(config), choose_device(config.device)
    backend.require(config.backend, device)
    shape, precision = dataset.image_shape, choose_precision(config.precision, device)
    open_settings: dict[str, Any] = {"beta": None, "beta_norm": None, "objective": objective}
    config = replace(config, data=canonical(config.data), **open_settings)
    config = config.resolve(shape, len(split(dataset)[0]), device, precision)
    architectures.build(str(config.arch), shape, config.latent_dim, config.hidden)  # or an error
    return Plan(_neutral(config, axes), axes, seeds, has_factors(dataset, config.latent_dim))


def has_factors(dataset: Dataset, latent_dim: int) -> bool:
    """Whether factors can be compared with latents: they vary, and there are two latents."""
    return latent_dim > 1 and dataset.varies


def _neutral(config: Config, axes: Axes) -> Config:
    """The same without what the axes set, once it is known that each value can be set."""
    for name, values in axes.items():
        for value in values:
            settings: dict[str, Any] = {"beta": None, name: value}
            replace(config, **settings)
    defaults = Config()
    varied = {name: getattr(defaults, name) for name in ("beta", "beta_norm", *axes)}
    return replace(config, **varied)


def _require_same(saved: Plan, plan: Plan) -> None:
    """Raise UsageError, which names a difference, unless the plans are equal."""
    pairs = {flag(name): pair for name, pair in saved.config.differences(plan.config).items()}
    pairs["--seeds"] = saved.seeds, plan.seeds
    for name in {**saved.axes, **plan.axes}:
        pairs[OPTIONS[name]] = saved.axes.get(name), plan.axes.get(name)
    for option, (before, now) in pairs.items():
        if before != now:
            raise UsageError(
                f"--resume goes on with the plan of the sweep in --out, but {option} was "
                f"{before!r} and is now {now!r}; leave it out, or start a new sweep in another "
                "--out"
            )
