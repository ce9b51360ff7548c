"""``surefoot calibrate``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from surefoot.cli import options
from surefoot.text_table import text_table


@click.command(name="calibrate")
@click.option("--agents", required=True, help="Comma-separated names without presets, e.g. dope,optpess-lp.")
@click.option(
    "--family",
    default="gridworld",
    show_default=True,
    help="gridworld, gridworld-published, another built-in family, or MODULE:NAME of your own.",
)
@click.option("--episodes", default=40_000, show_default=True, help="Episodes per task and multiplier.")
@click.option("--tasks", default=4, show_default=True, help="Training tasks.")
@click.option("--cells", default=60, show_default=True, help="Largest number of cells of the policy set.")
@click.option("--policies", default=30, show_default=True, help="Size of its library besides the safe policy.")
@click.option("--policy-set-tasks", default=500, show_default=True, help="Fresh tasks that it is trained on.")
@click.option("--delta", default=0.05, show_default=True, help="Error probability of the deployment.")
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@options.workers
@click.option(
    "--out",
    default="calibrated.json",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Table to merge the answer into; entries of other agents and families stay.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the entries as JSON instead of a table.")
def command(
    agents: str, family: str, episodes: int, tasks: int, cells: int, policies: int, policy_set_tasks: int, delta: float, seed: int,
    workers: int, out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Choose the multiplier of an agent's calibrated preset on training tasks.

    Every agent gets the same budget: thirteen multipliers from 1e-6 to 1, each on the same training tasks. Chosen is the smallest mean regret among
    multipliers without a violating episode; ties go to the largest. What was chosen is given to an agent in its name: dope:calibrated=0.001.

    \b
    Example:  surefoot calibrate --agents dope,dope-plus,optpess-lp --workers 2
    """
    from surefoot.cli.families import find_family
    from surefoot.experiments.calibrate import Search, calibrate, merge

    world = find_family(family)
    names = [name.strip() for name in agents.split(",")]
    search = Search(
        tasks=tasks, episodes=episodes, delta=delta, cells=cells, policies=policies, policy_set_tasks=policy_set_tasks, seed=seed
    )  # fmt: skip
    entries = calibrate(world, names, search, workers=workers, progress=not as_json)
    merge(out, world.name, entries)
    click.echo(json.dumps(entries) if as_json else "\n".join(_lines(entries)))
    if not as_json:
        found = ", ".join(f"{agent}:calibrated={entry['multiplier']:g}" for agent, entry in entries.items())
        click.echo(f"\nto be named as: {found}\nwritten: {out}")


def _lines(entries: dict[str, dict[str, object]]) -> list[str]:
    lines = [["agent", "multiplier", "mean regret", "violating episodes", ""]]
    for agent, entry in entries.items():
        rows: list[tuple[str, dict[str, object]]] = [("always-safe", entry["always_safe"])]  # type: ignore[list-item]
        rows += [(f"{row['multiplier']:g}", row) for row in entry["table"]]  # type: ignore[attr-defined]
        for label, row in rows:
            chosen = "chosen" if row.get("multiplier") == entry["multiplier"] else ""
            total = sum(row["violating_episodes"])  # type: ignore[call-overload]
            lines.append([agent, label, f"{row['mean_regret']:,.0f}", f"{total:,}", chosen])
    return text_table(lines, left=(0, 4))
