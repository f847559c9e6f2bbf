"""Many models side by side, and the choice of β.

`sweep` trains every setting with every seed, each an ordinary run, measures how well the models
disentangle, with factors or without, and recommends a setting. `plan` says what is trained,
`folder` how a sweep lies on disk, `crew` and `worker` train side by side on a CPU and `together` on
a GPU, `member` makes and scores one model, `choice` and `report` draw the conclusion.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from betavae_core.config import Config
from betavae_core.cores import cores
from betavae_core.errors import FailureError, Interrupted, UsageError
from betavae_core.populations.board import Board, Progress, State
from betavae_core.populations.crew import Crew
from betavae_core.populations.folder import held, read_result, require_plan, steps_done
from betavae_core.populations.plan import Plan, Values, is_count, make_plan
from betavae_core.populations.report import report
from betavae_core.populations.together import MODELS, Together
from betavae_core.run_directory import next_directory

__all__ = ["Progress", "State", "SweepInterrupted", "sweep"]

_MOST_ERRORS = 3  # that a message spells out


class SweepInterrupted(Interrupted):
    """The user stopped the sweep. Everything up to `step`, summed over its runs, is saved."""

    verb = "sweep"


def sweep(
    config: Config | Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    betas: Values | None = None,
    beta_norms: Values | None = None,
    gammas: Values | None = None,
    capacities: Values | None = None,
    seeds: int | None = None,
    resume: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train β-VAEs for many β with several seeds each, and recommend a β.

    The models train side by side: on a CPU each in a process on one thread, on a GPU as branches
    of one CUDA graph; a model's bits do not depend on how many do. A setting's score is the median
    over its seeds: of MIG where the data have factors, else of UDR (Duan et al. 2020), which needs
    two seeds. See `choice` for how a recommendation follows.

    Args:
        config: the settings that all runs share. What the sweep varies is ignored in it, and its
            seed is the first seed. Those left out are the ones of the sweep to go on with, else
            the defaults.
        out: the folder; runs/NAME-sweep-NUMBER when not given.
        betas, beta_norms: the values of β, or of β M / N, as numbers or as text; β 1, 2, 4, 8, 16
            when nothing is given.
        gammas, capacities: the values of γ and C of the capacity objective, all combinations; one
            that is not given stays as in `config`.
        seeds: how many; 3 when not given.
        resume: go on with the sweep in `out`: finished runs are found, begun ones go on, and the
            result is that of a sweep that was never interrupted.
        workers: how many models at a time; when not given as many as there are cores, and 32 on a
            GPU.
        progress: called with the `State` of all runs whenever it changes.

    Returns:
        `runs`, a row a model (`label`, `beta`, `seed`, `recon_nll`, `kl`, `neg_elbo`,
        `active_latents` of the test split, `udr`, the metrics with factors, `path`),
        `recommended` (`beta`, `run`, `reason`, …) and `figure`: as in OUT/sweep.json.

    Raises:
        UsageError: the settings, the data or the folder cannot be used; nothing is trained.
        FailureError: runs failed. The others are finished, and in sweep.json.
        SweepInterrupted: Ctrl-C; everything is saved.
    """
    saved = require_plan(out) if resume else None
    axes = {"beta": betas, "beta_norm": beta_norms, "gamma": gammas, "capacity_max": capacities}
    plan = make_plan(config, axes, seeds, saved)
    if workers is not None and not is_count(workers):
        raise UsageError(f"--workers must be a whole number >= 1, got {workers!r}")
    path = Path(out) if out is not None else next_directory(f"{Path(plan.config.data).stem}-sweep")
    with held(path, plan, resume=resume):
        if (result := read_result(path)) is not None:
            return result
        if plan.seeds == 1 and not plan.factors:
            warnings.warn(
                "nothing will rank these models: the data have no factors, and UDR compares "
                "models of different seeds, so it needs --seeds 2 or more",
                stacklevel=2,
            )
        try:
            board = _train(plan, path, workers, progress or (lambda state: None))
            return _finish(plan, path, board)
        except (KeyboardInterrupt, Interrupted):
            steps = sum(steps_done(path, job) for job in plan.jobs)
            raise SweepInterrupted(steps, path) from None
        except OSError as error:
            raise FailureError(
                f"{path} cannot be written: {error.strerror or error}; kept: every run as it was "
                "last saved; mend that, and go on with --resume"
            ) from None


def _train(plan: Plan, out: Path, workers: int | None, progress: Progress) -> Board:
    """Train and score every run, and say how it went."""
    jobs = plan.jobs
    board = Board(jobs, {job.label: steps_done(out, job) for job in jobs}, progress)
    if _in_processes(plan):
        Crew(workers or cores(), jobs, out, board).work()
    else:
        Together(workers or MODELS, jobs, out, board).work()
    return board


def _in_processes(plan: Plan) -> bool:
    """On a CPU, where a process of its own is the best that a model can have."""
    return plan.config.device == "cpu"


def _finish(plan: Plan, out: Path, board: Board) -> dict[str, Any]:
    """The result, in the order of the plan. Raises FailureError when a run failed."""
    rows = [board.rows[job.label] for job in plan.jobs if job.label in board.rows]
    result = report(rows, board.errors, out) if rows else {}
    if board.errors:
        raise FailureError(_failures(board.errors, len(plan.jobs)))
    return result


def _failures(errors: Mapping[str, str], runs: int) -> str:
    shown = [f"{label}: {error}" for label, error in errors.items()][:_MOST_ERRORS]
    rest = f"; and {len(errors) - len(shown)} more" if len(errors) > len(shown) else ""
    return (
        f"{len(errors)} of {runs} runs failed, the others are finished: {'; '.join(shown)}{rest}; "
        "mend the cause and go on with --resume"
    )
