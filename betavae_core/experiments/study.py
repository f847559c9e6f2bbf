"""What an experiment works with: its folder, its size, and models trained or found trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from betavae_core import figures
from betavae_core.config import Config
from betavae_core.data.dataset import Dataset
from betavae_core.errors import DataError
from betavae_core.runs import Run, images_of, make_model
from betavae_core.settings import read_preset
from betavae_core.trainer import Progress
from betavae_core.training import train


@dataclass(frozen=True)
class Experiment:
    """A published experiment.

    `run` does it and returns the rows of its table; `needs_data` says what --data must be, for
    images that are not drawn here. The paper's settings are the preset of its name, or `preset`.
    """

    name: str
    shows: str
    run: Callable[[Study], list[dict[str, Any]]]
    needs_data: str | None = None
    preset: str | None = None


@dataclass
class Study:
    """One execution of an experiment."""

    preset: str
    out: Path
    quick: bool
    data: str | None
    classes: str | None
    device: str
    seed: int
    progress: Progress
    notes: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def dataset(self) -> Dataset:
        """The images of --data, or the preset's; of labelled ones the chosen classes."""
        return images_of(self._config())

    def with_factors(self, *names: str) -> Dataset:
        """The same, with these factors or, where none is named, with any that varies.

        Raises DataError for data without them, so that nothing is trained in vain.
        """
        images = self.dataset()
        there = images.factor_names
        if not images.varies or not set(names) <= set(there):
            wanted = f"the factors {' and '.join(names)}" if names else "factors that vary"
            raise DataError(
                f"this experiment needs data with {wanted}, as {read_preset(self.preset)['data']} "
                f"has; {images.name} has {', '.join(there) or 'no factors'}"
            )
        return images

    def untrained(self, run: Run) -> Run:
        """The same run before its first step."""
        model = make_model(run.config, run.model.image_shape, run.model.levels)
        return replace(run, model=model.eval())

    def train(self, label: str, **settings: Any) -> Run:
        """The model of these settings, trained now or found in OUT/runs/LABEL and finished."""
        path = self.out / "runs" / label
        again = (path / "config.toml").is_file()
        config = self._config(**settings)
        return train(config, out=path, resume=again, progress=self.told(label))

    def told(self, label: str) -> Progress:
        """A listener to the training called `label`, for the study's own."""
        return lambda step, steps, row: self.progress(step, steps, row | {"run": label})

    def _config(self, **settings: Any) -> Config:
        """The paper's settings, replaced by those of the command, replaced by `settings`."""
        given = {"data": self.data, "classes": self.classes}
        own = {"device": self.device, "seed": self.seed}
        own |= {name: value for name, value in given.items() if value is not None}
        return Config(**read_preset(self.preset)).updated(own | settings)

    def draw(self, name: str, figure: Figure) -> None:
        """Save a picture of the experiment."""
        self.figures.append(str(figures.save(figure, self.out / "figures" / f"{name}.png")))

    def note(self, sentence: str) -> None:
        """Say something of the result that the table cannot."""
        self.notes.append(sentence)
