"""The command line: one thin function a verb, which parses, calls the library, and prints.

`python cli.py VERB` in a checkout and `betavae VERB` when installed are the same. With `--json` a
verb prints one JSON object on stdout; progress, warnings and errors always go to stderr. The
user's mistakes end in one line and exit code 2, failures in exit code 1.
"""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer import Argument, Option
from typer.core import TyperGroup

import betavae_core as bv
from betavae_core import config as settings_file
from betavae_core.errors import FailureError, Interrupted, UsageError
from betavae_core.terminal import facts, progress_bar, show, table, work_bars

ParserError: Any = typer.BadParameter.__mro__[1]  # typer has a click of its own, or PyPI's


class Verbs(TyperGroup):
    """The errors that the library names, as one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            return super().invoke(ctx)
        except UsageError as error:
            self._fail(str(error), 2)
        except Interrupted as stop:
            command = shlex.join([*_program(), "train", "--out", str(stop.path), "--resume"])
            self._fail(f"stopped at step {stop.step}, all saved; go on with: {command}", 130)
        except ParserError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # a group without a verb
                raise
            self._fail(f"{error.format_message()}; see {ctx.info_name} --help", 2)
        except FailureError as error:
            self._fail(str(error), 1)

    def _fail(self, message: str, code: int) -> None:
        print(" ".join(message.split("\n")), file=sys.stderr)
        raise typer.Exit(code)


def _program() -> list[str]:
    """How this program is called, so that a line it prints can be pasted."""
    script = sys.argv[0]
    return [sys.executable, script] if script.endswith(".py") else [Path(script).name]


app = typer.Typer(
    cls=Verbs, no_args_is_help=True, add_completion=False, help="Train and measure β-VAEs."
)
data_app = typer.Typer(no_args_is_help=True, help="What data there is, and what it looks like.")
app.add_typer(data_app, name="data")

Text: TypeAlias = str | None
Number: TypeAlias = float | None
Count: TypeAlias = int | None
Json = Annotated[bool, Option("--json", help="Print one JSON object on stdout.")]
Device = Annotated[Text, Option(help="auto, cpu or cuda.")]
Out = Annotated[Path | None, Option(help="The folder to write to.")]
Classes = Annotated[Text, Option(help="Of labelled images, those to keep: A-D or a,z.")]
Data = Annotated[str, Argument(help="A data set's name or a path.")]


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
    data: Annotated[Text, Argument(help="A data set's name or a path [default: shapes2d].")] = None,
    preset: Annotated[Text, Option(help="A published experiment's settings.")] = None,
    config: Annotated[Path | None, Option(help="Settings in a TOML file.")] = None,
    classes: Classes = None,
    objective: Annotated[Text, Option(help="beta, capacity, controlvae or geco.")] = None,
    beta: Annotated[
        Text, Option(help="Weight of the KL: 0 autoencoder, 1 VAE; auto: what holds a target.")
    ] = None,
    target_kl: Annotated[Number, Option(help="Nats of KL to hold, for --beta auto.")] = None,
    target_recon: Annotated[Number, Option(help="Nats of recon_nll to hold instead.")] = None,
    beta_norm: Annotated[Number, Option(help="β·M/N, instead of --beta.")] = None,
    gamma: Annotated[Number, Option(help="Weight of |KL - C|.")] = None,
    capacity_max: Annotated[Number, Option(help="C at the end, in nats.")] = None,
    capacity_steps: Annotated[Count, Option(help="Steps over which C rises.")] = None,
    arch: Annotated[Text, Option(help="higgins-mlp, higgins-conv, burgess-conv, mlp.")] = None,
    hidden: Annotated[Text, Option(help="Widths of --arch mlp, as 512,256.")] = None,
    init: Annotated[Text, Option(help="First weights: lecun or pytorch.")] = None,
    latent_dim: Annotated[Count, Option(help="Number of latents.")] = None,
    likelihood: Annotated[Text, Option(help="bernoulli or gaussian.")] = None,
    sigma: Annotated[Number, Option(help="σ of the Gaussian likelihood.")] = None,
    steps: Annotated[Count, Option(help="Optimizer steps.")] = None,
    epochs: Annotated[Number, Option(help="Passes over the data, instead of --steps.")] = None,
    batch_size: Annotated[Count, Option(help="Images a step.")] = None,
    lr: Annotated[Number, Option(help="Learning rate.")] = None,
    optimizer: Annotated[Text, Option(help="adam or adagrad.")] = None,
    precision: Annotated[Text, Option(help="auto, fp32 or bf16.")] = None,
    backend: Annotated[Text, Option(help="auto, torch or triton.")] = None,
    device: Device = None,
    seed: Annotated[Count, Option(help="Every random number follows from it.")] = None,
    log_every: Annotated[Count, Option(help="Steps between lines of the log.")] = None,
    checkpoint_every: Annotated[Count, Option(help="Steps between checkpoints.")] = None,
    out: Out = None,
    resume: Annotated[bool, Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: Json = False,
) -> None:
    """Train a β-VAE on DATA: by default the 2D shapes of dSprites, drawn here."""
    options = settings_file.given(locals())
    settings = settings_file.gather(preset, config, options)
    with progress_bar() as progress:
        run = bv.train(settings, out=out, resume=resume, progress=progress)
    assert run.summary is not None
    report(run.summary, as_json, lambda: run_tables(run))


@app.command()
def plot(
    run: Annotated[Path, Argument(help="The folder of a run.")],
    kind: Annotated[str, Argument(help="What to draw: reconstructions, traversals, …")],
    form: Annotated[str, Option("--format", help="png, pdf, svg; gif for traversals.")] = "png",
    around: Annotated[
        str, Option(help="Traversals start from: image, prior, or a number.")
    ] = "image",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Draw one picture of a run; into its own figures/ unless --out says otherwise."""
    from betavae_core.gallery import plot as draw

    path = draw(run, kind, out, form=form, around=around)
    report({"figure": str(path)}, as_json, lambda: [str(path)])


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """What data sets have a name."""
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
    classes: Classes = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """A contact sheet, the factors and the memory of a data set."""
    from betavae_core.inspection import inspect

    result, factors = inspect(data, out or Path(), classes)
    report(
        result | {"factors": factors},
        as_json,
        lambda: [facts(f"Data set {data}", result), table("Factors", factors)],
    )


@app.command()
def check(
    only: Annotated[str | None, Option(help="Only the rows whose name holds this.")] = None,
    device: Device = None,
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
    name: Annotated[str, Argument(help="The experiment, such as burgess-blobs.")],
    quick: Annotated[bool, Option("--quick", help="The size that a CPU does in minutes.")] = False,
    data: Annotated[Text, Option(help="The images, where they are not drawn here.")] = None,
    classes: Classes = None,
    device: Device = None,
    seed: Annotated[int, Option(help="The first seed.")] = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Run a published experiment; again with the same --out, it goes on where it stopped."""
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
    columns = ("name", "published", "ours")
    rows = [{column: row[column] for column in columns} for row in result["rows"]]
    parts = [table(result["shows"], rows), *result["notes"], *result["figures"]]
    report(result, as_json, lambda: parts)


@app.command()
def bench(
    suite: Annotated[list[str] | None, Option(help="ops or step; both by default.")] = None,
    seconds: Annotated[float, Option(help="Time to measure for; compiling comes on top.")] = 120.0,
    device: Device = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure ops and the training step against eager PyTorch and torch.compile, in one run."""
    from betavae_core.bench import report as measure
    from betavae_core.figures import save

    result = measure.run(
        suite or measure.SUITES,
        device=device or "auto",
        seconds=seconds,
        progress=lambda message: print(message, file=sys.stderr),
    )
    folder = out or Path("runs/bench")
    save(measure.figure(result), folder / "bench.png")
    (folder / "bench.json").write_text(json.dumps(result, indent=2))
    where = f"picture and JSON in {folder}"
    report(result, as_json, lambda: [measure.table(result), where])


def report(result: Mapping[str, Any], as_json: bool, human: Any) -> None:
    """Print the result: as one JSON object, or the parts that `human()` gives."""
    if as_json:
        print(json.dumps(result))
        return
    show(human())


def run_tables(run: bv.Run) -> list[Any]:
    """The end of a training run, for a person."""
    summary = run.summary or {}
    rows = [{"split": name} | summary[name] for name in ("train", "test")]
    shown = {k: v for k, v in summary.items() if isinstance(v, str | int | float)}
    shown.pop("model_sha256")
    pictures = f"pictures in {run.path / 'figures'}"
    return [facts("Run", shown), table("Nats an image", rows), pictures]


if __name__ == "__main__":
    app()
