"""``surefoot validate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from surefoot.cli import options

GRIDWORLDS = ("gridworld", "gridworld-published")
"""Variants of the gridworld; the other names are those of the catalogue."""


FAILED = 4
"""Exit status when a judged row fails."""
OUTSIDE_NOISES = (0.385, 0.39, 0.4, 0.41, 0.42, 0.43, 0.45)


@click.command(name="validate")
@click.option(
    "--agent", "agents", multiple=True, default=("certified:cells",), show_default=True,
    help="Name from the registry; may be given several times.",
)  # fmt: skip
@click.option(
    "--family",
    default="gridworld",
    show_default=True,
    help="gridworld, gridworld-published, another built-in family (admission, lake, ...), or MODULE:NAME of your own.",
)
@click.option(
    "--runs", default=1000, show_default=True, help="Runs per agent and scenario; a fifth of them from late on."
)
@click.option("--episodes", default=4000, show_default=True, help="Episodes per run.")
@click.option(
    "--scenarios", default="all", show_default=True,
    help="Comma-separated, or 'all' that all agents can play: family, edges, outside, heavy, lost, adversarial, late, starts, support, looks, "
    "batches, reweighted, history, drift.",
)  # fmt: skip
@click.option(
    "--calibration-runs",
    type=int,
    help="Runs per position of the truth; 0 leaves calibration out. By default 2000 where an agent rests on evidence about cells, else 0.",
)
@click.option("--delta", default=0.05, show_default=True, help="Error probability that is promised.")
@click.option("--cells", default=60, show_default=True, help="Largest number of cells.")
@click.option("--policies", default=30, show_default=True, help="Size of the library.")
@click.option("--training-tasks", default=500, show_default=True, help="Fresh training tasks.")
@click.option("--holdout", default=200, show_default=True, help="Fresh tasks that judge the finished cells.")
@click.option(
    "--plants", default=200, show_default=True, help="Plants of the rehearsal that a rehearsed agent rests on."
)
@click.option("--policy-set", type=click.Path(path_type=Path), help="Use this file instead of training a policy set.")
@click.option("--seed", default=0, show_default=True, help="Of all random draws, training included.")
@options.workers
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="New directory for validation.json and .png."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON instead of a table.")
@click.option("--no-figures", is_flag=True, help="Write validation.json only; the figure needs the extra [figures].")
def command(
    agents: tuple[str, ...], family: str, runs: int, episodes: int, scenarios: str,
    calibration_runs: int | None, delta: float, cells: int, policies: int, training_tasks: int, holdout: int, plants: int,
    policy_set: Path | None, seed: int, workers: int, out: Path, as_json: bool, no_figures: bool,
) -> None:  # fmt: skip
    """Try the guarantee: seeded runs on tasks and reports that make it hard, judged by exact evaluation.

    A row is judged where what the agent's trust level assumes is true of its tasks; elsewhere violations and alarms are
    measured and written down. A rehearsed agent is judged on fresh tasks of the family, on a law of density ratio two against it, and, after it
    left its protocol, by what its data bounds promise. Starts, support and looks train anew in every run and count policy sets accepted wrongly.
    Exit status: 0 when every judged row and every calibration passes, 4 when one fails, 2 for errors you can mend,
    3 for a refused certificate or assumption.

    \b
    Example:  surefoot validate --agent certified:cells --runs 1000 --workers 2 --out runs/validation
    """
    import numpy as np

    from surefoot.cli.families import find_family
    from surefoot.experiments.gridworld.run import coarse_cover
    from surefoot.experiments.validation import Training, validate
    from surefoot.policyset.schema import PolicySet
    from surefoot.report.style import require_matplotlib
    from surefoot.report.validation import render_validation
    from surefoot.report.validation_figure import draw_validation

    if not no_figures:
        require_matplotlib()
    world = find_family(family)
    published = any(name.split(":")[0] == "pce" or name == "safe-pce:published" for name in agents)
    wanted = None if scenarios == "all" else tuple(name.strip() for name in scenarios.split(","))
    rehearsed_alone = all(name.split(":")[0] == "rehearsed" for name in agents)
    if calibration_runs is None:
        calibration_runs = 0 if rehearsed_alone else 2000
    summary = validate(
        out, world, agents, scenarios=wanted, runs=runs, episodes=episodes, calibration_runs=calibration_runs,
        delta=delta, seed=seed, workers=workers, progress=not as_json, strict=family != "gridworld-published",
        policy_set=None if policy_set is None else PolicySet.load(policy_set),
        coarse_set=coarse_cover(world, training_tasks, seed, not as_json) if published else None,
        outside=np.array(OUTSIDE_NOISES)[:, None] if family in GRIDWORLDS else None,
        training=Training(cells, policies, training_tasks, holdout, plants),
    )  # fmt: skip
    written = [out / "validation.json"] if no_figures else [out / "validation.json", draw_validation(out)]
    click.echo(json.dumps(summary) if as_json else render_validation(summary))
    if not as_json:
        click.echo("\nwritten: " + "  ".join(str(path) for path in written))
    if not summary["passed"]:
        # Not through click: it would turn the status into a return value that nobody looks at.
        sys.exit(FAILED)
