"""``surefoot reproduce``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from surefoot.cli import options


@click.group(name="reproduce")
def command() -> None:
    """Reproduce a published experiment."""


@command.command(name="gridworld")
@click.option("--episodes", default=40_000, show_default=True, help="Real episodes per run.")
@click.option("--agents", default="default", show_default=True, help="Comma-separated names, 'default', or 'all'.")
@click.option(
    "--rehearsed",
    is_flag=True,
    help="Every method on the setting that a rehearsal supports; --agents names methods then.",
)
@click.option("--plants", default=59, show_default=True, help="With --rehearsed: fresh plants to rehearse on.")
@click.option(
    "--alpha",
    default=0.05,
    show_default=True,
    help="With --rehearsed: share of violating deployments that is tolerated.",
)
@click.option(
    "--delta-coverage",
    default=0.05,
    show_default=True,
    help="With --rehearsed: error probability of each method's rehearsal.",
)
@click.option(
    "--tasks",
    default="published",
    show_default=True,
    help="'published' (the ten of the paper), 'published:R' (each R times), or 'fresh:N'.",
)
@click.option(
    "--family",
    default="truncated",
    show_default=True,
    type=click.Choice(["truncated", "published"]),
    help="Noise truncated to [0, .38], where the method's assumption holds, or the paper's [0, .5], where it fails.",
)
@options.training_sizes(cells=480, policies=60, training_tasks=1000, holdout=300)
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@options.workers
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="New directory for logs, figures and report."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
@click.option("--no-figures", is_flag=True, help="Write logs only; figures need the extra [figures].")
def gridworld(
    episodes: int, agents: str, rehearsed: bool, plants: int, alpha: float, delta_coverage: float, tasks: str, family: str, cells: int,
    policies: int, training_tasks: int, holdout: int, delta: float, seed: int, workers: int, out: Path, as_json: bool, no_figures: bool,
) -> None:  # fmt: skip
    """The 7x7 gridworld: Figures 1 and 2 of Ni & Kamgarpour 2026 with the trivial baselines beside them.

    With --rehearsed every method is first rehearsed on fresh simulated plants, from its most cautious setting to its boldest, and then plays the
    test tasks with the setting that the rehearsal supports. Choose --plants, --alpha and --delta-coverage before you look.

    \b
    Agents: oracle, always-safe, robust-fixed:NOISE, safe-pce:theory|published, pce[:theory],
    certified:cells|cells:returns|envelope|data, and with :theory or :calibrated optpess-lp, dope, dope-plus, lb-sgd, safe-meta-rl,
    meta-srl (some also :published).
    """
    from surefoot.experiments.gridworld.fair import DEFAULT_METHODS, reproduce_rehearsed
    from surefoot.experiments.gridworld.run import DEFAULT_AGENTS, reproduce
    from surefoot.experiments.registry import all_agents
    from surefoot.report.fair import render_fair_table
    from surefoot.report.table import allowance, render_table

    if not no_figures:
        from surefoot.report.style import require_matplotlib

        require_matplotlib()
    shared: dict[str, Any] = {
        "family": family, "tasks": tasks, "episodes": episodes, "delta": delta, "cells": cells, "policies": policies,
        "training_tasks": training_tasks, "holdout": holdout, "seed": seed, "workers": workers, "progress": not as_json,
    }  # fmt: skip
    if rehearsed:
        summary = reproduce_rehearsed(
            out, methods=_names(agents, DEFAULT_METHODS, DEFAULT_METHODS), plants=plants, alpha=alpha, delta_coverage=delta_coverage, **shared
        )  # fmt: skip
    else:
        summary = reproduce(out, agents=_names(agents, DEFAULT_AGENTS, all_agents("robust-fixed:0.36")), **shared)
    written = [out / "summary.json"]
    if not no_figures:
        from surefoot.report.figures import figure2
        from surefoot.report.gridworld_figure import figure1
        from surefoot.report.html import write_report

        written += [figure1(out), figure2(out), write_report(out)]
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(render_fair_table(summary) if rehearsed else render_table(summary))
    click.echo(f"\n{allowance(delta, len(summary['tasks']))}\n{summary['assumptions']['statement']}")
    click.echo("\nwritten: " + "  ".join(str(path) for path in written))


@command.command(name="suite")
@click.option("--episodes", default=20_000, show_default=True, help="Real episodes per run.")
@click.option("--agents", default="default", show_default=True, help="Comma-separated names, 'default', or 'all'.")
@click.option("--families", default="default", show_default=True, help="Comma-separated names, or 'default' for all.")
@click.option("--tasks", default=10, show_default=True, help="Fresh test tasks per family.")
@options.training_sizes(cells=60, policies=30, training_tasks=400, holdout=150)
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@options.workers
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New directory for logs.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
def suite(
    episodes: int, agents: str, families: str, tasks: int, cells: int, policies: int, training_tasks: int, holdout: int, delta: float,
    seed: int, workers: int, out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Every built-in family with every agent, on fresh tasks: one table.

    \b
    Families: admission, cliff, gridworld, inventory, lake, streaming.
    Agents: as for gridworld.
    """
    from surefoot.experiments.registry import all_agents
    from surefoot.experiments.suite.run import DEFAULT_AGENTS, reproduce
    from surefoot.report.suite import render_suite
    from surefoot.tasks.catalogue import FAMILIES

    names = _names(agents, DEFAULT_AGENTS, all_agents())
    summary = reproduce(
        out, families=_names(families, tuple(FAMILIES)), agents=names, tasks=tasks, episodes=episodes, delta=delta,
        cells=cells, policies=policies, training_tasks=training_tasks, holdout=holdout, seed=seed, workers=workers, progress=not as_json,
    )  # fmt: skip
    click.echo(json.dumps(summary) if as_json else render_suite(summary))
    if not as_json:
        click.echo(f"\nwritten: {out / 'summary.json'}  and a folder per family beside it")


@command.command(name="compare")
@click.option("--family", "name", required=True, help="gridworld, zoned-gridworld:4, ..., or MODULE:NAME of your own.")
@click.option("--agents", default="default", show_default=True, help="Comma-separated names, 'default', or 'all'.")
@click.option("--tasks", default=10, show_default=True, help="Fresh test tasks.")
@click.option("--episodes", default=20_000, show_default=True, help="Real episodes per run.")
@click.option("--policy-set", type=click.Path(path_type=Path), help="Deploy this file instead of training.")
@options.training_sizes(cells=30, policies=None, training_tasks=400, holdout=150)
@click.option("--lenient", is_flag=True, help="Go on where the family breaks the method's assumption.")
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@options.workers
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="New directory, or the one in which this command was interrupted.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
@click.option("--no-figures", is_flag=True, help="Write logs only; figures need the extra [figures].")
def compare(
    name: str, agents: str, tasks: int, episodes: int, policy_set: Path | None, cells: int, policies: int | None, training_tasks: int,
    holdout: int, delta: float, lenient: bool, seed: int, workers: int, out: Path, as_json: bool, no_figures: bool,
) -> None:  # fmt: skip
    """Agents on a family of your own, on fresh tasks: one table, results.csv and a figure.

    The oracle and the safe policy for ever are always in the table. Agents: as for gridworld; your own from Python: surefoot.compare.

    \b
    Example:  surefoot reproduce compare --family mine:family --agents certified:cells,certified:data --workers 2 --out runs/mine
    """
    from surefoot.cli.families import find_family
    from surefoot.experiments.compare import DEFAULT_AGENTS
    from surefoot.experiments.compare import compare as compared
    from surefoot.experiments.registry import all_agents

    if not no_figures:
        from surefoot.report.style import require_matplotlib

        require_matplotlib()
    found = compared(
        _names(agents, DEFAULT_AGENTS, all_agents()), find_family(name), tasks=tasks, episodes=episodes, policy_set=policy_set,
        training={"tasks": training_tasks, "holdout": holdout, "cells": cells, "policies": policies, "strict": not lenient},
        delta=delta, seed=seed, out=out, workers=workers, progress=not as_json,
    )  # fmt: skip
    written = [out / "summary.json", out / "results.csv"]
    if not no_figures:
        from surefoot.report.figures import figure2

        written.append(figure2(out))
    if as_json:
        click.echo(json.dumps(found.summary))
        return
    click.echo(found.text)
    click.echo(f"\n{found.summary['assumptions']['statement']}\n\nwritten: " + "  ".join(str(path) for path in written))


@command.command(name="lower-bound")
@click.option("--agents", default="default", show_default=True, help="Comma-separated names, or 'default'.")
@click.option("--accuracies", default="0.3,0.2,0.15,0.1", show_default=True, help="Levels of eps.")
@click.option("--margins", default="1,0.7,0.5,0.35", show_default=True, help="Levels of xi.")
@click.option("--task-counts", default="4,8,16", show_default=True, help="Levels of the number of tasks.")
@click.option("--horizons", default="5,7,10,14", show_default=True, help="Levels of 1/(1 - gamma).")
@click.option(
    "--base",
    default="0.15,0.5,4,10",
    show_default=True,
    help="eps, xi, tasks and horizon where the others stay while one varies.",
)
@click.option("--runs", default=40, show_default=True, help="Runs per measured agent and setting.")
@click.option(
    "--share", default=0.025, show_default=True, help="Length of a run, as a share of the theorem's expression."
)
@click.option("--shortest", default=50_000, show_default=True, help="Length of a run where that is less.")
@click.option("--delta", default=0.05, show_default=True, help="Error probability; below one over the number of tasks.")
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@options.workers
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New directory for logs and the figure.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of tables.")
@click.option("--no-figures", is_flag=True, help="Write logs only; the figure needs the extra [figures].")
def lower_bound(
    agents: str, accuracies: str, margins: str, task_counts: str, horizons: str, base: str, runs: int, share: float, shortest: int, delta: float,
    seed: int, workers: int, out: Path, as_json: bool, no_figures: bool,
) -> None:  # fmt: skip
    """Episodes needed on the hard instance of Theorem 5.1, as one factor at a time varies, and the exponents.

    A number is the smallest n such that in a share 1 - delta of the runs everything deployed after n episodes is eps-optimal and
    feasible. Numbers of agents with the constants of the proofs are computed, not played, and labelled so.
    """
    from surefoot.experiments.lower_bound.run import DEFAULT_AGENTS, Levels, Setting, reproduce
    from surefoot.report.lower_bound import render_lower_bound
    from surefoot.report.lower_bound_figure import draw_lower_bound
    from surefoot.report.style import require_matplotlib

    if not no_figures:
        require_matplotlib()
    eps, xi, count, horizon = _numbers("base", base, 4)
    levels = Levels(
        base=Setting(eps, xi, _whole("base", count), horizon),
        accuracy=_numbers("accuracies", accuracies),
        margin=_numbers("margins", margins),
        tasks=tuple(_whole("task-counts", n) for n in _numbers("task-counts", task_counts)),
        horizon=_numbers("horizons", horizons),
    )
    summary = reproduce(
        out, agents=_names(agents, DEFAULT_AGENTS), levels=levels, runs=runs, delta=delta, share=share, shortest=shortest, seed=seed,
        workers=workers, progress=not as_json,
    )  # fmt: skip
    written = [out / "summary.json"] if no_figures else [out / "summary.json", draw_lower_bound(out)]
    click.echo(json.dumps(summary) if as_json else render_lower_bound(summary))
    if not as_json:
        click.echo("\nwritten: " + "  ".join(str(path) for path in written))


@command.command(name="locomotion")
@click.option(
    "--env",
    default="hopper",
    show_default=True,
    type=click.Choice(["hopper", "half-cheetah", "half-cheetah-dynamics"]),
    help="The paper's two, whose tasks differ in the wanted speed, or one whose bodies and grounds differ.",
)
@click.option("--episodes", default=1000, show_default=True, help="Real episodes per run.")
@click.option("--agents", default="default", show_default=True, help="Comma-separated names, or 'default' for all.")
@click.option("--tasks", default=20, show_default=True, help="Fresh test tasks.")
@click.option("--repeats", default=1, show_default=True, help="How often each test task is met.")
@click.option("--delta", default=0.05, show_default=True, help="Error probability of deployment.")
@click.option(
    "--train",
    "source",
    default="shipped",
    show_default=True,
    type=click.Choice(["shipped", "cells", "all"]),
    help="Use the shipped policy set; simulate its cells anew (15 to 30 minutes); or train policies too (as long again, extra [sb3]).",
)
@click.option(
    "--judged",
    type=int,
    help="Fresh episodes per policy and task that judge what is deployed. [default: the judgement that ships; 10000 for other tasks]",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Of all random draws; test tasks other than those of 0 are judged anew.",
)
@options.workers
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New directory for logs and the figure.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
@click.option("--no-figures", is_flag=True, help="Write logs only; the figure needs the extra [figures].")
def locomotion(
    env: str, episodes: int, agents: str, tasks: int, repeats: int, delta: float, source: str, judged: int | None, seed: int, workers: int,
    out: Path, as_json: bool, no_figures: bool,
) -> None:  # fmt: skip
    """Hopper and Half-Cheetah: Figure 4 of Ni & Kamgarpour 2026 (Appendix H.2) with the trivial baselines beside them.

    \b
    Agents: oracle, always-safe, robust-fixed, safe-pce:theory|published, pce, certified:cells|envelope|data. Needs the extra [mujoco].
    """
    from surefoot.report.table import render_table

    if not no_figures:
        from surefoot.report.style import require_matplotlib

        require_matplotlib()
    from surefoot.experiments.locomotion.run import DEFAULT_AGENTS, reproduce

    summary = reproduce(
        out, env=env, agents=_names(agents, DEFAULT_AGENTS), tasks=tasks, repeats=repeats, episodes=episodes, delta=delta,
        source=source, judged=judged, seed=seed, workers=workers, progress=not as_json,  # type: ignore[arg-type]
    )  # fmt: skip
    written = [out / "summary.json"]
    if not no_figures:
        from surefoot.report.figures import figure4
        from surefoot.report.html import write_report

        written += [figure4(out), write_report(out)]
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(render_table(summary))
    verdict = summary["judged"]
    click.echo(
        f"\nmixtures are judged by {verdict['episodes']} fresh episodes per policy and task: costs to within {verdict['largest_half_width_cost']:.3g}"
    )
    click.echo(summary["assumptions"]["statement"])
    click.echo("\nwritten: " + "  ".join(str(path) for path in written))


@command.command(name="locomotion-deep")
@click.option(
    "--env",
    default="hopper",
    show_default=True,
    type=click.Choice(["hopper", "half-cheetah", "half-cheetah-dynamics"]),
    help="As in reproduce locomotion.",
)
@click.option("--methods", default="default", show_default=True, help="Comma-separated names, or 'default' for all.")
@click.option(
    "--train",
    default="all",
    show_default=True,
    type=click.Choice(["all", "kept"]),
    help="Train, going on from checkpoints that are there; or take the checkpoints as they are.",
)
@click.option("--steps", default=1_000_000, show_default=True, help="Environment steps that each method trains with.")
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="Folder of checkpoints. [default: OUT/checkpoints]"
)
@click.option("--tasks", default=20, show_default=True, help="Fresh test tasks; 0 stops after training.")
@click.option("--episodes", default=200, show_default=True, help="Real episodes per test task.")
@click.option("--every", default=10, show_default=True, help="Real episodes between updates.")
@click.option("--judged", default=20, show_default=True, help="Fresh episodes that judge each deployed policy.")
@click.option(
    "--beside",
    type=click.Path(path_type=Path, exists=True),
    help="Finished run of reproduce locomotion on the same family, whose agents are drawn beside.",
)
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory for logs and the figure.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
@click.option("--no-figures", is_flag=True, help="Write logs only; the figure needs the extra [figures].")
def locomotion_deep(
    env: str, methods: str, train: str, steps: int, checkpoints: Path | None, tasks: int, episodes: int, every: int, judged: int,
    beside: Path | None, seed: int, out: Path, as_json: bool, no_figures: bool,
) -> None:  # fmt: skip
    """The deep baselines of Figure 4 of Ni & Kamgarpour 2026: trained on the family, then adapting on the test tasks.

    Each method spends the same number of steps; the same call goes on where it was interrupted.

    \b
    Methods: trpo-lagrangian, cpo, maml, maml-first-order, meta-cpo, safe-meta-rl. Needs the extra [mujoco], no torch.
    """
    from surefoot.report.deep import render_deep

    if not no_figures:
        from surefoot.report.style import require_matplotlib

        require_matplotlib()
    from surefoot.experiments.locomotion.deep import DEFAULT_METHODS, reproduce_deep

    summary = reproduce_deep(
        out, env=env, methods=_names(methods, DEFAULT_METHODS), steps=steps, checkpoints=checkpoints, train=train == "all", tasks=tasks,
        episodes=episodes, every=every, judged=judged, seed=seed, progress=not as_json,
    )  # fmt: skip
    written = [out / "summary.json"]
    if not no_figures and tasks:
        from surefoot.report.deep import figure4_deep

        written.append(figure4_deep(out, beside))
    click.echo(json.dumps(summary) if as_json else render_deep(summary))
    if not as_json:
        click.echo("\nwritten: " + "  ".join(str(path) for path in written))


@command.command(name="unknowns")
@click.option("--unknowns", default="1,2,4,7,15", show_default=True, help="Numbers of unknown parameters, rising.")
@click.option("--episodes", default=10_000, show_default=True, help="Real episodes per run.")
@click.option("--tasks", default=20, show_default=True, help="Fresh test tasks per number.")
@click.option("--plants", default=150, show_default=True, help="Fresh plants that are rehearsed on.")
@click.option("--alpha", default=0.05, show_default=True, help="Share of rehearsed deployments that may violate.")
@click.option("--p-max", default=0.05, show_default=True, help="Largest share of the family that may lie in no cell.")
@click.option("--delta", default=0.05, show_default=True, help="Error probability of the other deployments.")
@click.option(
    "--delta-coverage",
    default=0.05,
    show_default=True,
    help="Error probability of each number's rehearsal and, separately, of its hold-outs.",
)
@click.option(
    "--cells", default="30,8,2", show_default=True, help="Numbers of cells to try, falling: each is one more look."
)
@click.option("--policies", default=20, show_default=True, help="Size of the library besides the safe policy.")
@click.option("--training-tasks", default=500, show_default=True, help="Fresh training tasks.")
@click.option("--holdout", default=400, show_default=True, help="Fresh tasks that judge the finished cells.")
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@options.workers
@click.option("--out", required=True, type=click.Path(path_type=Path), help="New directory for the log and the figure.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of a table.")
@click.option("--no-figures", is_flag=True, help="Write the log only; the figure needs the extra [figures].")
def unknowns_command(
    unknowns: str, episodes: int, tasks: int, plants: int, alpha: float, p_max: float, delta: float, delta_coverage: float, cells: str,
    policies: int, training_tasks: int, holdout: int, seed: int, workers: int, out: Path, as_json: bool, no_figures: bool,
) -> None:  # fmt: skip
    """What every trust level gives up as more parameters are unknown: grids with 1, 2, 4, 7 and 15 unknown noises.

    Each number is trained, certified, rehearsed and played on fresh tasks. A level whose certificate cannot be had is left out of its line. The same
    call goes on where it was interrupted.
    """
    from surefoot.report.unknowns import render_unknowns

    if not no_figures:
        from surefoot.report.style import require_matplotlib

        require_matplotlib()
    from surefoot.experiments.unknowns.run import reproduce

    summary = reproduce(
        out, unknowns=_wholes("unknowns", unknowns), tasks=tasks, episodes=episodes, plants=plants, alpha=alpha, p_max=p_max, delta=delta,
        delta_coverage=delta_coverage, cells=_wholes("cells", cells), policies=policies, training_tasks=training_tasks, holdout=holdout,
        seed=seed, workers=workers, progress=not as_json,
    )  # fmt: skip
    written = [out / "summary.json"]
    if not no_figures:
        from surefoot.report.unknowns_figure import draw_unknowns

        written.append(draw_unknowns(out))
    click.echo(json.dumps(summary) if as_json else render_unknowns(summary))
    if not as_json:
        click.echo("\nwritten: " + "  ".join(str(path) for path in written))


def world_options(episodes: int, plants: int, runs: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What every world's command takes, with its defaults."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(
            [
                click.option("--episodes", default=episodes, show_default=True, help="Real episodes per run."),
                click.option("--plants", default=plants, show_default=True, help="Fresh plants that are rehearsed on."),
                click.option("--runs", default=runs, show_default=True, help="Fresh plants that are deployed on."),
                click.option("--outside-runs", default=20, show_default=True, help="Plants per way of being outside the family; 0: none."),
                click.option("--alpha", default=0.05, show_default=True, help="Share of rehearsed deployments that may violate."),
                click.option("--delta", default=0.05, show_default=True, help="Error probability of the other deployments."),
                click.option("--delta-coverage", default=0.05, show_default=True, help="Error of the rehearsal and, separately, of hold-outs."),
                click.option("--seed", default=0, show_default=True, help="Of all random draws."),
                options.workers,
                click.option("--out", required=True, type=click.Path(path_type=Path), help="New directory for the log."),
                click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON instead of tables."),
            ]
        ):  # fmt: skip
            function = option(function)
        return function

    return decorate


def run_world(world: Any, out: Path, as_json: bool, **sizes: Any) -> None:
    """Run a world with these sizes and print its tables."""
    from surefoot.experiments.worlds import Sizes, reproduce_world
    from surefoot.report.worlds import render_world

    summary = reproduce_world(world, out, Sizes(**sizes, progress=not as_json))
    click.echo(json.dumps(summary) if as_json else f"{render_world(summary)}\n\nwritten: {out / 'summary.json'}")


@command.command(name="sepsis")
@world_options(episodes=500, plants=100, runs=100)
def sepsis(out: Path, as_json: bool, **sizes: Any) -> None:
    """Treatment of sepsis on the kernel of the package icu-sepsis: every trust level, and realities outside the family.

    716 states, 25 actions, six unknowns per hospital; survival with a limit on fluids. Needs the extra [sepsis].
    """
    from surefoot.experiments.worlds.sepsis import sepsis_world

    run_world(sepsis_world(), out, as_json, **sizes)


@command.command(name="diabetes")
@world_options(episodes=120, plants=75, runs=60)
def diabetes(out: Path, as_json: bool, **sizes: Any) -> None:
    """A pump's settings for a patient with type-1 diabetes: every trust level, and realities outside the family.

    The model of Hovorka et al. 2004 with eight unknowns; time in range with a limit on time below 70 mg/dl. Needs the extra [gym].
    """
    from surefoot.experiments.worlds.diabetes import diabetes_world

    run_world(diabetes_world(), out, as_json, **sizes)


def _numbers(name: str, given: str, size: int | None = None) -> tuple[float, ...]:
    """The numbers on a comma-separated list."""
    from surefoot.errors import InvalidInput

    try:
        values = tuple(float(part) for part in given.split(","))
    except ValueError:
        values = ()
    if not values or (size is not None and len(values) != size):
        wanted = "numbers" if size is None else f"{size} numbers"
        raise InvalidInput(
            f"{name} must be {wanted} with commas between them, got {given!r}; e.g. 0.2,0.1", code="SF-ARGUMENT-SYNTAX"
        )
    return values


def _wholes(name: str, given: str) -> tuple[int, ...]:
    """The whole numbers on a comma-separated list."""
    from surefoot.errors import InvalidInput

    try:
        return tuple(int(part) for part in given.split(","))
    except ValueError:
        raise InvalidInput(
            f"{name} must be whole numbers with commas between them, got {given!r}; e.g. 2,4", code="SF-ARGUMENT-SYNTAX"
        ) from None


def _whole(name: str, value: float) -> int:
    from surefoot.errors import InvalidInput

    if not value.is_integer():
        raise InvalidInput(
            f"{name} must hold whole numbers of tasks, got {value:g}; e.g. 4,8,16", code="SF-ARGUMENT-TYPE"
        )
    return int(value)


def _names(given: str, default: tuple[str, ...], everything: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The names on a comma-separated list; ``default`` stands for those that are run without one, ``all`` for ``everything``."""
    if given == "all" and everything is not None:
        return everything
    return default if given == "default" else tuple(name.strip() for name in given.split(","))
