"""Settings: validated once, by name; written and read back the same; and who overrides whom."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from betavae_core import Config, UsageError, architectures, data
from betavae_core.config import read_toml
from betavae_core.options import PRESETS
from betavae_core.settings import gather, read_preset

MNIST = (1, 28, 28)
NAN, INF = float("nan"), float("inf")

REFUSED: list[tuple[str, Any, str]] = [
    ("data", "", "DATA must be a data set's name or a path, got ''"),
    ("objective", "vae", "--objective must be one of beta, capacity, controlvae, geco, got 'vae'"),
    ("classes", "", "--classes must be classes, as A-D or a,z, got ''"),
    ("init", "he", "--init must be one of lecun, pytorch, got 'he'"),
    ("beta", -1.0, "--beta must be >= 0, got -1.0"),
    ("beta", NAN, "--beta must be a finite number, got nan"),
    ("beta", INF, "--beta must be a finite number, got inf"),
    ("beta", "4", "--beta must be a finite number, got '4'"),
    ("beta", True, "--beta must be a finite number, got True"),
    ("beta_norm", -1.0, "--beta-norm must be >= 0, got -1.0"),
    ("gamma", -1.0, "--gamma must be >= 0, got -1.0"),
    ("capacity_max", -1.0, "--capacity-max must be >= 0, got -1.0"),
    ("capacity_steps", 0, "--capacity-steps must be >= 1, got 0"),
    ("target_kl", 0.0, "--target-kl must be > 0, got 0.0"),
    ("target_recon", 0.0, "--target-recon must be a number of nats other than 0, got 0.0"),
    ("arch", "resnet", "--arch must be one of higgins-mlp, higgins-conv, burgess-conv, mlp"),
    ("hidden", (512, 0), "--hidden must be widths >= 1, got (512, 0)"),
    ("hidden", ("a",), "--hidden must be widths >= 1, got ('a',)"),
    ("hidden", 512, "--hidden must be widths >= 1, got 512"),
    ("latent_dim", 0, "--latent-dim must be >= 1, got 0"),
    ("latent_dim", 2.5, "--latent-dim must be a whole number, got 2.5"),
    ("latent_dim", True, "--latent-dim must be a whole number, got True"),
    ("likelihood", "poisson", "--likelihood must be one of bernoulli, gaussian, got 'poisson'"),
    ("sigma", 0.0, "--sigma must be > 0, got 0.0"),
    ("steps", 0, "--steps must be >= 1, got 0"),
    ("epochs", 0.0, "--epochs must be > 0, got 0.0"),
    ("epochs", INF, "--epochs must be a finite number, got inf"),
    ("batch_size", 0, "--batch-size must be >= 1, got 0"),
    ("lr", INF, "--lr must be a finite number, got inf"),
    ("lr", 0.0, "--lr must be > 0, got 0.0"),
    ("optimizer", "sgd", "--optimizer must be one of adam, adagrad, got 'sgd'"),
    ("fp32_steps", -1, "--fp32-steps must be >= 0, got -1"),
    ("precision", "fp16", "--precision must be one of auto, fp32, bf16, got 'fp16'"),
    ("device", "tpu", "--device must be one of auto, cpu, cuda, got 'tpu'"),
    ("backend", "jax", "--backend must be one of auto, torch, triton, c, got 'jax'"),
    ("seed", -1, "--seed must be >= 0, got -1"),
    ("seed", 2**63, f"--seed must be < 2^63, got {2**63}"),
    ("log_every", 0, "--log-every must be >= 1, got 0"),
    ("checkpoint_every", 0, "--checkpoint-every must be >= 1, got 0"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_a_broken_invariant_is_named_with_what_was_received(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        Config(**{name: value})


def test_every_setting_has_an_invariant_that_is_tested() -> None:
    assert {name for name, _, _ in REFUSED} == {field.name for field in fields(Config)}


@pytest.mark.parametrize("name", ["likelihood", "optimizer", "precision", "device", "backend"])
def test_custom_names_only_what_a_user_can_pass(name: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} must be one of"):
        Config(**{name: "custom"})


def test_a_number_too_large_for_a_float_is_no_finite_number() -> None:
    with pytest.raises(UsageError, match="--beta must be a finite number"):
        Config(beta=10**400)


def test_numbers_of_numpy_are_numbers() -> None:
    config = Config(beta=np.float32(4), steps=np.int64(7), hidden=[np.int32(8)])
    assert (config.beta, config.steps, config.hidden) == (4.0, 7, (8,))
    assert type(config.steps) is int
    assert "steps = 7" in config.write_toml()


@pytest.mark.parametrize("target", ["target_kl", "target_recon"])
def test_a_target_that_nothing_would_hold_is_refused(target: str) -> None:
    name = f"--{target.replace('_', '-')}"
    for objective in ("beta", "capacity"):
        with pytest.raises(UsageError, match=f"{name} needs --beta auto, or --objective"):
            Config(objective=objective, **{target: 5.0})


@pytest.mark.parametrize(
    "both", [{"beta": 1.0, "beta_norm": 1.0}, {"steps": 1, "epochs": 1.0}], ids=str
)
def test_two_settings_that_exclude_each_other_are_refused(both: dict[str, Any]) -> None:
    one, other = (f"--{name.replace('_', '-')}" for name in both)
    with pytest.raises(UsageError) as caught:
        Config(**both)
    assert one in str(caught.value)
    assert other in str(caught.value)
    assert "not both" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"data": 'C:\\a "quoted" β\n', "beta": 0.1 + 0.2, "lr": 5e-324, "hidden": ()},
        {"seed": 2**63 - 1, "beta": 0.0, "steps": 10**12, "sigma": 1e300, "hidden": (7, 5, 3)},
        {"objective": "custom", "arch": "custom", "epochs": 1.5, "beta_norm": 1e-3},
    ],
)
def test_settings_survive_toml_bit_for_bit(settings: dict[str, Any]) -> None:
    config = Config(**settings)
    assert Config(**read_toml(config.write_toml(), "here")) == config


def test_a_resolved_configuration_leaves_nothing_open_but_the_alternatives() -> None:
    resolved = Config().resolve(MNIST, 9000, "cpu", "fp32")
    left = [f.name for f in fields(Config) if getattr(resolved, f.name) is None]
    assert left == ["classes", "beta_norm", "target_kl", "target_recon", "epochs"]
    assert resolved.resolve(MNIST, 9000, "cpu", "fp32") == resolved
    assert (resolved.device, resolved.precision) == ("cpu", "fp32")


@pytest.mark.parametrize(
    ("epochs", "images", "batch", "steps"),
    [(20, 9000, 128, 1407), (1, 128, 128, 1), (1, 129, 128, 2), (0.5, 9, 2, 3), (1e-9, 9, 2, 1)],
)
def test_epochs_are_the_ceiling_of_e_n_over_b(
    epochs: float, images: int, batch: int, steps: int
) -> None:
    config = Config(epochs=epochs, batch_size=batch)
    assert config.resolve(MNIST, images, "cpu", "fp32").steps == steps


def test_a_rounding_error_in_the_epochs_adds_no_step() -> None:
    assert 1.1 * 100 / 10 > 11  # in floating point
    assert Config(epochs=1.1, batch_size=10).resolve(MNIST, 100, "cpu", "fp32").steps == 11


def test_beta_norm_is_beta_m_over_n() -> None:
    by_norm = Config(beta_norm=0.05, latent_dim=20).resolve(MNIST, 10, "cpu", "fp32")
    assert by_norm.beta == pytest.approx(0.05 * 784 / 20, rel=1e-15)
    assert by_norm.norm_of(by_norm.beta, MNIST) == pytest.approx(0.05, rel=1e-15)
    colour = Config(beta=4.0, latent_dim=32).resolve((3, 64, 64), 10, "cpu", "fp32")
    assert colour.norm_of(colour.beta, (3, 64, 64)) == 4 * 32 / (3 * 64 * 64)


@pytest.mark.parametrize(("size", "arch", "beta"), [(64, "burgess-conv", 4.0), (28, "mlp", 1.0)])
def test_the_defaults_follow_the_size_of_the_images(size: int, arch: str, beta: float) -> None:
    resolved = Config().resolve((1, size, size), 10, "cpu", "fp32")
    assert (resolved.arch, resolved.beta) == (arch, beta)


def test_a_beta_of_zero_is_no_beta_left_open() -> None:
    assert Config(beta=0.0).resolve((1, 64, 64), 10, "cpu", "fp32").beta == 0.0
    assert Config(beta_norm=0.0).resolve((1, 64, 64), 10, "cpu", "fp32").beta == 0.0


def test_capacity_rises_over_the_whole_run_unless_told() -> None:
    config = Config(objective="capacity", steps=500)
    assert config.resolve(MNIST, 10, "cpu", "fp32").capacity_steps == 500


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_real_settings_and_a_model_that_can_be_built(name: str) -> None:
    config = Config(**read_preset(name)).resolve((1, 64, 64), 737_280, "cpu", "fp32")
    assert config.data in {source.name for source in data.sources()}
    plan = architectures.build(str(config.arch), (1, 64, 64), config.latent_dim)
    assert plan.encoder[-1][-1] == 2 * config.latent_dim


def test_an_unknown_preset_is_told_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        read_preset("nosuch")
    assert str(caught.value) == f"--preset must be one of {', '.join(PRESETS)}, got 'nosuch'"


def test_options_override_the_file_that_overrides_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("lr = 2e-3\nlatent_dim = 7\n")
    settings = gather("higgins-shapes", file, {"latent_dim": 9})
    assert settings["latent_dim"] == 9
    assert settings["lr"] == 2e-3
    assert settings["optimizer"] == "adagrad"
    assert Config(**settings).batch_size == 64


@pytest.mark.parametrize(
    ("newer", "gone"), [({"beta_norm": 0.1}, "beta"), ({"epochs": 1.0}, "steps")], ids=str
)
def test_an_option_replaces_its_alternative_in_the_preset(
    newer: dict[str, float], gone: str
) -> None:
    settings = gather("locatello-shapes", None, newer)
    assert gone in read_preset("locatello-shapes")
    assert gone not in settings
    Config(**settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("betta = 4.0", "unknown setting 'betta'; there are data, classes, objective"),
        ("beta = ", "is not valid TOML"),
        ("[train]\nbeta = 4.0", "unknown setting 'train'"),
    ],
)
def test_a_bad_file_of_settings_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        gather(None, file, {})
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", "folder"])
def test_a_file_of_settings_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | str | None
) -> None:
    file = tmp_path / "settings.toml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.mkdir()
    with pytest.raises(UsageError, match=r"--config must be .*settings\.toml"):
        gather(None, file, {})


def test_settings_left_open_are_those_of_the_run_that_goes_on() -> None:
    saved = Config(beta=4.0).resolve((1, 8, 8), 100, "cpu", "fp32")
    longer = Config(steps=9_000).filled(saved)
    assert (longer.steps, longer.beta, longer.capacity_steps) == (9_000, 4.0, saved.steps)
    by_epochs = Config(epochs=3, beta_norm=0.1).filled(saved)
    assert (by_epochs.steps, by_epochs.beta) == (None, None)


@pytest.mark.parametrize(
    ("option", "needed"),
    [
        ({"gamma": 3.0}, {"objective": "capacity"}),
        ({"capacity_max": 3.0}, {"objective": "capacity"}),
        ({"sigma": 0.2}, {"likelihood": "gaussian"}),
    ],
    ids=str,
)
def test_an_option_that_would_do_nothing_is_refused(
    option: dict[str, Any], needed: dict[str, Any]
) -> None:
    [(name, value)] = needed.items()
    with pytest.raises(UsageError, match=f"does nothing without --{name} {value}$"):
        gather(None, None, option)
    assert gather(None, None, option | needed) == option | needed


def test_what_a_preset_sets_may_do_nothing() -> None:
    assert "gamma" in gather("burgess-shapes", None, {"objective": "beta"})
