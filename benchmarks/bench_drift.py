"""Plants that change: how often the detectors alarm without cause, and how long they take after a step and after a slow drift of a parameter.

    python benchmarks/bench_drift.py [--families gridworld admission inventory] [--trust cells] [--detectors monitor costs outcomes] [--runs 5]
                                     [--before 5000] [--after 20000] [--false-alarm-runs 200] [--every 100000]

False alarms: costs of real episodes of a mixture whose mean cost is the limit exactly (the hardest that meets it), drawn anew from a pool of
simulated episodes per family; reported are the mean run length, cut off at four times c, which makes it smaller, and its standard error.

Delays: a certified agent meets a task for so many episodes; then the family's parameters move by one standard deviation of the prior in the
direction in which the mixture that it plays costs more, at once (``step``) or evenly over 5 000 episodes (``slow``). Reported, for each detector
alone beside the monitor: in how many runs an alarm came, how many episodes after the change began (median of those), how many episodes were
drawn from a mixture above a limit, from the change to the alarm or the end, and by how much at most. Every mixture is judged exactly in the task of
the moment.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import surefoot as sf
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.simulate import Simulator
from surefoot.deploy.monitor import monitor_bets
from surefoot.kernels import compiled
from surefoot.policyset.schema import PolicySet
from surefoot.tasks.catalogue import make_family
from surefoot.tasks.family import TabularFamily

BATCH, SLOW, STEPS = 100, 5000, 10
"""Episodes asked at once; episodes of a slow drift, and in how many small steps it comes."""
DETECTORS: dict[str, dict[str, float]] = {
    "monitor": {"false_alarm_every": 0.0},
    "costs": {"false_alarm_every": 1e5},
    "outcomes": {"false_alarm_every": 0.0, "false_change_every": 1e5},
}
"""Which detector runs beside the monitor."""


def say(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tables_of(policy_set: PolicySet) -> Any:
    """(J, S, A) of the library."""
    return np.stack([policy.table for policy in policy_set.policies])  # type: ignore[union-attr]


def costs_at_the_limit(policy_set: PolicySet, family: TabularFamily) -> Any:
    """(2, n) pools of real costs, in units of the limit, of two policies, and the weight at which their mixture costs 1 exactly on average."""
    task = family.cmdp(family.sample(1, np.random.default_rng(1))[0])
    tables = tables_of(policy_set)
    dear = int(evaluate_many(task, tables)[:, 1].argmax())
    simulator = Simulator(task, tables)
    pools = [simulator.run(np.full(20_000, j), seed=j).costs[:, 0] for j in (0, dear)]
    pools = [pool / task.cost_limits[0] for pool in pools]
    cheap, much = (float(pool.mean()) for pool in pools)
    if much <= 1.0:  # no policy of the library exceeds the limit here: a limit that the dearest one meets exactly
        return np.array(pools) / much, 1.0
    return np.array(pools), (1.0 - cheap) / (much - cheap)


@compiled
def run_lengths(pools: Any, weight: float, every: float, runs: int, bets: Any) -> Any:
    """(runs,) episodes until a false alarm of the detector of costs, at most four times c; bets (K,) for costs (2, n) in units of the limit."""
    np.random.seed(0)  # noqa: NPY002
    longest = int(4 * every)
    found = np.full(runs, longest)
    for run in range(runs):
        values = np.zeros(bets.size)
        for k in range(longest):
            drawn = 1 if np.random.random() < weight else 0  # noqa: NPY002
            cost = pools[drawn, np.random.randint(pools.shape[1])]  # noqa: NPY002
            values = (1.0 + bets * (cost - 1.0)) * (1.0 + values)
            if values.mean() >= every:
                found[run] = k + 1
                break
    return found


class Plant:
    """A task that moves by one standard deviation of the prior, in the direction in which weights (J,) cost more."""

    def __init__(self, policy_set: PolicySet, family: TabularFamily, start: Any) -> None:
        self._family, self._tables, self._start = family, tables_of(policy_set), start
        drawn = family.sample(2000, np.random.default_rng(0))
        self._sd, (self._low, self._high) = drawn.std(axis=0), np.asarray(family.support).reshape(-1, 2).T
        self._ends: Any = start
        self._made: dict[int, Any] = {}

    def aim(self, weights: Any) -> None:
        """Choose the direction."""
        ends = [np.clip(self._start + sign * self._sd, self._low, self._high) for sign in (-1.0, 1.0)]
        costs = [weights @ evaluate_many(self._family.cmdp(end), self._tables)[:, 1] for end in ends]
        self._ends = ends[int(np.argmax(costs))]

    def at(self, share: float) -> tuple[Any, Simulator, Any]:
        """Values (J, 1+I), simulator and limits once this share of the way is gone."""
        step = round(STEPS * share)
        if step not in self._made:
            task = self._family.cmdp(self._start + step / STEPS * (self._ends - self._start))
            self._made[step] = evaluate_many(task, self._tables), Simulator(task, self._tables), task.cost_limits
        return self._made[step]


def one_run(
    policy_set: PolicySet, family: TabularFamily, given: argparse.Namespace, detector: str, kind: str, run: int
) -> Any:
    """Episodes from the change to the alarm (``None``: none came), violating episodes in that time and before it, and the
    largest excess as a share of the limit."""
    rng = np.random.default_rng([7, run])
    plant = Plant(policy_set, family, family.sample(1, rng)[0])
    agent = sf.CertifiedAgent(
        policy_set, trust=given.trust, evidence="returns", p_max=0.9, seed=run, **DETECTORS[detector]  # type: ignore[arg-type]
    )  # fmt: skip
    played, early, late, excess = 0, 0, 0, 0.0
    while played < given.before + given.after:
        if played == given.before:
            plant.aim(agent.weights)
        since = played - given.before
        share = 0.0 if since < 0 else 1.0 if kind == "step" else min(1.0, since / SLOW)
        values, simulator, limits = plant.at(share)
        asked = agent.ask(BATCH)
        above = float((asked.weights @ values[:, 1:] / limits).max()) - 1.0
        bad, excess = BATCH * int(above > 1e-9), max(excess, above)
        early, late = early + bad * (since < 0), late + bad * (since >= 0)
        outcome = simulator.run(asked.policy_index, seed=run, first_episode=played)
        agent.tell(asked.ids, outcome.returns, outcome.costs, initial_state=outcome.initial_states)
        played += BATCH
        if agent.alarm is not None:
            return played - given.before, late, early, excess
    return None, late, early, excess


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=["gridworld", "admission", "inventory"])
    parser.add_argument("--trust", default="cells")
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--before", type=int, default=5000)
    parser.add_argument("--after", type=int, default=20_000)
    parser.add_argument("--false-alarm-runs", type=int, default=200)
    parser.add_argument("--every", type=float, default=1e5)
    given = parser.parse_args()
    for name in given.families:
        family = make_family(name)
        policy_set = sf.train(family, tasks=150, holdout=150, cells=20, policies=10, seed=0, progress=False)
        if given.false_alarm_runs:
            pools, weight = costs_at_the_limit(policy_set, family)
            found = run_lengths(
                pools, weight, given.every, given.false_alarm_runs, monitor_bets(np.ones(1), np.ones(1))[0]
            )
            error = found.std() / np.sqrt(found.size)
            within = [float(np.mean(found <= share * given.every)) for share in (0.1, 0.5)]
            say(
                f"{name}: mean run length at the limit {found.mean():.0f} +- {error:.0f} over {found.size} runs, stated {given.every:g}; "
                f"false alarms within c/10 and c/2 episodes: {within[0]:.1%} and {within[1]:.1%} (promised at most 10% and 50%)"
            )
        for kind in ("step", "slow"):
            for detector in given.detectors:
                runs = [one_run(policy_set, family, given, detector, kind, run) for run in range(given.runs)]
                delays = [delay for delay, *_ in runs if delay is not None and delay > 0]
                wrong = sum(delay is not None and delay <= 0 for delay, *_ in runs)
                median = f"median {np.median(delays):.0f} episodes after it began" if delays else "never"
                early, late = (np.mean([row[k] for row in runs]) for k in (2, 1))
                say(
                    f"{name}, {kind}, {detector}: alarm in {len(delays)} of {given.runs} runs, {median}; alarms before the change: {wrong}; "
                    f"violating episodes per run before the change {early:.0f}, from it to the alarm or the end {late:.0f}, by at most "
                    f"{max(row[3] for row in runs):.1%} of the limit"
                )


if __name__ == "__main__":
    main()
