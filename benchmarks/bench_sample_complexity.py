"""Theorem T9 beside measured counts, Corollary 4.3 of the paper and the lower bound; run from the repository's root.

    python benchmarks/bench_sample_complexity.py [--runs 10] [--cells 60] [--episodes 40000] [--json]

*Hard instance* (Ni & Kamgarpour 2026, Theorem 5.1), one row per setting: the bound of T9 on the number of episodes that are not eps-optimal, for the
task that is worst for it; the largest number of such episodes in R runs on that task; the factor between the two; Corollary 4.3 without its constant
and Safe-PCE with the constants of its proof (noise-free schedule); what no agent can do without (change of measure), and the theorem's expression.

*Gridworld*: the same for some noises, several eps, with transitions and without; regret of K episodes against the bound that T9 gives, and against
never adapting. Corollary 4.3 without its constant, with one candidate per cell. The lower bound is about other tasks.

Runs in which the true cell was rejected are left out and counted: T9, like T5, says nothing about them, and they are at most a share delta.
Agents are ``cells`` with the ramp off (T9's main case) and with the default. Infinite: the cells are too wide for this eps.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot import CertifiedAgent, PolicySet, TabularCMDP, train
from surefoot.experiments.lower_bound.analytic import (
    cover_radius,
    information_floor,
    lipschitz,
    noise_free_episodes,
    theorem_episodes,
    upper_bound_episodes,
)
from surefoot.experiments.lower_bound.listed import listed_set
from surefoot.experiments.lower_bound.run import Setting
from surefoot.experiments.runner import play
from surefoot.planning.sample_complexity import RealTask, Use, sample_complexity
from surefoot.stats import hoeffding
from surefoot.tasks import NoisyGridworld
from surefoot.text_table import text_table

DELTA = 0.05
BATCH = 100
SETTINGS = (Setting(), Setting(accuracy=0.3), Setting(margin=1.0), Setting(tasks=8), Setting(horizon=5.0))
NOISES = (0.25, 0.31, 0.35)
ACCURACIES = (2.0, 1.0, 0.5, 0.3)
RAMPS = (0, 50)


@dataclass(frozen=True, eq=False)
class Run:
    """One deployment.

    Attributes:
        sizes: (T,) episodes of each batch.
        gap: (T,) what each of its mixtures gives up.
        outside: whether the true cell was ever rejected. T9, like T5, leaves such runs out: they are at most a share delta.
    """

    sizes: Any
    gap: Any
    outside: bool

    @staticmethod
    def of(
        policy_set: PolicySet, task: TabularCMDP, cell: int, optimum: float, episodes: int, seed: int, **options: Any
    ) -> Run:
        """Play it."""
        agent = CertifiedAgent(policy_set, delta=DELTA, seed=seed, **options)
        trace = play(agent, task, episodes, seed, largest_batch=BATCH)
        return Run(np.diff(np.r_[0, trace.ends]), optimum - trace.reward, bool(agent.ever_rejected[cell]))

    def count(self, eps: float) -> int:
        """Episodes that are not eps-optimal."""
        return int(self.sizes[self.gap > eps].sum())


def hard(setting: Setting, runs: int) -> dict[str, Any]:
    """One row about the hard instance."""
    family = setting.family()
    policy_set = listed_set(family, radius=cover_radius(family), delta=DELTA, seed=0)
    eps, use = family.accuracy * (1.0 + 1e-9), Use(delta=DELTA, pending=BATCH)
    found = [
        sample_complexity(policy_set, RealTask.of(family.cmdp(float(t)), policy_set), use)
        for t in range(family.n_tasks)
    ]
    bounds = [bound.episodes(eps) for bound in found]
    worst = int(np.argmax(bounds))
    task = family.cmdp(float(worst))
    length = max(50_000, math.ceil(0.025 * theorem_episodes(family)))
    measured, outside = {}, 0
    for ramp in RAMPS:
        played = [
            Run.of(policy_set, task, found[worst].cell, family.optimal_value(worst), length, seed, ramp=ramp)
            for seed in range(runs)
        ]
        measured[ramp] = max((run.count(eps) for run in played if not run.outside), default=0)
        outside = max(outside, sum(run.outside for run in played))

    def good(value: float, costs: Any) -> bool:
        return bool(
            value >= family.optimal_value(worst) - eps and (costs <= family.criterion.cost_limits * (1 + 1e-9)).all()
        )

    return {
        "setting": f"eps {setting.accuracy:g}, xi {setting.margin:g}, C {setting.tasks}, horizon {setting.horizon:g}",
        "bound": bounds[worst],
        "measured": measured[0],
        "with the ramp": measured[50],
        "true cell rejected": outside,
        "factor": bounds[worst] / max(measured[0], 1),
        "Corollary 4.3, constant 1": upper_bound_episodes(family, DELTA),
        "Safe-PCE, its constants": noise_free_episodes(policy_set, task, good, delta=DELTA, safe_start=True),
        "floor": information_floor(family, DELTA),
        "Theorem 5.1, constant 1": theorem_episodes(family),
    }


def corollary(policy_set: PolicySet, eps: float) -> float:
    """Corollary 4.3 without its constant, at the paper's units and one candidate per cell."""
    criterion, n = policy_set.criterion, len(policy_set.cells)
    width = criterion.reward_bounds[1] - criterion.reward_bounds[0]
    slack, accuracy = float(criterion.slack(criterion.cost_limits - policy_set.safe_margin).min()), eps / width
    windows = n * (
        hoeffding.last_level(slack, slack / (8.0 * lipschitz(criterion.discount) + 18.0), lipschitz(criterion.discount))
        + 2
    )
    episodes = 1e9
    for _ in range(50):
        log = hoeffding.log_term(math.ceil(episodes), windows, criterion.n_constraints, DELTA)
        episodes = n * log / (slack * accuracy * (1.0 - criterion.discount) ** 2) ** 2
    return episodes


def gridworld(cells: int, noise: float, runs: int, episodes: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows about counts, and about regret."""
    family = NoisyGridworld()
    policy_set = train(family, tasks=500, cells=cells, holdout=500, seed=0, progress=False)
    task = family.cmdp([noise])
    truth = RealTask.of(task, policy_set)
    counts, regrets = [], []
    for evidence in ("all", "returns"):
        bounds = {
            ramp: sample_complexity(policy_set, truth, Use(delta=DELTA, evidence=evidence, pending=BATCH, ramp=ramp))
            for ramp in RAMPS
        }
        seen: dict[int, list[Run]] = {}
        for ramp in RAMPS:
            played = [
                Run.of(policy_set, task, bounds[ramp].cell, truth.optimum, episodes, seed, evidence=evidence, ramp=ramp)
                for seed in range(runs)
            ]
            seen[ramp] = [run for run in played if not run.outside]
        for eps in ACCURACIES:
            found = {ramp: max((run.count(eps) for run in seen[ramp]), default=0) for ramp in RAMPS}
            bound = {ramp: bounds[ramp].episodes(eps) for ramp in RAMPS}
            counts.append({
                "noise": noise, "evidence": evidence, "eps": eps, "bound": bound[0], "measured": found[0],
                "factor": bound[0] / max(found[0], 1), "bound, ramp": bound[50], "measured, ramp": found[50],
                "Corollary 4.3, constant 1": corollary(policy_set, eps),
            })  # fmt: skip
        for ramp in RAMPS:
            most = max((float(run.sizes @ run.gap) for run in seen[ramp]), default=0.0)
            bound_now = bounds[ramp].regret(episodes)
            regrets.append({
                "noise": noise, "evidence": evidence, "ramp": ramp, "episodes": episodes, "bound": bound_now, "measured": most,
                "factor": bound_now / max(most, 1.0), "never adapting": episodes * (truth.optimum - float(truth.returns[0])),
            })  # fmt: skip
    return counts, regrets


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--episodes", type=int, default=40_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"hard instance": [hard(setting, options.runs) for setting in SETTINGS]}
    for noise in NOISES:
        counts, regrets = gridworld(options.cells, noise, options.runs, options.episodes)
        found.setdefault("gridworld: episodes that are not eps-optimal", []).extend(counts)
        found.setdefault("gridworld: regret", []).extend(regrets)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1).replace("Infinity", "null") + "\n")
        return 0
    for title, rows in found.items():
        table = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
        sys.stdout.write("\n".join(["", f"{title}; largest of {options.runs} runs", "", *text_table(table), ""]))
    return 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


if __name__ == "__main__":
    sys.exit(main())
