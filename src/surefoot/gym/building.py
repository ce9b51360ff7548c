"""A heated building with six unknowns: the family of docs/building.md, made harder.

An office is heated from midnight to midnight, one decision per hour. Energy is what one wants to save; the cost is discomfort, degree-hours below 20
degrees while somebody is in, at most one per hour, and may be 2 per day on average.

    unknown           range         why
    heat loss         .08 to .16    share of the difference to outdoors that is lost per hour: insulation of offices differs about so much
    arrival           7 to 9        hour at which people come
    heater power      5 to 7        degrees per hour at full power
    noise             .05 to .3     standard deviation of what doors and sun do in an hour
    outdoor mean      2 to 8        degrees: the region
    spread of start   .3 to 1       standard deviation of the temperature at midnight

The *safe* thermostat holds 22 degrees day and night; its discomfort is below half the limit at every corner of the range. Eighteen others let the
building cool at night and start to heat at 3, 5 or 7. Comes with an extra: ``pip install "surefoot[gym]"``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.criterion import Criterion
from surefoot.errors import MissingExtra
from surefoot.gym.family import GymFamily
from surefoot.policyset.kinds import register_controller
from surefoot.policyset.schema import EpisodeBounds

try:
    import gymnasium
    from gymnasium.spaces import Box
except ModuleNotFoundError as error:
    raise MissingExtra("gymnasium", "gym") from error

__all__ = ["SUPPORT", "Building", "NightSetback", "building", "building_policies"]

NAMES = ("heat loss", "arrival", "heater power", "noise", "outdoor mean", "spread of start")
SUPPORT = np.array([[0.08, 0.16], [7.0, 9.0], [5.0, 7.0], [0.05, 0.3], [2.0, 8.0], [0.3, 1.0]])
HOURS, LEAVE = 24, 18
COMFORT, LIMIT = 20.0, 2.0
START, DRIFT, SWING = 19.0, 2.0, 4.0
"""Temperature at midnight; standard deviation of a day's weather; half the difference between day and night."""


class Building(gymnasium.Env[Any, Any]):
    """One day in one building.

    Args:
        parameters: (6,) in the order of the module's table.
    """

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = Box(-80.0, 90.0, (3,), np.float64)
    action_space = Box(0.0, 1.0, (1,), np.float64)

    def __init__(self, parameters: Any) -> None:
        values = [float(x) for x in parameters]
        self._loss, self._arrival, self._power, self._noise, self._outdoor, self._spread = values
        self._swings = [SWING * math.cos((hour - 3) * math.pi / 12) for hour in range(HOURS + 1)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Midnight."""
        super().reset(seed=seed)
        normal = self.np_random.standard_normal(HOURS + 2).tolist()
        self._hour, self._indoors = 0, START + self._spread * normal[0]
        self._weather = self._outdoor + DRIFT * normal[1]
        self._shocks = [self._noise * z for z in normal[2:]]
        return self._look(), {}

    def _look(self) -> Any:
        self._outdoors = self._weather - self._swings[self._hour]
        return np.array([self._indoors, self._outdoors, self._hour])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One hour."""
        power = min(max(float(action[0]), 0.0), 1.0)
        gained = self._power * power - self._loss * (self._indoors - self._outdoors)
        self._indoors += gained + self._shocks[self._hour]
        occupied = self._arrival <= self._hour < LEAVE
        cost = min(max(COMFORT - self._indoors, 0.0), 1.0) if occupied else 0.0
        self._hour += 1
        return self._look(), -power, False, False, {"cost": cost}


class NightSetback:
    """A thermostat that holds ``day`` degrees from hour ``start`` to 17 and ``night`` degrees otherwise.

    Attributes:
        day, night: degrees.
        start: hour.
    """

    def __init__(self, day: float, night: float, start: float) -> None:
        self.day, self.night, self.start = float(day), float(night), float(start)

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[FloatArray, None]:
        """Power in [0, 1] for ``(indoors, outdoors, hour)``."""
        indoors, _, hour = observation.tolist()
        wanted = self.day if self.start <= hour < LEAVE - 1 else self.night
        return np.array([min(max(0.6 * (wanted - indoors) + 0.3, 0.0), 1.0)]), None


register_controller("night-setback", NightSetback, ["day", "night", "start"])


def building() -> GymFamily:
    """The family; unknowns are independent and uniform on their ranges."""
    criterion = Criterion(
        discount=1.0, cost_limits=np.array([LIMIT]), reward_bounds=(-1.0, 0.0), cost_bounds=np.array([1.0]), horizon=HOURS, cost_names=("discomfort",)
    )  # fmt: skip
    return GymFamily(
        name="building",
        parameter_names=NAMES,
        support=SUPPORT,
        criterion=criterion,
        sampler=lambda n, rng: rng.uniform(SUPPORT[:, 0], SUPPORT[:, 1], size=(n, len(SUPPORT))),
        make=Building,
        bounds=EpisodeBounds(-24.0, 0.0, (11.0,)),
    )


def building_policies() -> list[NightSetback]:
    """The safe thermostat first, then 18 candidates: a grid over day and night temperatures and the hour at which heating starts."""
    grid = [(day, night, start) for day in (20.3, 20.8, 21.3) for night in (16.0, 19.0) for start in (3.0, 5.0, 7.0)]
    return [NightSetback(22.0, 22.0, 0.0), *(NightSetback(*values) for values in grid)]
