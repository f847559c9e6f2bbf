"""`--help` says every default and every name that can be given, and does not wait for torch."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import resources
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from betavae_core import Config, UsageError, experiments, gallery, metrics, options
from betavae_core.architectures import default_name
from betavae_core.bench import report
from betavae_core.cli import app
from betavae_core.config import DEFAULT_CHECKPOINT_EVERY, DEFAULT_STEPS, default_beta
from betavae_core.metrics.protocols import PROTOCOLS
from betavae_core.populations import plan, together

# The default of a setting, and the value that it is to have at that size of images.
BY_SIZE: tuple[tuple[str, Any, Any], ...] = (
    ("by the size of the images: 4 at 64×64 pixels or more, else 1", 4, 1),
    ("by the size of the images: burgess-conv at 64×64 pixels, else mlp", "burgess-conv", "mlp"),
)


def parameters(command: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every parameter of every verb, with the verb."""
    command = command or get_command(app)
    yield from ((path, parameter) for parameter in command.params if parameter.name != "help")
    for name, inner in getattr(command, "commands", {}).items():
        yield from parameters(inner, f"{path} {name}".strip())


def says(verb: str, name: str) -> str:
    """The help of one parameter."""
    (text,) = [p.help for v, p in parameters() if (v, p.name) == (verb, name)]
    return str(text)


def shown(verb: str) -> str:
    """The help of a verb as it is printed, where lines are long enough."""
    arguments = [*verb.split(), "--help"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "600", "NO_COLOR": "1"})
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("verb", sorted({verb for verb, _ in parameters()}))
def test_nothing_of_a_help_text_is_lost_when_it_is_printed(verb: str) -> None:
    printed = shown(verb)
    for text in [parameter.help for owner, parameter in parameters() if owner == verb]:
        assert re.fullmatch(r"[^\[\]]+[^ ]\.", text), text
        assert text in printed
    assert "[default" not in printed
    assert not re.search(r" \.\W", printed)


def test_a_default_that_the_parser_fills_in_is_said() -> None:
    given = [(v, p) for v, p in parameters() if not isinstance(p.default, bool | None)]
    assert len(given) >= 6
    for verb, parameter in given:
        default = parameter.default
        text = f"{default:g}" if isinstance(default, float) else default
        assert f"(default: {text})" in parameter.help, (verb, parameter.name)


@pytest.mark.parametrize("verb", ["train", "sweep"])
def test_the_default_of_every_setting_is_that_of_the_library(verb: str) -> None:
    there = {p.name: p.help for v, p in parameters() if v == verb}
    checked = 0
    for field in fields(Config):
        if field.default is None or field.name not in there:
            continue
        text = {"hidden": "512,256", "lr": "0.001"}.get(field.name)
        number = isinstance(field.default, float)
        text = text or (f"{field.default:g}" if number else str(field.default))
        assert f"(default: {text})" in there[field.name]
        checked += 1
    assert checked > 10
    assert (Config().hidden, Config().lr) == ((512, 256), 1e-3)


def test_what_is_chosen_later_is_said_with_what_it_is_chosen_by() -> None:
    for name, values in (("steps", DEFAULT_STEPS), ("checkpoint_every", DEFAULT_CHECKPOINT_EVERY)):
        text = f"(default: {values['cpu']:,} on a CPU, {values['cuda']:,} on a GPU)"
        assert text in says("train", name)
    for name, choose, (text, large, small) in zip(
        ("beta", "arch"), (default_beta, default_name), BY_SIZE, strict=True
    ):
        assert f"(default: {text})" in says("train", name)
        assert (choose((1, 64, 64)), choose((1, 63, 64))) == (large, small)
    assert "(default: the whole run)" in says("train", "capacity_steps")


def test_the_defaults_of_a_sweep_are_those_of_its_plan() -> None:
    betas = ",".join(f"{beta:g}" for beta in plan.BETAS)
    assert f"(default: {betas})" in says("sweep", "betas")
    assert f"(default: {plan.SEEDS})" in says("sweep", "seeds")
    assert f"{together.MODELS} on a GPU" in says("sweep", "workers")


def presets() -> list[str]:
    folder = resources.files("betavae_core") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())


NAMES = {
    ("plot", "kind"): lambda: list(gallery.KINDS),
    ("plot", "form"): lambda: list(gallery.FORMS),
    ("reproduce", "name"): lambda: [experiment.name for experiment in experiments.experiments()],
    ("train", "preset"): presets,
    ("sweep", "preset"): presets,
    ("evaluate", "metric"): lambda: metrics.names("dlib"),
    ("evaluate", "protocol"): lambda: list(PROTOCOLS),
    ("bench", "suite"): lambda: list(report.SUITES),
}
LISTS = {
    "kind": options.KINDS,
    "name": options.EXPERIMENTS,
    "preset": options.PRESETS,
    "metric": options.METRICS,
    "protocol": options.PROTOCOLS,
    "suite": options.SUITES,
}


@pytest.mark.parametrize(("verb", "name"), NAMES)
def test_the_names_that_can_be_given_are_listed(verb: str, name: str) -> None:
    names = NAMES[verb, name]()
    assert list(LISTS.get(name, names)) == names
    for one in names:
        assert re.search(rf"\b{re.escape(one)}\b", says(verb, name)), one


def test_every_protocol_has_the_metrics_that_are_listed() -> None:
    assert {name for protocol in PROTOCOLS for name in metrics.names(protocol)} == set(
        options.METRICS
    )


def test_the_values_of_a_setting_are_those_that_it_may_have() -> None:
    seen = set()
    for name in (field.name for field in fields(Config)):
        try:
            Config(**{name: "no such value"})
        except UsageError as error:
            if "must be one of" in str(error):
                values = str(error).partition("must be one of ")[2].rpartition(", got")[0]
                assert all(re.search(rf"\b{v}\b", says("train", name)) for v in values.split(", "))
                seen.add(name)
    assert seen >= {"objective", "arch", "init", "likelihood", "optimizer", "precision", "backend"}


def test_help_waits_for_no_large_library() -> None:
    heavy = "{'torch', 'matplotlib', 'sklearn', 'scipy', 'numpy'}"
    code = f"import sys, betavae_core.cli\nprint({heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr
