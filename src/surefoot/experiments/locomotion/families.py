"""Locomotion: tasks that differ in the wanted speed, and tasks that differ in the body and the ground.

Three families on MuJoCo's planar bodies; an episode has H = 200 steps and ``gamma = .99``. With ``v`` the forward speed over the step
and ``a`` the action, clipped to [-1, 1]:

    hopper                  v* ~ N(.5, .1) on [0, 1]    r = 1{upright} - min(|v - v*|, 1.5) - .001 |a|^2    c = .1 |a|^2              d = 5
    half-cheetah            v* ~ N(1, .3) on [0, 2]     r = -min(|v - v*|, 2)                               c = .1 |a|^2              d = 10
    half-cheetah-dynamics   mass, friction, damping     r = -min(|v - 2|, 2)                                c = min(s, .5),           d = 10
                            and gravity scales                                                              s = max(v, 0)^2/(2 mu g)

The first two are those of Ni & Kamgarpour 2026, Appendix H.2. Where the paper and its code differ:

* Hopper, spread of ``v*``: the paper says variance .1, the code draws with standard deviation .1. We take the code's; with the paper's a third
  of the mass would lie outside [0, 1].
* Hopper, reward: the paper prints ``-|v - v*|`` alone, under which an episode is worth more the sooner the body falls. The code keeps the
  simulator's bonus for being upright and its small term for effort, and so do we.
* Hopper, cost: a hundred times the simulator's effort term. The code computes it by subtracting a constant bonus of 1, so that under
  Gymnasium's version 5, where a fallen body gets none, falling would cost 100; ours is the effort and nothing else.
* Half-cheetah, distribution: the paper's truncated normal; the code draws uniformly.
* Half-cheetah, cost: the paper's text says height of the head, its code and limit say effort. We take effort.

Differences of speed are cut off (at 1.5 and 2) so that rewards are bounded: evidence about bounded quantities is what safety rests on.

In the first two families the cost of a policy is the same in every task. In the third it is not: ``s`` is the distance in which a body of
speed v comes to rest on ground with friction ``mu``, which no policy observes, so a pace that is right on grippy ground is an offence on
slippery ground.

Bodies, observations, starts and falls are those of Gymnasium's ``Hopper-v5`` and ``HalfCheetah-v5``, step by step, at a fraction of the
overhead. Comes with an extra: ``pip install "surefoot[mujoco]"``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from surefoot.arrays import FloatArray, as_floats, freeze
from surefoot.criterion import Criterion
from surefoot.errors import InvalidInput, MissingExtra
from surefoot.gym.family import GymFamily, Signal
from surefoot.policyset.schema import EpisodeBounds

try:
    import gymnasium
    from gymnasium.spaces import Box
except ModuleNotFoundError as error:
    raise MissingExtra("gymnasium", "mujoco") from error

__all__ = [
    "BODIES",
    "LOCOMOTION",
    "Body",
    "PlanarRunner",
    "half_cheetah",
    "half_cheetah_dynamics",
    "hopper",
    "locomotion",
]

HORIZON, DISCOUNT = 200, 0.99
EFFORT = 0.1
FAST = 2.0
"""The speed wanted in every task of the third family, beyond what most of its grounds allow."""

STOPPING_CAP = 0.5
GROUND_FRICTION, GRAVITY = 0.4, 9.81
HOPPER_REWARDS = (-1.503, 1.0)
SCALES = np.array([[0.8, 1.2], [0.6, 1.4], [0.8, 1.2], [0.9, 1.1]])


@dataclass(frozen=True)
class Body:
    """What distinguishes one body from another.

    Attributes:
        file: of Gymnasium's assets.
        frame_skip: physics steps per step.
        noise: half-width of the uniform noise on the starting positions.
        gaussian: the starting speeds get normal noise of this size instead of uniform noise of that half-width.
        speed_clip: speeds are cut off at this size in observations.
        falls: whether leaving the upright range ends the episode.
        effort_weight: of ``|a|^2`` in the reward.
        gap: where ``|v - v*|`` is cut off.
    """

    file: str
    frame_skip: int
    noise: float
    gaussian: bool
    speed_clip: float
    falls: bool
    effort_weight: float
    gap: float


BODIES = {
    "hopper": Body("hopper.xml", 4, 5e-3, False, 10.0, True, 1e-3, 1.5),
    "half-cheetah": Body("half_cheetah.xml", 5, 0.1, True, np.inf, False, 0.0, 2.0),
}
"""By name."""

UPRIGHT_HEIGHT, UPRIGHT_ANGLE, UPRIGHT_STATE = 0.7, 0.2, 100.0


@lru_cache(maxsize=8)
def _template(file: str) -> Any:
    """The compiled model, once per process."""
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise MissingExtra("mujoco", "mujoco") from error
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / file
    # The half-cheetah's file uses an attribute that MuJoCo calls deprecated, in a log file in the current folder, every time.
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    finally:
        mujoco.set_mju_user_warning(handler)


def _scaled(template: Any, scales: FloatArray) -> Any:
    """A copy of the model with mass, friction, damping and gravity multiplied."""
    import mujoco

    model = copy.copy(template)
    mass, friction, damping, gravity = scales
    model.body_mass[:] *= mass
    model.body_inertia[:] *= mass
    model.geom_friction[:, 0] *= friction
    model.dof_damping[:] *= damping
    model.opt.gravity[:] *= gravity
    # Some constants of the model (inverse weights of the constraints) follow from the ones just changed.
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


class PlanarRunner(gymnasium.Env[Any, Any]):
    """One body, one wanted speed, one ground: a Gymnasium environment whose ``info`` carries ``cost`` and ``x_velocity``.

    Args:
        body: a name in :data:`BODIES`.
        target: ``v*``.
        scales: (4,) factors on mass, friction, damping and gravity; given, the cost is the stopping distance, else it is effort.

    Raises:
        InvalidInput: an unknown body, or scales that are not positive.
        MissingExtra: no ``mujoco``.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own convention

    def __init__(self, body: str, target: float, scales: FloatArray | None = None) -> None:
        if body not in BODIES:
            raise InvalidInput(
                f"body must be one of {', '.join(BODIES)}, got {body!r}; choose one of these", code="SF-ARGUMENT-CHOICE"
            )
        self._body, self._target = BODIES[body], float(target)
        model = _template(self._body.file)
        import mujoco

        self._grip: float | None = None
        if scales is not None:
            factors = as_floats("scales", scales, (4,))
            if (factors <= 0.0).any():
                raise InvalidInput(
                    f"scales must be > 0, got {factors.tolist()}; they multiply mass, friction, damping and gravity",
                    code="SF-ARGUMENT-RANGE",
                )
            model = _scaled(model, factors)
            self._grip = 2.0 * GROUND_FRICTION * float(factors[1]) * GRAVITY * float(factors[3])
        self._model, self._data = model, mujoco.MjData(model)
        self._advance, self._forward, self._clear = mujoco.mj_step, mujoco.mj_forward, mujoco.mj_resetData
        self._position, self._speed, self._control = self._data.qpos, self._data.qvel, self._data.ctrl
        self._start = self._position.copy()
        self._seconds = model.opt.timestep * self._body.frame_skip
        self.observation_space = Box(-np.inf, np.inf, (model.nq + model.nv - 1,), np.float64)
        self.action_space = Box(-1.0, 1.0, (model.nu,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[FloatArray, dict[str, Any]]:
        """A start near the upright posture; the task stays what it is."""
        super().reset(seed=seed)
        body, rng = self._body, self.np_random
        self._clear(self._model, self._data)
        self._position[:] = self._start + rng.uniform(-body.noise, body.noise, self._model.nq)
        if body.gaussian:
            self._speed[:] = body.noise * rng.standard_normal(self._model.nv)
        else:
            self._speed[:] = rng.uniform(-body.noise, body.noise, self._model.nv)
        self._forward(self._model, self._data)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[FloatArray, float, bool, bool, dict[str, Any]]:
        """One step of the body; episodes are cut by the family's horizon, not here."""
        control = np.minimum(np.maximum(np.asarray(action, dtype=np.float64), -1.0), 1.0)
        before = self._position[0]
        self._control[:] = control
        self._advance(self._model, self._data, self._body.frame_skip)
        velocity = float((self._position[0] - before) / self._seconds)
        effort = float(control @ control)
        upright = self._upright() if self._body.falls else False
        base = float(upright) - self._body.effort_weight * effort
        info = {"cost": self._cost(velocity, effort), "x_velocity": velocity, "base_reward": base}
        reward = base - min(abs(velocity - self._target), self._body.gap)
        return self._observation(), reward, self._body.falls and not upright, False, info

    def _cost(self, velocity: float, effort: float) -> float:
        if self._grip is None:
            return EFFORT * effort
        return min(max(velocity, 0.0) ** 2 / self._grip, STOPPING_CAP)

    def _upright(self) -> bool:
        height, angle = self._position[1], self._position[2]
        if not (height > UPRIGHT_HEIGHT and -UPRIGHT_ANGLE < angle < UPRIGHT_ANGLE):
            return False
        return bool((abs(self._position[2:]) < UPRIGHT_STATE).all() and (abs(self._speed) < UPRIGHT_STATE).all())

    def _observation(self) -> FloatArray:
        observation = np.concatenate((self._position[1:], self._speed))
        clip = self._body.speed_clip
        if clip < np.inf:
            speeds = observation[len(self._position) - 1 :]
            np.clip(speeds, -clip, clip, out=speeds)
        return observation


def _rewards(
    gap: float, parameters: FloatArray, obs: Any, action: Any, next_obs: Any, reward: float, info: Any
) -> FloatArray:
    """(T,) rewards of one step in the tasks with these wanted speeds."""
    return np.asarray(info["base_reward"] - np.minimum(np.abs(info["x_velocity"] - parameters[:, 0]), gap))


def _velocity(low: float, high: float, obs: Any, action: Any, next_obs: Any, reward: float, info: Any) -> float:
    return float(min(max(info["x_velocity"], low), high))


def _truncated_normal(
    mean: float, deviation: float, low: float, high: float, n: int, rng: np.random.Generator
) -> FloatArray:
    """(n, 1) by inversion, so that the number of draws is always n."""
    first, last = (float(ndtr((end - mean) / deviation)) for end in (low, high))
    return np.asarray(np.clip(mean + deviation * ndtri(rng.uniform(first, last, size=(n, 1))), low, high))


def _uniform_scales(n: int, rng: np.random.Generator) -> FloatArray:
    return rng.uniform(SCALES[:, 0], SCALES[:, 1], size=(n, len(SCALES)))


def _runner(body: str, parameters: FloatArray) -> PlanarRunner:
    return PlanarRunner(body, float(parameters[0]))


def _ground(parameters: FloatArray) -> PlanarRunner:
    return PlanarRunner("half-cheetah", FAST, parameters)


def _criterion(limit: float, rewards: tuple[float, float], cost: float, name: str) -> Criterion:
    return Criterion(DISCOUNT, np.array([limit]), rewards, np.array([cost]), HORIZON, (name,))


def _speeds(
    name: str,
    mean: float,
    deviation: float,
    high: float,
    limit: float,
    rewards: tuple[float, float],
    cost: float,
    bounds: EpisodeBounds | None = None,
) -> GymFamily:
    """Tasks that differ in the wanted speed only: one rollout serves them all."""
    return GymFamily(
        name=name,
        parameter_names=("target speed",),
        support=freeze(np.array([[0.0, high]])),
        criterion=_criterion(limit, rewards, cost, "effort"),
        sampler=partial(_truncated_normal, mean, deviation, 0.0, high),
        make=partial(_runner, name),
        rewards=partial(_rewards, BODIES[name].gap),
        signals=(Signal("mean speed", -1.0, 3.0, partial(_velocity, -1.0, 3.0)),),
        bounds=bounds,
    )


def hopper(limit: float = 5.0) -> GymFamily:
    """One leg that hops at a wanted speed, on an effort budget."""
    # Three motors. Only the last step of an episode can lack the bonus, so a return is far above 200 times the worst reward.
    criterion = _criterion(limit, HOPPER_REWARDS, 3 * EFFORT, "effort")
    low, high = criterion.return_range
    least = (HOPPER_REWARDS[0] + 1.0) * criterion.effective_horizon - 1.0
    bounds = EpisodeBounds(max(low, least), high, (float(criterion.cost_ceilings[0]),))
    return _speeds("hopper", 0.5, 0.1, 1.0, limit, HOPPER_REWARDS, 3 * EFFORT, bounds)


def half_cheetah(limit: float = 10.0) -> GymFamily:
    """Two legs that run at a wanted speed, on an effort budget."""
    return _speeds("half-cheetah", 1.0, 0.3, 2.0, limit, (-2.0, 0.0), 6 * EFFORT)


def half_cheetah_dynamics(limit: float = 10.0) -> GymFamily:
    """Two legs that run as fast as the ground they do not see allows; every policy's cost differs between tasks."""
    return GymFamily(
        name="half-cheetah-dynamics",
        parameter_names=("mass", "friction", "damping", "gravity"),
        support=freeze(SCALES),
        criterion=_criterion(limit, (-2.0, 0.0), STOPPING_CAP, "stopping distance"),
        sampler=_uniform_scales,
        make=_ground,
        signals=(Signal("mean speed", -1.0, 3.0, partial(_velocity, -1.0, 3.0)),),
    )


LOCOMOTION = {"hopper": hopper, "half-cheetah": half_cheetah, "half-cheetah-dynamics": half_cheetah_dynamics}
"""Families by name."""


def locomotion(name: str) -> GymFamily:
    """A family by name.

    Raises:
        InvalidInput: there is none of that name.
    """
    if name not in LOCOMOTION:
        raise InvalidInput(
            f"name must be one of {', '.join(LOCOMOTION)}, got {name!r}; choose one of these", code="SF-ARGUMENT-CHOICE"
        )
    return LOCOMOTION[name]()
