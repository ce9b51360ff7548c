# ruff: noqa: T201
"""Propofol by machine: a simulator that nobody here wrote, from its stock class to a verified journal.

    pip install "surefoot[gym,service]" anesthesim
    python examples/anaesthesia.py

AnestheSim (MIT licence) models how deep a patient sleeps, as the bispectral index (BIS), under an infusion of propofol. Its reward is the stock one:
minutes inside the window 40..60 count for, everything else against. We add a *cost*, minutes that are too deep (BIS below 40), at most five per
half-hour on average. How large a patient's central volume is, nobody knows beforehand; a dose that lets one fall asleep overdoses another.

The stock class cannot be a task as it is, for three reasons, and the wrapper says what it does about each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from anesthesim.envs.propofol_control import PropofolControlEnv
from anesthesim.models.marsh_pk import MarshPKModel

import surefoot as sf
from surefoot.gym import GymFamily, Widths, check_family, run_episode, train_simulated
from surefoot.policyset import EpisodeBounds, register_controller

MINUTES = 30


class Patient(PropofolControlEnv):
    """Half an hour of one patient.

    1. The stock ``reset`` draws a new patient every time. A task has to stay the same: the draw is replaced by the patient that the parameters name.
       The noise of the sensor, redrawn in every episode, stays.
    2. The stock class ends an episode when BIS falls below 10. Ending would make the worst overdose the cheapest: here the minutes go on, and go on
       costing.
    3. It has no cost.
    """

    def __init__(self, volume: float) -> None:
        super().__init__("medium", max_steps=MINUTES, dt=1.0)
        self.volume = volume

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        result = super().reset(seed=seed, options=options)
        # Nothing is infused yet, so what the stock patient showed is what this one shows.
        self.pk_model = MarshPKModel(weight_kg=self.weight_kg, dt=self.dt, V1_per_kg=0.228 * self.volume)
        return result

    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        cost = min(max((40.0 - info["BIS"]) / 10.0, 0.0), 1.0)
        return observation, reward, False, truncated, {**info, "cost": cost}


class Feedback:
    """Follows the index, and integrates what is left of the error: today's controller, careful and slow. It has a memory."""

    def __init__(self, gain: float, integral: float) -> None:
        self.gain, self.integral, self.total = float(gain), float(integral), 0.0

    def predict(self, observation: Any, deterministic: bool = True) -> Any:
        error = float(observation[3])
        self.total = max(0.0, self.total + error)
        rate = self.gain * error + self.integral * self.total
        return np.array([min(max(rate, 0.0), 200.0)], dtype=np.float32), None


class Induction:
    """Full rate for the first minutes, then less: a protocol by the clock. It has a memory, too."""

    def __init__(self, minutes: float, rate: float) -> None:
        self.minutes, self.rate, self.minute = float(minutes), float(rate), 0

    def predict(self, observation: Any, deterministic: bool = True) -> Any:
        self.minute += 1
        return np.array([200.0 if self.minute <= self.minutes else self.rate], dtype=np.float32), None


register_controller("propofol feedback", Feedback, ["gain", "integral"])
register_controller("propofol induction", Induction, ["minutes", "rate"])

FAMILY = GymFamily(
    name="anaesthesia",
    parameter_names=("volume",),
    support=[[0.75, 1.25]],
    criterion=sf.Criterion(
        discount=1.0,
        horizon=MINUTES,
        cost_limits=[5.0],
        reward_bounds=(-2.01, 1.0),
        cost_bounds=[1.0],
        cost_names=("too deep",),
    ),
    sampler=lambda n, rng: rng.uniform(0.75, 1.25, size=(n, 1)),
    make=lambda parameters: Patient(float(parameters[0])),
    bounds=EpisodeBounds(-60.3, 30.0, (27.0,)),  # it takes minutes before any dose is too deep
)
LIBRARY = [Feedback(3.0, 0.1), Induction(11, 135.0), Induction(16, 140.0)]


def main(
    folder: Path,
    *,
    episodes: int = 150,
    tasks: int = 12,
    holdout: int = 40,
    p_max: float = 0.2,
    ramp: int = 50,
    real: float = 1.1,
) -> sf.Deployment:
    """Check, train, deploy on a patient that the deployment does not know; returns the open deployment."""
    check = check_family(FAMILY, library=LIBRARY)
    print(check.text)
    check.raise_if_bad()
    policy_set = train_simulated(
        FAMILY,
        LIBRARY,
        tasks=tasks,
        holdout=holdout,
        cells=4,
        widths=Widths(reward=6.0, cost=2.5),
        max_episodes=80,
        seed=0,
        progress=False,
    )
    print(policy_set.assumption.statement)
    print(f"at most {policy_set.certificate.uncovered_upper:.1%} of all patients lie in no cell")
    policy_set.save(folder / "anaesthesia.sf")
    policy_set = sf.PolicySet.load(folder / "anaesthesia.sf")
    plant = sf.Deployment.open(
        folder / "patient.db", policy_set, trust="cells", evidence="returns", p_max=p_max, ramp=ramp, seed=1
    )
    patient = Patient(real)
    for _ in range(episodes):
        run_episode(patient, plant.ask(), FAMILY, seed=7).tell(plant)
    return plant


if __name__ == "__main__":
    with main(Path()) as deployment:
        print(deployment.status().text)
        print(deployment.verify())
