"""The options of the command line that several verbs share, and the names that its help lists.

`--help` must not wait for torch, so the names that the library gives to its pictures, metrics and
experiments are written out here; a test compares them. The defaults are those of `Config`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from typer import Argument, Option

from betavae_core import config as settings

Text: TypeAlias = str | None
Number: TypeAlias = float | None
Count: TypeAlias = int | None
Folder: TypeAlias = Path | None

PRESETS = (
    "burgess-blobs",
    "burgess-shapes",
    "celeba-z32",
    "higgins-celeba",
    "higgins-chairs",
    "higgins-faces",
    "higgins-shapes",
    "kathiriya-mnist",
    "levy-emnist",
    "locatello-shapes",
)
EXPERIMENTS = (
    "higgins-table",
    "higgins-shapes",
    "higgins-faces",
    "higgins-chairs",
    "higgins-celeba",
    "celeba-z32",
    "burgess-capacity",
    "burgess-blobs",
    "latent-size",
    "levy-emnist",
    "kathiriya-mnist",
)
KINDS = (
    "reconstructions",
    "traversals",
    "interpolation",
    "samples",
    "manifold",
    "embedding",
    "factors",
    "kl",
    "training",
)
PROTOCOLS = ("dlib", "fast", "original", "higgins2017")
METRICS = (
    "higgins",
    "factorvae",
    "mig",
    "dci_disentanglement",
    "dci_completeness",
    "dci_informativeness",
    "sap",
    "modularity",
    "explicitness",
    "irs",
    "infom",
    "infoc",
    "infoe",
)
SUITES = ("ops", "step", "populations", "growth")


def listed(names: Sequence[str]) -> str:
    """a, b or c."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def option(says: str, default: object = None, *names: str) -> Any:
    """An option whose help ends with its default, in parentheses: rich reads brackets as markup."""
    ending = "" if default is None else f" (default: {default})"
    return Option(*names, help=f"{says}{ending}.", show_default=False)


def _by_device(values: Mapping[str, int]) -> str:
    return f"{values['cpu']:,} on a CPU, {values['cuda']:,} on a GPU"


_CHOSEN_LATER = {
    "classes": "all",
    "beta": "by the size of the images: 4 at 64×64 pixels or more, else 1",
    "capacity_steps": "the whole run",
    "arch": "by the size of the images: burgess-conv at 64×64 pixels, else mlp",
    "steps": _by_device(settings.DEFAULT_STEPS),
    "checkpoint_every": _by_device(settings.DEFAULT_CHECKPOINT_EVERY),
}


def default_of(name: str) -> str | None:
    """The default of a setting as it is typed, or by what it is chosen; None where by nothing."""
    default = getattr(settings.Config(), name)
    if default is None:
        return _CHOSEN_LATER.get(name)
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _setting(name: str, says: str) -> Any:
    return option(says, default_of(name))


DATA = "A data set's name, as `data list` shows them, or a path"

Data = Annotated[
    Text,
    Argument(metavar="DATA", help=f"{DATA} (default: {default_of('data')}).", show_default=False),
]
Preset = Annotated[
    Text, option(f"Start from the settings of a published experiment: {listed(PRESETS)}")
]
Config = Annotated[
    Folder,
    option(
        "Start from the settings in a TOML file, such as a run's config.toml; they override the "
        "preset's"
    ),
]
Objective = Annotated[
    Text, _setting("objective", "What is minimised: beta, capacity, controlvae or geco")
]
Beta = Annotated[
    Text,
    _setting(
        "beta",
        "Weight of the KL: 0 for an autoencoder, 1 for the VAE; auto adjusts it during training, "
        "to hold --target-kl or --target-recon",
    ),
]
TargetKl = Annotated[Number, _setting("target_kl", "The KL, in nats, that --beta auto holds")]
TargetRecon = Annotated[
    Number, _setting("target_recon", "The recon_nll, in nats, that --beta auto holds instead")
]
BetaNorm = Annotated[
    Number,
    _setting("beta_norm", "β·M/N, with M latents and N values in an image; instead of --beta"),
]
Gamma = Annotated[Number, _setting("gamma", "Weight of |KL - C| under --objective capacity")]
CapacityMax = Annotated[
    Number, _setting("capacity_max", "The capacity C at the end of its rise, in nats")
]
CapacitySteps = Annotated[
    Count, _setting("capacity_steps", "Steps over which the capacity C rises from 0")
]
Arch = Annotated[
    Text, _setting("arch", "Architecture: higgins-mlp, higgins-conv, burgess-conv or mlp")
]
Hidden = Annotated[
    Text, _setting("hidden", "Widths of the hidden layers of --arch mlp, separated by commas")
]
Init = Annotated[Text, _setting("init", "How the weights are initialised: lecun or pytorch")]
LatentDim = Annotated[Count, _setting("latent_dim", "Number of latents")]
Likelihood = Annotated[
    Text, _setting("likelihood", "Likelihood of the pixels: bernoulli or gaussian")
]
Sigma = Annotated[Number, _setting("sigma", "Standard deviation σ of the Gaussian likelihood")]
Steps = Annotated[Count, _setting("steps", "Number of optimizer steps")]
Epochs = Annotated[
    Number, _setting("epochs", "Passes over the training images; instead of --steps")
]
BatchSize = Annotated[Count, _setting("batch_size", "Images per step")]
Lr = Annotated[Number, _setting("lr", "Learning rate")]
Optimizer = Annotated[Text, _setting("optimizer", "Optimizer: adam or adagrad")]
Precision = Annotated[
    Text,
    _setting(
        "precision",
        "Arithmetic: fp32, bf16 or auto, which is bf16 where the hardware is fast at it",
    ),
]
Fp32Steps = Annotated[
    Count, _setting("fp32_steps", "Steps taken in float32 before a bf16 run switches to bfloat16")
]
Backend = Annotated[Text, _setting("backend", "What computes the ops: auto, torch, triton or c")]
Seed = Annotated[Count, _setting("seed", "Seed from which every random number follows")]
LogEvery = Annotated[Count, _setting("log_every", "Steps between lines of the log")]
CheckpointEvery = Annotated[Count, _setting("checkpoint_every", "Steps between checkpoints")]
Device = Annotated[Text, _setting("device", "Where to compute: auto, cpu or cuda")]
Classes = Annotated[
    Text, _setting("classes", "Which classes of labelled images to keep, such as A-D or a,z")
]
Workers = Annotated[Count, option("Models to train at the same time", "one per core, 32 on a GPU")]
Codes = Annotated[
    Folder, option("Instead of a run: an .npz file that holds the arrays codes and factors")
]
Metric = Annotated[
    list[str] | None,
    option(f"A metric to compute, repeatable: {listed(METRICS)}", "all of the protocol's"),
]
Protocol = Annotated[
    str, option(f"The settings of the metrics, by name: {listed(PROTOCOLS)}", "dlib")
]
Kind = Annotated[str, Argument(metavar="KIND", help=f"What to draw: {listed(KINDS)}.")]
Form = Annotated[
    str, option("The file's format: png, pdf, svg or, for traversals, gif", "png", "--format")
]
Around = Annotated[
    str,
    option(
        "What traversals start from: image (one of the test images), prior (the prior's mean), or "
        "the number of an image",
        "image",
    ),
]
Experiment = Annotated[
    str, Argument(metavar="NAME", help=f"The experiment: {listed(EXPERIMENTS)}.")
]
Images = Annotated[
    Text,
    option("A data set's name or a path; some experiments need one", "the experiment's own data"),
]
Suite = Annotated[
    list[str] | None, option(f"A suite to measure, repeatable: {listed(SUITES)}", "all")
]
