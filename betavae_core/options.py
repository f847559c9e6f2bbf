"""The settings of a run as options of the command line, for the verbs that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from typer import Option

Text: TypeAlias = str | None
Number: TypeAlias = float | None
Count: TypeAlias = int | None

Preset = Annotated[Text, Option(help="A published experiment's settings.")]
Config = Annotated[Path | None, Option(help="Settings in a TOML file.")]
Objective = Annotated[Text, Option(help="beta, capacity, controlvae or geco.")]
Beta = Annotated[
    Text, Option(help="Weight of the KL: 0 autoencoder, 1 VAE; auto: what holds a target.")
]
TargetKl = Annotated[Number, Option(help="Nats of KL to hold, for --beta auto.")]
TargetRecon = Annotated[Number, Option(help="Nats of recon_nll to hold instead.")]
BetaNorm = Annotated[Number, Option(help="β·M/N, instead of --beta.")]
Gamma = Annotated[Number, Option(help="Weight of |KL - C|.")]
CapacityMax = Annotated[Number, Option(help="C at the end, in nats.")]
CapacitySteps = Annotated[Count, Option(help="Steps over which C rises.")]
Arch = Annotated[Text, Option(help="higgins-mlp, higgins-conv, burgess-conv, mlp.")]
Hidden = Annotated[Text, Option(help="Widths of --arch mlp, as 512,256.")]
Init = Annotated[Text, Option(help="First weights: lecun or pytorch.")]
LatentDim = Annotated[Count, Option(help="Number of latents.")]
Likelihood = Annotated[Text, Option(help="bernoulli or gaussian.")]
Sigma = Annotated[Number, Option(help="σ of the Gaussian likelihood.")]
Steps = Annotated[Count, Option(help="Optimizer steps.")]
Epochs = Annotated[Number, Option(help="Passes over the data, instead of --steps.")]
BatchSize = Annotated[Count, Option(help="Images a step.")]
Lr = Annotated[Number, Option(help="Learning rate.")]
Optimizer = Annotated[Text, Option(help="adam or adagrad.")]
Precision = Annotated[Text, Option(help="auto, fp32 or bf16.")]
Fp32Steps = Annotated[Count, Option(help="Of a bf16 run, those before its first in bf16.")]
Backend = Annotated[Text, Option(help="auto, torch, triton or c.")]
Seed = Annotated[Count, Option(help="Every random number follows from it.")]
LogEvery = Annotated[Count, Option(help="Steps between lines of the log.")]
CheckpointEvery = Annotated[Count, Option(help="Steps between checkpoints.")]
Device = Annotated[Text, Option(help="auto, cpu or cuda.")]
Classes = Annotated[Text, Option(help="Of labelled images, those to keep: A-D or a,z.")]
