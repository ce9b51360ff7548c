"""Simulated values within one training: what is asked for, what it cost, and what is said about it.

Letters: T tasks, p parameters, J policies, I constraints, X signals, Q = 1+I+X.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, check_integer
from surefoot.errors import InvalidInput
from surefoot.gym.checkpoint import Checkpoint
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import RolloutWorker
from surefoot.gym.values import Estimates, Widths, episodes_for, estimate
from surefoot.gym.workload import Workload, least_episodes, measure_workload, tried_corners
from surefoot.training.boxes import INFLATION, keeps_margin
from surefoot.training.cells import extrapolated_tasks

__all__ = ["CORNER_PARAMETERS", "SLACK", "Budget", "DrawnTasks", "SimulatedValues"]

SLACK = 0.5
"""Cells are widened by this share of the largest interval: a member's interval reaches beyond its value by about half of it already."""
CORNER_PARAMETERS = 3
ANNOUNCED = 2.0
"""Seconds from which on a training is announced."""


@dataclass(frozen=True, eq=False)
class Budget:
    """How values are simulated; ``alpha`` is the level of one task."""

    widths: Widths
    max_episodes: int
    alpha: float
    seed: int
    workers: int
    progress: bool
    failed_share: float


@dataclass(frozen=True, eq=False)
class DrawnTasks:
    """Parameters that are simulated before cells are made: T sampled tasks, extrapolated tasks with their hosts among them, tasks outside.

    Extrapolated tasks and tasks outside do not depend on the cells, so one batch of shared episodes serves them all.
    """

    tasks: FloatArray
    extrapolated: FloatArray
    hosts: IntArray
    outside: FloatArray

    @staticmethod
    def of(family: GymFamily, parameters: FloatArray, outside: Any) -> DrawnTasks:
        extrapolated, hosts = extrapolated_tasks(parameters, np.arange(len(parameters)), family.support)
        far = np.zeros((0, family.n_parameters)) if outside is None else np.asarray(outside, dtype=np.float64)
        if far.ndim != 2 or far.shape[1] != family.n_parameters or not np.isfinite(far).all():
            raise InvalidInput(
                f"outside must have shape (M, {family.n_parameters}) and be finite, got {far.shape}; one row per task",
                code="SF-ARGUMENT-SHAPE",
            )
        return DrawnTasks(parameters, extrapolated, hosts, far)

    @property
    def everything(self) -> FloatArray:
        """(T + 2p + M, p)."""
        return np.concatenate([self.tasks, self.extrapolated, self.outside])


class SimulatedValues:
    """Values of a library in tasks of a family, and what was spent on them.

    Args:
        family: where the tasks come from.
        policies: J, the safe one first.
        budget: how values are simulated.
        margin: of the safe policy, as stated by the user.
        boxes: whether cells are to tell tasks apart. Without, intervals may be wide: a task is refused only if it surely breaks the assumption.
    """

    def __init__(
        self, family: GymFamily, policies: tuple[Any, ...], budget: Budget, margin: float | None, boxes: bool = True
    ) -> None:
        self.family, self.policies, self.budget, self.margin, self.boxes = family, policies, budget, margin, boxes
        self.limits = family.criterion.cost_limits
        self.spent: dict[str, int] = {}
        self.narrow: dict[str, float] = {}
        self.widest: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, dict[str, Any]] = {}
        self.spread: list[float] = []
        self.checkpoint: Checkpoint | None = None

    def refuse_hopeless(self) -> None:
        """Refuse a budget at which no margin can be shown, whatever the simulator does.

        Raises:
            InvalidInput: names the smallest that will do.
        """
        budget = self.budget
        least = least_episodes(
            self.family, len(self.policies), alpha=budget.alpha, margin=self.margin, slack=INFLATION + SLACK
        )
        if least is not None and check_integer("max_episodes", budget.max_episodes, low=1) >= least:
            return
        ranges, limits = self.family.ranges()[1][1 : 1 + self.limits.size].tolist(), self.limits.tolist()
        stated = "any margin" if self.margin is None else f"a margin of {self.margin:g}"
        remedy = "no number of episodes will do" if least is None else f"use max_episodes={least} or more"
        raise InvalidInput(
            f"max_episodes must be large enough to show {stated} below the limits {limits} with costs of up to {ranges} per episode, got "
            f"{budget.max_episodes}: even if no episode of the safe policy cost anything, its interval would reach too far; {remedy}, or declare "
            "tighter bounds= on the family",
            code="SF-TRAINING-HOPELESS" if least is None else "SF-TRAINING-BUDGET",
        )

    def workload(self, drawn: DrawnTasks, holdout: int) -> Workload:
        """What the settings imply."""
        budget = self.budget
        return measure_workload(
            self.family, self.policies, drawn.tasks, tasks=len(drawn.everything), holdout=holdout,
            corners=tried_corners(self.family, CORNER_PARAMETERS), budget=budget.max_episodes, alpha=budget.alpha, margin=self.margin,
            slack=INFLATION + SLACK, workers=budget.workers, seed=budget.seed,
        )  # fmt: skip

    def announce(self, drawn: DrawnTasks, holdout: int) -> None:
        """Say what is ahead, where it takes long."""
        found = self.workload(drawn, holdout)
        if found.seconds[1] > ANNOUNCED:
            sys.stderr.write(f"training on {self.family.name}: {found}\n")

    def settings(self, point: FloatArray) -> dict[str, Any]:
        """What decides the results of simulations, beside what every one of them is kept under."""
        family, criterion = self.family, self.family.criterion
        with RolloutWorker(family, point, task=0) as worker:
            probes = [
                worker.run(policy, j, seed=(self.budget.seed, 8), first=0, count=1, tolerant=True)
                for j, policy in enumerate(self.policies)
            ]
        return {
            "family": family.name,
            "parameter_names": list(family.parameter_names),
            "support": [[str(end) for end in row] for row in family.support.tolist()],
            "discount": criterion.discount,
            "horizon": family.horizon,
            "cost_limits": self.limits.tolist(),
            "reward_bounds": list(criterion.reward_bounds),
            **({"functionals": [repr(f) for f in criterion.functionals]} if criterion.functionals else {}),
            "ranges": [end.tolist() for end in family.ranges()],
            "signals": [[s.name, s.reduce] for s in family.signals],
            "shared_episodes": family.shared,
            "policies": [type(policy).__name__ for policy in self.policies],
            "probe": [[p.returns.tolist(), p.costs.tolist(), p.signals.tolist(), p.lengths.tolist()] for p in probes],
            "seed": self.budget.seed,
            "max_episodes": self.budget.max_episodes,
            "widths": self.budget.widths.of(family).tolist(),
            "alpha": self.budget.alpha,
            "failed_share": self.budget.failed_share,
        }

    def estimate(
        self,
        points: FloatArray,
        purpose: int,
        label: str,
        policies: Any = None,
        *,
        seed: int | None = None,
        alpha: float | None = None,
    ) -> Estimates:
        """Values at (T, p); every purpose has episodes of its own, from the training's seed and at its level unless others are given."""
        budget = self.budget
        found = estimate(
            self.family,
            points,
            self.policies if policies is None else policies,
            alpha=budget.alpha if alpha is None else alpha,
            seed=(budget.seed if seed is None else seed, purpose),
            widths=budget.widths,
            max_episodes=budget.max_episodes,
            failed_share=budget.failed_share,
            workers=budget.workers,
            label=label,
            progress=budget.progress,
            checkpoint=self.checkpoint,
        )
        self.spent[label] = found.spent
        self.narrow[label] = float(found.narrow.mean()) if found.narrow.size else 1.0
        self._note(label, found)
        if not self.spread:
            self.spread = _spread(self.family, found)
        return found

    def _note(self, label: str, found: Estimates) -> None:
        """What keeps intervals wide, and what failed; said at once where progress is."""
        said = []
        if found.failed.any():
            n = int((found.failed[0] if found.shared else found.failed).sum())
            self.failed[label] = {"episodes": n, "share": n / max(1, found.spent), "first": found.failure}
            said.append(f"the simulator failed in {n} of {found.spent} episodes, first: {found.failure}")
        if found.narrow.size and not found.narrow.all():
            widest = _widest(self.family, self.budget, found)
            self.widest[label] = widest
            said.append(
                f"{1.0 - self.narrow[label]:.0%} of the intervals are wider than wanted; widest is {widest['quantity']} of policy "
                f"{widest['policy']}, {widest['times']:.3g} times as wide (range {widest['range']:.4g}, deviation {widest['deviation']:.3g}): about "
                f"{widest['episodes']:,} episodes would do, or a tighter range"
            )
        if self.budget.progress:
            for text in said:
                sys.stderr.write(f"{label}: {text}\n")

    def margins(self, values: Estimates) -> FloatArray:
        """(T,) what the safe policy surely keeps below the limits."""
        upper = values.upper[:, 0, 1 : 1 + self.limits.size]
        return np.asarray((self.limits - upper).min(axis=1, initial=np.inf))

    def admits(self, values: Estimates) -> Any:
        """(T,) whether cells may be made from a task: its margin is shown or, without boxes, not refuted."""
        if self.boxes:
            return self.keeps_margin(self.margins(values))
        least = values.lower[:, 0, 1 : 1 + self.limits.size]
        return self.keeps_margin(np.asarray((self.limits - least).min(axis=1, initial=np.inf)))

    def keeps_margin(self, margins: FloatArray) -> Any:
        """(T,) whether that is what was stated, or anything where nothing was."""
        return keeps_margin(margins, self.margin)

    def summary(self, beta: float) -> dict[str, Any]:
        """Plain data for the policy set."""
        return {
            "episodes": dict(self.spent),
            "narrow_share": dict(self.narrow),
            "widest": dict(self.widest),
            "failed": dict(self.failed),
            "level_per_task": self.budget.alpha,
            "beta": beta,
            "shared_episodes": self.family.shared,
            "widths": self.budget.widths.of(self.family).tolist(),
            "max_episodes": self.budget.max_episodes,
            "spread": self.spread,
        }


def _widest(family: GymFamily, budget: Budget, found: Estimates) -> dict[str, Any]:
    """The policy and the quantity whose intervals are the most times wider than wanted, on average over tasks."""
    low, high = family.ranges()
    wanted = budget.widths.of(family)
    times = (found.widths / wanted).mean(axis=0)
    j, q = (int(k) for k in np.unravel_index(times.argmax(), times.shape))
    deviation = float(found.deviation[:, j, q].max())
    names = [
        "the return",
        *(f"cost {name!r}" for name in family.criterion.cost_names),
        *(f"signal {s.name!r}" for s in family.signals),
    ]
    level = found.alpha / (found.widths.shape[1] * low.size)
    needed = episodes_for(wanted[q : q + 1], np.array([deviation]), (high - low)[q : q + 1], level)
    return {
        "policy": j,
        "quantity": names[q],
        "times": float(times[j, q]),
        "range": float(high[q] - low[q]),
        "deviation": deviation,
        "episodes": int(np.ceil(needed[0])),
    }


def _spread(family: GymFamily, values: Estimates) -> list[float]:
    """(Q,) deviations of single episodes as shares of the largest that mean and range allow, over all tasks and policies."""
    low, high = family.ranges()
    largest = ((values.mean - low) * (high - values.mean)).mean(axis=(0, 1))
    shares = np.sqrt((values.deviation**2).mean(axis=(0, 1)) / np.maximum(largest, 1e-300))
    return [float(share) for share in np.clip(shares, 1e-6, 1.0 - 1e-6)]
