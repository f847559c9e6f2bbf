"""The command line: one thin function a verb, which parses, calls the library, and prints.

`python cli.py VERB` in a checkout and `betavae VERB` when installed are the same. With `--json` a
verb prints one JSON object on stdout; progress, warnings and errors always go to stderr. The
user's mistakes end in one line and exit code 2, failures in exit code 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

import betavae_core as bv
from betavae_core import options, settings
from betavae_core.errors import UsageError
from betavae_core.options import Count, Folder, Text, option
from betavae_core.terminal import (
    experiment_tables,
    facts,
    population_bar,
    progress_bar,
    report,
    run_tables,
    score_tables,
    sweep_tables,
    table,
    work_bars,
)
from betavae_core.verbs import Verbs

app = typer.Typer(
    cls=Verbs, no_args_is_help=True, add_completion=False, help="Train and measure β-VAEs."
)
data_app = typer.Typer(no_args_is_help=True, help="List, prepare or inspect data sets.")
app.add_typer(data_app, name="data")

Json = Annotated[bool, Option("--json", help="Print one JSON object on stdout.")]
Data = Annotated[str, Argument(metavar="DATA", help=f"{options.DATA}.")]


def _print_version(value: bool) -> None:
    if value:
        print(f"betavae {bv.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """β-VAEs with an oracle: numbers that can be trusted."""


@app.command()
def train(
    data: options.Data = None,
    preset: options.Preset = None,
    config: options.Config = None,
    classes: options.Classes = None,
    objective: options.Objective = None,
    beta: options.Beta = None,
    target_kl: options.TargetKl = None,
    target_recon: options.TargetRecon = None,
    beta_norm: options.BetaNorm = None,
    gamma: options.Gamma = None,
    capacity_max: options.CapacityMax = None,
    capacity_steps: options.CapacitySteps = None,
    arch: options.Arch = None,
    hidden: options.Hidden = None,
    init: options.Init = None,
    latent_dim: options.LatentDim = None,
    likelihood: options.Likelihood = None,
    sigma: options.Sigma = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    optimizer: options.Optimizer = None,
    precision: options.Precision = None,
    fp32_steps: options.Fp32Steps = None,
    backend: options.Backend = None,
    device: options.Device = None,
    seed: options.Seed = None,
    log_every: options.LogEvery = None,
    checkpoint_every: options.CheckpointEvery = None,
    out: Annotated[Folder, option("The run's folder", "runs/NAME-NUMBER")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train a β-VAE on DATA: by default the 2D shapes of dSprites, drawn here."""
    chosen = settings.gather(preset, config, settings.given(locals()))
    with progress_bar() as progress:
        run = bv.train(chosen, out=out, resume=resume, progress=progress)
    assert run.summary is not None
    report(run.summary, as_json, lambda: run_tables(run))


@app.command()
def sweep(
    data: Annotated[Text, option(options.DATA, options.default_of("data"))] = None,
    betas: Annotated[Text, option("Values of β, separated by commas", "1,2,4,8,16")] = None,
    beta_norms: Annotated[Text, option("Values of β·M/N, instead of --betas")] = None,
    gammas: Annotated[Text, option("Values of γ, for the objective recon_nll + γ·|KL - C|")] = None,
    capacities: Annotated[Text, option("Values of C in that objective, in nats")] = None,
    seeds: Annotated[Count, option("Models to train with each setting", 3)] = None,
    preset: options.Preset = None,
    config: options.Config = None,
    classes: options.Classes = None,
    capacity_steps: options.CapacitySteps = None,
    arch: options.Arch = None,
    hidden: options.Hidden = None,
    init: options.Init = None,
    latent_dim: options.LatentDim = None,
    likelihood: options.Likelihood = None,
    sigma: options.Sigma = None,
    steps: options.Steps = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.Lr = None,
    optimizer: options.Optimizer = None,
    precision: options.Precision = None,
    fp32_steps: options.Fp32Steps = None,
    backend: options.Backend = None,
    device: options.Device = None,
    seed: options.Seed = None,
    log_every: options.LogEvery = None,
    checkpoint_every: options.CheckpointEvery = None,
    workers: options.Workers = None,
    out: Annotated[Folder, option("The sweep's folder", "runs/NAME-sweep-NUMBER")] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the sweep in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train models for many β, with several seeds each, and recommend a β."""
    chosen = settings.gather(preset, config, settings.given(locals()))
    given = {"betas": betas, "beta_norms": beta_norms, "gammas": gammas, "capacities": capacities}
    axes = {name: text.split(",") for name, text in given.items() if text is not None}

    from betavae_core.populations import sweep as run

    with population_bar() as progress:
        result = run(
            chosen, out, **axes, seeds=seeds, resume=resume, workers=workers, progress=progress
        )
    report(result, as_json, lambda: sweep_tables(result))


@app.command()
def evaluate(
    run: Annotated[
        Folder, Argument(metavar="RUN", help="The folder of a run.", show_default=False)
    ] = None,
    codes: options.Codes = None,
    metric: options.Metric = None,
    protocol: options.Protocol = "dlib",
    seed: Annotated[int, option("Seed of the samples that the metrics draw", 0)] = 0,
    out: Annotated[
        Folder, option("The folder to write to", "the run's; with --codes, none")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how disentangled codes are: a protocol's metrics, each with its floor and ceiling."""
    from betavae_core import scorecard

    if (run is None) == (codes is None):
        raise UsageError("give the folder of a run, or --codes with an .npz file")
    measure = scorecard.evaluate if run else scorecard.evaluate_codes
    with work_bars() as listener:
        result = measure(
            run or codes or Path(),
            protocol=protocol,
            only=metric,
            out=out,
            seed=seed,
            progress=lambda what, done, total: listener("metrics", done, total),
        )
    report(result, as_json, lambda: score_tables(result))


@app.command()
def plot(
    run: Annotated[Path, Argument(metavar="RUN", help="The folder of a run.")],
    kind: options.Kind,
    form: options.Form = "png",
    around: options.Around = "image",
    out: Annotated[Folder, option("The folder to write to", "the run's figures/")] = None,
    as_json: Json = False,
) -> None:
    """Draw one picture of a run."""
    from betavae_core.gallery import plot as draw

    path = draw(run, kind, out, form=form, around=around)
    report({"figure": str(path)}, as_json, lambda: [str(path)])


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the data sets that have a name."""
    rows = [
        {
            "name": s.name,
            "images": s.images,
            "shape": list(s.shape),
            "bytes": s.size,
            "note": s.note,
        }
        for s in bv.data.sources()
    ]
    report({"sources": rows}, as_json, lambda: [table("Data sets", rows)])


@data_app.command("prepare")
def data_prepare(data: Data, as_json: Json = False) -> None:
    """Download or convert a data set, once, with its checksum; or say why that cannot be."""
    with work_bars() as listener:
        path = bv.data.prepare(data, listener)
    where = None if path is None else str(path)
    said = f"{data} is ready{f' in {where}' if where else ': it is drawn here'}"
    report({"name": data, "path": where}, as_json, lambda: [said])


@data_app.command("inspect")
def data_inspect(
    data: Data,
    classes: options.Classes = None,
    out: Annotated[Folder, option("The folder for the contact sheet", "the working folder")] = None,
    as_json: Json = False,
) -> None:
    """Draw a contact sheet of a data set, and show its factors and its size in memory."""
    from betavae_core.inspection import inspect

    result, factors = inspect(data, out or Path(), classes)
    report(
        result | {"factors": factors},
        as_json,
        lambda: [facts(f"Data set {data}", result), table("Factors", factors)],
    )


@app.command()
def check(
    only: Annotated[Text, option("Compare only the rows whose name contains this text")] = None,
    device: options.Device = None,
    as_json: Json = False,
) -> None:
    """Compare every op, layer, model, objective and optimizer with the oracle, on this machine."""
    from betavae_core.parity import check as compare
    from betavae_core.parity import worst

    rows = compare(only, device or "auto")
    failed = [row for row in rows if not row["ok"]]
    shown = rows if only else worst(rows)
    verdict = f"{len(rows) - len(failed)} of {len(rows)} agree with the oracle"
    parts = [table("Parity", shown), *([table("Failed", failed)] if failed else []), verdict]
    report({"rows": rows, "failed": len(failed)}, as_json, lambda: parts)
    if failed:
        raise typer.Exit(1)


@app.command()
def reproduce(
    name: options.Experiment,
    quick: Annotated[
        bool, Option("--quick", help="Use the size that a CPU finishes in minutes.")
    ] = False,
    data: options.Images = None,
    classes: options.Classes = None,
    device: options.Device = None,
    seed: Annotated[int, option("The first seed", 0)] = 0,
    out: Annotated[Folder, option("The experiment's folder", "runs/NAME")] = None,
    as_json: Json = False,
) -> None:
    """Run a published experiment; run again with the same --out, it continues where it stopped."""
    from betavae_core.experiments import reproduce as run

    with progress_bar() as progress:
        result = run(
            name,
            out or Path("runs") / name,
            quick=quick,
            data=data,
            classes=classes,
            device=device or "auto",
            seed=seed,
            progress=progress,
        )
    report(result, as_json, lambda: experiment_tables(result))


@app.command()
def bench(
    suite: options.Suite = None,
    seconds: Annotated[float, option("Seconds of measuring; compiling comes on top", 120)] = 120.0,
    device: options.Device = None,
    out: Annotated[Folder, option("The folder to write to", "runs/bench")] = None,
    as_json: Json = False,
) -> None:
    """Measure ops and the training step against eager PyTorch and torch.compile, in one run."""
    from betavae_core.bench import report as measure
    from betavae_core.figures import save
    from betavae_core.storage import writable_folder, write_atomic

    folder = writable_folder(out or Path("runs/bench"))
    result = measure.run(
        suite or measure.SUITES,
        device=device or "auto",
        seconds=seconds,
        progress=lambda message: print(message, file=sys.stderr),
    )
    write_atomic(folder / "bench.json", json.dumps(result, indent=2).encode())
    save(measure.figure(result), folder / "bench.png")
    where = f"picture and JSON in {folder}"
    report(result, as_json, lambda: [measure.table(result), where])


if __name__ == "__main__":
    app()
