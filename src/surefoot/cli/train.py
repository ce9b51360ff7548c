"""``surefoot train``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from surefoot.cli import options


@click.command(name="train")
@click.argument("family")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Policy-set file to write; it must not exist."
)
@click.option("--tasks", default=500, show_default=True, help="Fresh training tasks.")
@click.option("--holdout", default=200, show_default=True, help="Fresh tasks that judge the finished cells.")
@click.option(
    "--cells", default="30", show_default=True,
    help="Largest number of cells; 'auto': as many as the training tasks support for --p-max; 'none': one, and a belief to rehearse with.",
)  # fmt: skip
@click.option(
    "--policies", default=None, type=int, help="Size of the library besides the safe policy; default one per cell."
)
@click.option("--delta", default=0.05, show_default=True, help="Error probability of the hold-out certificate.")
@click.option("--p-max", default=0.05, show_default=True, help="With --cells auto: the uncovered share to be excluded.")
@click.option(
    "--previous",
    type=click.Path(path_type=Path),
    help="Policy set whose hold-out was seen last: the new one is counted as the next look.",
)
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@options.workers
@click.option(
    "--lenient", is_flag=True, help="Leave tasks that break the assumption uncovered instead of refusing to train."
)
@click.option("--json", "as_json", is_flag=True, help="Print the description as JSON.")
def command(
    family: str,
    out: Path,
    tasks: int,
    holdout: int,
    cells: str,
    policies: int | None,
    delta: float,
    p_max: float,
    previous: Path | None,
    seed: int,
    workers: int,
    lenient: bool,
    as_json: bool,
) -> None:
    """Train a policy set on FAMILY and write it to a file.

    FAMILY is gridworld, gridworld-published, another built-in family (zoned-gridworld:4, lake, ...), or MODULE:NAME of your own.

    Training again because of what a hold-out showed? Name that policy set with --previous.

    \b
    Example:  surefoot train gridworld --cells 30 --out gridworld.sf
    """
    from surefoot.cli.families import find_family
    from surefoot.cli.show import describe_text
    from surefoot.errors import OutputExists
    from surefoot.policyset.file import describe, load
    from surefoot.training.pipeline import train

    if out.exists():
        raise OutputExists(f"out must be a new file, got {out}, which exists; choose another name")
    world = find_family(family)
    policy_set = train(
        world,
        tasks=tasks,
        holdout=holdout,
        cells=None if cells == "none" else int(cells) if cells.lstrip("-").isdecimal() else cells,  # type: ignore[arg-type]
        policies=policies,
        delta=delta,
        p_max=p_max,
        previous=None if previous is None else load(previous),
        seed=seed,
        workers=workers,
        strict=not lenient,
    )
    policy_set.save(out)
    click.echo(json.dumps(describe(policy_set)) if as_json else describe_text(policy_set))
