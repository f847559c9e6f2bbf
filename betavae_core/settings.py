"""The settings of a command: a preset's, replaced by a file's, replaced by the options given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from betavae_core.config import TARGETS, Config, flag, read_toml, replaced
from betavae_core.errors import UsageError

# option -> the setting without which it does nothing, and its value
_USES = {
    "gamma": ("objective", "capacity"),
    "capacity_max": ("objective", "capacity"),
    "sigma": ("likelihood", "gaussian"),
}


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among a command's options that were given; `hidden` is text, as 512,256."""
    names = {f.name for f in fields(Config)}
    settings = {k: v for k, v in options.items() if k in names and v is not None}
    if "beta" in settings:
        settings |= _beta(settings.pop("beta"), settings)
    if "hidden" in settings:
        widths = settings["hidden"].split(",")
        settings["hidden"] = tuple(int(w) if w.strip().isdecimal() else w for w in widths)
    return settings


def _beta(text: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that `--beta` stands for: a number, or for `auto` what holds the target."""
    if text != "auto":
        try:
            return {"beta": float(text)}
        except ValueError:
            raise UsageError(f"--beta must be a number or auto, got {text!r}") from None
    held = [objective for objective, target in TARGETS.items() if target in settings]
    if len(held) != 1 or "objective" in settings:
        raise UsageError(
            "--beta auto needs one of --target-kl and --target-recon, and no --objective"
        )
    return {"objective": held[0]}


def gather(preset: str | None, file: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a command. Raises UsageError for an option that would do nothing."""
    settings = read_preset(preset) if preset is not None else {}
    for newer in (read_config_file(file) if file is not None else {}, options):
        kept = {k: v for k, v in settings.items() if k not in replaced(newer)}
        settings = kept | dict(newer)
    for name in _USES.keys() & options.keys():
        other, value = _USES[name]
        if settings.get(other, getattr(Config(), other)) != value:
            raise UsageError(f"{flag(name)} does nothing without {flag(other)} {value}")
    return settings


def read_config_file(path: Path) -> dict[str, Any]:
    """The settings in the file of `--config`."""
    try:
        return read_toml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config must be a readable TOML file, got {path}: {error}") from None


def read_preset(name: str) -> dict[str, Any]:
    """The settings of a published experiment, by the name of its file in `presets/`."""
    folder = resources.files("betavae_core") / "presets"
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())
    if name not in names:
        raise UsageError(f"--preset must be one of {', '.join(names)}, got {name!r}")
    return read_toml((folder / f"{name}.toml").read_text(encoding="utf-8"), f"preset {name}")
