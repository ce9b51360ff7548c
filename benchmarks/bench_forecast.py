"""How far off forecasts are; run from the repository's root.

    python benchmarks/bench_forecast.py [--cells 60] [--runs 30] [--episodes 20000] [--workers 1] [--json]

Three times the same deployments of one policy set for the gridworld: on what the set's predictions make (the forecast), on the true tasks
at the centres of the same cells, and on fresh tasks of the family. Nothing is timed; what is compared are episodes until a goal.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from surefoot import PolicySet, TabularPolicy, solve, train
from surefoot.experiments.comparison import fresh_tasks
from surefoot.planning.forecast import TRUST_LEVELS, ForecastSettings, _cell, _seeds, _summary, deploy_once, forecast
from surefoot.planning.plants import Rollouts
from surefoot.tasks import NoisyGridworld
from surefoot.text_table import text_table

GOALS = {"half": "half the weight", "optimal": "within 10%"}


def on_true_tasks(policy_set: PolicySet, parameters: Any, settings: ForecastSettings) -> dict[str, Any]:
    """The forecast's summary by trust level, from the tasks themselves."""
    family, runs = NoisyGridworld(), {level: [] for level in TRUST_LEVELS}  # type: ignore[var-annotated]
    tables = np.stack([policy.table for policy in policy_set.policies if isinstance(policy, TabularPolicy)])
    for run, point in enumerate(parameters):
        task = family.cmdp(point)
        plant, best = Rollouts(task, tables), float(solve(task).value)
        for level in TRUST_LEVELS:
            agent = settings.agent(policy_set, level, settings.evidence, _seeds(settings.seed, run)[1])
            runs[level].append(deploy_once(agent, plant, best, settings, run))
    return {level: _summary(found) for level, found in runs.items()}


def main() -> None:
    """Print the table, or everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("cells", 60), ("runs", 30), ("episodes", 20_000), ("workers", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    policy_set = train(NoisyGridworld(), cells=given.cells, seed=0)
    settings = ForecastSettings(runs=given.runs, episodes=given.episodes)
    expected = forecast(policy_set, settings=settings, workers=given.workers)["trust"]
    same = policy_set.cells.parameters[[run["cell"] for run in expected["cells"]["runs"]]]
    found = {
        "forecast": expected,
        "true tasks, same cells": on_true_tasks(policy_set, same, settings),
        "fresh tasks": on_true_tasks(policy_set, fresh_tasks(NoisyGridworld(), given.runs, 0), settings),
    }
    if given.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    rows = [["trust", "goal", *found]]
    for level in TRUST_LEVELS:
        for goal, shown in GOALS.items():
            rows.append([level, shown, *(_cell(part[level][goal], given.episodes) for part in found.values())])
    sys.stdout.write("\n".join(text_table(rows, left=(0, 1))) + "\n")


if __name__ == "__main__":
    main()
