"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

__all__ = ["anchor", "ceilings_of", "policy_ceiling", "training_sizes", "workers"]

Command = TypeVar("Command", bound=Callable[..., Any])

anchor = click.option(
    "--anchor",
    envvar="SUREFOOT_ANCHOR",
    metavar="FILE",
    help="A file elsewhere that remembers the last event; a journal that lacks it is refused.  [env: SUREFOOT_ANCHOR]",
)

policy_ceiling = click.option(
    "--policy-ceiling", "own_ceilings", metavar="POLICY:COST,...", multiple=True,
    help="Largest possible episode costs of one policy, lower than --cost-ceiling says, for example 0:3.5; may be given several times.",
)  # fmt: skip


def ceilings_of(ceilings: tuple[float, ...], own: tuple[str, ...], policies: int | None) -> tuple[Any, ...] | None:
    """Declared ceilings: I of all policies, a row of I per policy where some have their own, or ``None``.

    Args:
        ceilings: of all policies.
        own: ``POLICY:COST,...`` each.
        policies: how many there are; ``None`` where no policy set was given.

    Raises:
        UsageError: what cannot be read, names no policy, or has nothing that holds for the others.
    """
    if not own:
        return ceilings or None
    if policies is None:
        raise click.UsageError("--policy-ceiling names a policy of the policy set; give --policy-set too")
    if not ceilings:
        raise click.UsageError(
            "--policy-ceiling lowers --cost-ceiling for one policy; give --cost-ceiling, for all others"
        )
    rows = [list(ceilings) for _ in range(policies)]
    for text in own:
        policy, _, costs = text.partition(":")
        try:
            k, row = int(policy), [float(cost) for cost in costs.split(",")]
        except ValueError:
            k, row = -1, []
        if not 0 <= k < policies or len(row) != len(ceilings):
            raise click.UsageError(
                f"--policy-ceiling must be POLICY:COST,... with a policy from 0 to {policies - 1} and {len(ceilings)} cost(s), got {text!r}"
            )
        rows[k] = row
    return tuple(tuple(row) for row in rows)


def training_sizes(
    *, cells: int, policies: int | None, training_tasks: int, holdout: int
) -> Callable[[Command], Command]:
    """How the policy set of an experiment is trained, and the error probability, with these defaults."""
    beside = "Size of the library besides the safe policy" + ("; default one per cell." if policies is None else ".")
    added = (
        click.option("--cells", default=cells, show_default=True, help="Largest number of cells."),
        click.option("--policies", default=policies, type=int, show_default=policies is not None, help=beside),
        click.option("--training-tasks", default=training_tasks, show_default=True, help="Fresh training tasks."),
        click.option("--holdout", default=holdout, show_default=True, help="Fresh tasks that judge the finished cells."),
        click.option(
            "--delta", default=0.05, show_default=True, help="Error probability of deployment and, separately, of the certificate."
        ),
    )  # fmt: skip

    def decorate(command: Command) -> Command:
        for option in reversed(added):
            command = option(command)
        return command

    return decorate


def workers(command: Command) -> Command:
    """``--workers`` and ``--scheduler``: where everything parallel runs. The command is given ``workers`` alone.

    Raises:
        MissingExtra, ClusterError: see :func:`surefoot.parallel.on_cluster`.
    """

    @click.option("--workers", default=1, show_default=True, help="Processes; results do not depend on it.")
    @click.option(
        "--scheduler", metavar="ADDRESS", help="Of a Dask cluster to run on instead; results do not depend on it."
    )
    @wraps(command)
    def spread(*args: Any, scheduler: str | None, **options: Any) -> Any:
        from surefoot.parallel import on_cluster

        with on_cluster(scheduler):
            return command(*args, **options)

    return spread  # type: ignore[return-value]
