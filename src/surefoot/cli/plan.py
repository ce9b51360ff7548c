"""``surefoot plan``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from surefoot.cli import options
from surefoot.cli.options import ceilings_of, policy_ceiling


@click.command(name="plan")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--trust", "trust", multiple=True, type=click.Choice(["cells", "envelope", "data", "rehearsed"]),
    help="Trust level; may be given several times. By default all but 'rehearsed', which tells what its rehearsal found.",
)  # fmt: skip
@click.option("--runs", default=30, show_default=True, help="Simulated deployments per trust level.")
@click.option("--episodes", default=20_000, show_default=True, help="Episodes after which one is given up.")
@click.option(
    "--eps", default=0.1, show_default=True, help="Share of the gain over the safe policy that may be missing."
)
@click.option("--delta", default=0.05, show_default=True, help="Error probability of the deployment.")
@click.option(
    "--evidence", default="all", show_default=True, type=click.Choice(["all", "returns"]),
    help="What the plant will report besides returns and costs: 'all' with transitions, 'returns' without.",
)  # fmt: skip
@click.option(
    "--margin", type=float, help="The safe policy's margin in the real task; by default what training verified."
)
@click.option(
    "--cost-ceiling", "ceilings", type=float, multiple=True, help="Largest possible episode cost, once per constraint."
)
@policy_ceiling
@click.option("--p-max", default=0.05, show_default=True, help="Largest uncovered share of the family under 'cells'.")
@click.option(
    "--delta-coverage", default=0.05, show_default=True, help="Error probability of the hold-out certificate."
)
@click.option("--ramp", type=int, help="Episodes that compare the safe policy with simulation first.  [default: 50]")
@click.option(
    "--history",
    default=0,
    show_default=True,
    help="Logged episodes of today's controller that you will give at the start.",
)
@click.option(
    "--spread", type=float,
    help="Where episodes cannot be simulated step by step: standard deviation of outcomes, as a share of the largest possible. "
    "[default: what simulation measured, or 0.3]",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Of all random draws.")
@options.workers
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON instead of a table.")
def command(
    path: Path, trust: tuple[str, ...], runs: int, episodes: int, eps: float, delta: float, evidence: str,
    margin: float | None, ceilings: tuple[float, ...], own_ceilings: tuple[str, ...], p_max: float,
    delta_coverage: float, ramp: int | None, history: int, spread: float | None, seed: int, workers: int, as_json: bool,
) -> None:  # fmt: skip
    """Forecast how many real episodes the policy set in the file PATH will need.

    The agent is deployed on episodes made from the set's own predictions, with the truth at the centre of one cell after the other. No plant and no
    simulator is needed. A trust level that the agent refuses is listed with the reason.

    \b
    Example:  surefoot plan heater.sf --trust cells --workers 2
    """
    from surefoot.deploy.ramp import RAMP
    from surefoot.planning.forecast import TRUST_LEVELS, ForecastSettings, forecast, render_forecast
    from surefoot.policyset.file import load

    policy_set = load(path)
    settings = ForecastSettings(
        runs=runs, episodes=episodes, eps=eps, delta=delta, evidence=evidence, margin=margin,
        cost_ceilings=ceilings_of(ceilings, own_ceilings, len(policy_set.policies)), p_max=p_max, delta_coverage=delta_coverage,
        spread=spread, seed=seed, ramp=RAMP if ramp is None else ramp, history=history,
    )  # fmt: skip
    found = forecast(policy_set, trust or TRUST_LEVELS, settings, workers=workers, progress=not as_json)
    click.echo(json.dumps(found) if as_json else render_forecast(found))
