"""How the diabetes world is trained, played and judged (:mod:`surefoot.worlds.diabetes`).

A patient is judged by :data:`DAYS` days that no agent meets, the same for all settings (:func:`surefoot.worlds.diabetes.judge_settings`, compiled).
The oracle is the best mixture of two of the library's settings on that patient. Margin: today's settings cost less than 3.6, three standard errors
included, at every corner of the support (a test says so), so .4 is stated and not estimated from 30 days.
"""

from __future__ import annotations

from typing import Any

from surefoot.arrays import FloatArray
from surefoot.experiments.worlds.world import Outside, SimulatedPlant, World, best_mixture
from surefoot.gym.pipeline import train_simulated
from surefoot.policyset.schema import PolicySet
from surefoot.protocol import Protocol
from surefoot.worlds.diabetes import diabetes, diabetes_policies, judge_settings, very_sensitive

__all__ = ["DiabetesPlant", "diabetes_world"]

TASKS, MARGIN, EPISODES, TRAINING_DAYS = 150, 0.4, 120, 30
LADDER = (5.0, 4.5, 4.0, 3.7, 3.4)
DAYS = 1000


class DiabetesPlant(SimulatedPlant):
    """A patient; arguments as of :class:`~surefoot.experiments.worlds.world.SimulatedPlant`."""

    def __init__(
        self, family: Any, parameters: FloatArray, policy_set: PolicySet, seed: int = 0, oracle: FloatArray | None = None
    ) -> None:  # fmt: skip
        self._family, self._parameters, self._policy_set = family, parameters, policy_set
        settings: Any = policy_set.policies
        self.values, _ = judge_settings(parameters, settings, days=DAYS, seed=seed, **family.make.keywords)
        self.oracle = best_mixture(self.values, policy_set.criterion.cost_limits) if oracle is None else oracle


def _train(cells: int | None, previous: PolicySet | None, seed: int, workers: int, progress: bool) -> PolicySet:
    return train_simulated(
        diabetes(), diabetes_policies(), tasks=TASKS, holdout=0, cells=None, max_episodes=TRAINING_DAYS, margin=MARGIN, seed=seed,
        workers=workers, progress=progress,
    )  # fmt: skip


def diabetes_world() -> World:
    """The world with the sizes that docs/worlds.md states."""
    return World(
        name="diabetes",
        title="type-1 diabetes: a pump's settings for one of many patients; time in range with a limit on time below 70 mg/dl",
        family=diabetes(),
        train=_train,
        plant=DiabetesPlant,
        episodes=EPISODES,
        ladder=LADDER,
        use=Protocol(),
        evidence="returns",
        outside=(
            Outside("sensitivity twice its range", "insulin works better than in any patient of the family", very_sensitive()),
            Outside("sensor reads high", "the sensor reads 20% too much, so boluses are too large", diabetes(bias=0.2)),
            Outside("insulin late", "insulin is held back under the skin for an hour", diabetes(delay=60.0)),
        ),
    )  # fmt: skip
