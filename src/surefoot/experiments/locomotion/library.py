"""The libraries that ship with the locomotion families, and how to train them again from scratch.

    O_l   one task-conditioned run over the family;   pi_j = pi(. | z_j)  for tasks z_j spread over the support; where that is not good enough,
          a further run on the task z_j alone, kept if fresh episodes say that it helped
    O_s   from one of these, an unconditioned run on a list of extreme tasks under a share of the limit: the safe policy pi_0; or the policy for
          a task harder than any, where that keeps such a share already

A library is a file of plain arrays: entry k of policy j is called ``j.field.k``. No torch, no Stable-Baselines3 and no pickle is needed to load one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.arrays import FloatArray, freeze
from surefoot.controllers import MLPPolicy
from surefoot.errors import InvalidInput
from surefoot.policyset.file import ARCHIVE_ERRORS

if TYPE_CHECKING:
    from surefoot.gym.family import GymFamily
    from surefoot.gym.lagrange import Trained
    from surefoot.gym.sb3 import PPOLagrangian

__all__ = ["RECIPES", "Library", "Recipe", "load_library", "read_library", "save_library", "train_library"]

DAMAGED_ARRAYS = (*ARCHIVE_ERRORS, OSError, TypeError, AttributeError, zlib.error)
"""What reading a damaged file of arrays is known to raise."""
VECTORS = ("low", "high", "shift", "scale")


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a library is trained.

    Attributes:
        members: (J - 1, p) tasks ``z_j``.
        settings: of the conditioned run, fields of :class:`~surefoot.gym.sb3.PPOLagrangian`.
        steps: of that run.
        tuned: which members get a run of their own.
        tuned_steps: of each of these.
        tuned_log_std_init: of their exploration, which has something to find.
        safe_start: (p,) the task whose policy the safe one starts from.
        safe_tasks: (T, p) the list that it must be safe on.
        safe_share: of the limit.
        safe_steps: of the run for the safe policy; 0 keeps the policy that it would start from.
        further: settings of the runs that go on from a policy, over those of the conditioned one.
    """

    members: FloatArray
    settings: Mapping[str, Any]
    steps: int
    safe_start: tuple[float, ...]
    safe_tasks: FloatArray
    safe_share: float
    safe_steps: int
    tuned: tuple[int, ...] = ()
    tuned_steps: int = 60_000
    tuned_log_std_init: float = float(np.log(0.12))
    further: Mapping[str, Any] = field(
        default_factory=lambda: {"log_std_init": float(np.log(0.08)), "learning_rate": 2e-4, "multiplier_rate": 0.05}
    )


@dataclass(frozen=True, eq=False)
class Library:
    """J policies, the safe one first.

    Attributes:
        policies: J.
        parameters: (J, p) the tasks they were trained for; of the safe one, the task it started from.
        reports: of the conditioned and of the safe run, where they were just trained.
    """

    policies: tuple[MLPPolicy, ...]
    parameters: FloatArray
    reports: tuple[Trained, ...] = ()


def _column(*values: float) -> FloatArray:
    return freeze(np.array(values)[:, None])


def _frictions(*values: float) -> FloatArray:
    """Plain bodies on these grounds."""
    return freeze(np.array([[1.0, value, 1.0, 1.0] for value in values]))


RECIPES = {
    "hopper": Recipe(
        members=_column(0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8),
        settings={"log_std_init": float(np.log(0.3))},
        steps=1_000_000,
        safe_start=(0.3,),
        safe_tasks=_column(0.2, 0.35, 0.5, 0.65, 0.8),
        safe_share=0.05,
        safe_steps=100_000,
        # The conditioned policy falls now and then at high speeds.
        tuned=(7, 8, 9, 10),
    ),
    "half-cheetah": Recipe(
        members=_column(0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6, 1.8),
        settings={"log_std_init": float(np.log(0.35)), "batch_size": 512},
        steps=600_000,
        safe_start=(0.6,),
        safe_tasks=_column(0.2, 0.6, 1.0, 1.4, 1.8),
        safe_share=0.6,
        safe_steps=100_000,
    ),
    "half-cheetah-dynamics": Recipe(
        # Conditioned policies overspend on plain bodies by up to three tenths, so the useful ones are those for slippery ground.
        members=freeze(
            np.vstack([[[1.0, 0.6, 1.0, 0.9]], _frictions(0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1, 1.25)])
        ),
        settings={"log_std_init": float(np.log(0.3)), "batch_size": 512, "multiplier_rate": 0.02},
        steps=1_000_000,
        # The policy for ground more slippery than any in the family; runs that went on from there kept creeping towards the limit.
        safe_start=(1.0, 0.5, 1.0, 0.9),
        safe_tasks=freeze(np.array([[m, 0.6, d, 0.9] for m in (0.8, 1.2) for d in (0.8, 1.2)])),
        safe_share=0.6,
        safe_steps=0,
    ),
}
"""By family."""


def train_library(
    name: str,
    *,
    seed: int = 0,
    steps_scale: float = 1.0,
    episodes: int = 100,
    tell: Callable[[dict[str, float]], None] | None = None,
) -> Library:
    """Train a family's library from scratch: about a quarter of an hour each on one undisturbed core. Needs the extra ``[sb3]``.

    Args:
        name: of the family.
        seed: of everything.
        steps_scale: factor on the numbers of steps, for trying out.
        episodes: per task in the reports.
        tell: called with numbers after every batch.

    Raises:
        InvalidInput: there is no such family.
        MissingExtra: no Stable-Baselines3, or no MuJoCo.
    """
    recipe = _recipe(name)
    from surefoot.experiments.locomotion.families import locomotion
    from surefoot.gym.lagrange import evaluate_trained
    from surefoot.gym.sb3 import PPOLagrangian

    def steps(count: int) -> int:
        return max(1, int(steps_scale * count))

    family = locomotion(name)
    more: dict[str, Any] = {"episodes": episodes, "tell": tell}
    general = PPOLagrangian(**recipe.settings).train(family, steps=steps(recipe.steps), seed=seed, **more)
    further = PPOLagrangian(**{**recipe.settings, **recipe.further})
    start = general.policy.fix(recipe.safe_start)
    if recipe.safe_steps:
        safe = replace(further, cost_limit_fraction=recipe.safe_share).train(
            family,
            steps=steps(recipe.safe_steps),
            seed=seed + 1,
            tasks=recipe.safe_tasks,
            conditioned=False,
            start=start,
            **more,
        )
    else:
        safe = evaluate_trained(family, start, recipe.safe_tasks, episodes=episodes, seed=seed + 1)
    members = [general.policy.fix(task) for task in recipe.members]
    eager = replace(further, log_std_init=recipe.tuned_log_std_init)
    for j in recipe.tuned:
        members[j] = _tune(family, eager, recipe.members[j], members[j], steps(recipe.tuned_steps), seed + 2 + j, more)
    parameters = freeze(np.vstack([[recipe.safe_start], recipe.members]))
    return Library((safe.policy, *members), parameters, (general, safe))


def _tune(
    family: GymFamily,
    trainer: PPOLagrangian,
    task: FloatArray,
    policy: MLPPolicy,
    steps: int,
    seed: int,
    more: Mapping[str, Any],
) -> MLPPolicy:
    """The policy after a run on its own task, or as it was if that did not help."""
    from surefoot.gym.lagrange import evaluate_trained

    after = trainer.train(family, steps=steps, seed=seed, tasks=task[None], start=policy, **more)
    before = evaluate_trained(family, policy, task[None], episodes=int(more["episodes"]), seed=seed)
    return max((before, after), key=_merit).policy  # type: ignore[no-any-return]


def _merit(report: Trained) -> tuple[float, float]:
    """Within the limits first (by mean costs), then by reward."""
    excess = float(np.max(report.costs[:, :, 1] / report.limits))
    return min(0.0, 1.0 - excess), float(report.reward[:, 1].mean())


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise InvalidInput(
            f"name must be one of {', '.join(RECIPES)}, got {name!r}; choose one of these", code="SF-ARGUMENT-CHOICE"
        )
    return RECIPES[name]


def save_library(path: str | Path, library: Library) -> None:
    """Write the arrays of a library; layers in single precision where that loses nothing."""
    arrays: dict[str, Any] = {"parameters": library.parameters}
    for j, policy in enumerate(library.policies):
        if policy.low is None or policy.squash or policy.activation != "tanh":
            raise InvalidInput(
                f"policies[{j}] must be clipped, with tanh layers, got another kind; keep it in a policy set instead",
                code="SF-POLICY-KIND",
            )
        for k, (weight, bias) in enumerate(zip(policy.weights, policy.biases)):
            arrays[f"{j}.weights.{k}"], arrays[f"{j}.biases.{k}"] = _narrow(weight), bias
        arrays |= {f"{j}.{name}": np.asarray(getattr(policy, name)) for name in VECTORS}
        arrays[f"{j}.clip"] = np.array(policy.clip)
    np.savez_compressed(path, **arrays)


def _narrow(array: FloatArray) -> Any:
    single = array.astype(np.float32)
    return single if np.array_equal(single, array) else array


def load_library(name: str, path: str | Path | None = None) -> tuple[MLPPolicy, ...]:
    """The library that ships with a family, the safe policy first; or one from a file of the same kind.

    Raises:
        InvalidInput: there is no such family, or the file is no library.
    """
    return read_library(name, path).policies


def read_library(name: str, path: str | Path | None = None) -> Library:
    """The same with the tasks that the policies were trained for."""
    _recipe(name)
    if path is not None:
        return _read(Path(path))
    with resources.as_file(
        resources.files("surefoot.experiments.locomotion") / "data" / f"{name}-policies.npz"
    ) as shipped:
        return _read(shipped)


def _read(path: Path) -> Library:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        parameters = arrays["parameters"]
        return Library(tuple(_policy(arrays, j) for j in range(len(parameters))), freeze(parameters))
    except DAMAGED_ARRAYS as error:
        raise InvalidInput(
            f"path must be a library of policies, got {path}: {error}; train it again with train_library",
            code="SF-RECORD-UNREADABLE",
        ) from error


def _policy(arrays: Mapping[str, Any], j: int) -> MLPPolicy:
    layers = sum(key.startswith(f"{j}.weights.") for key in arrays)
    return MLPPolicy(
        weights=tuple(arrays[f"{j}.weights.{k}"] for k in range(layers)),
        biases=tuple(arrays[f"{j}.biases.{k}"] for k in range(layers)),
        clip=float(arrays[f"{j}.clip"]),
        **{name: arrays[f"{j}.{name}"] for name in VECTORS},
    )
