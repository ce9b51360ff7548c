"""What the methods have in common: a state of plain arrays, one step of (meta-)training, one update at test time.

A learner keeps nothing itself: :meth:`Learner.train` and :meth:`Learner.adapt` map a state to the next one, so that training can be interrupted
anywhere and checkpoints are arrays.

Letters: P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch, World
from surefoot.baselines.deep.networks import StochasticPolicy
from surefoot.errors import InvalidInput
from surefoot.kept_files import write_arrays
from surefoot.policyset.file import ARCHIVE_ERRORS

__all__ = ["Learner", "Progress", "State", "load_state", "save_state"]


@dataclass(frozen=True, eq=False)
class State:
    """Where a learner stands.

    Attributes:
        theta: (P,) parameters of the policy.
        multiplier: of the cost, where the method has one.
        memory: whatever else it keeps, arrays by name.
    """

    theta: FloatArray
    multiplier: float = 0.0
    memory: Mapping[str, FloatArray] = field(default_factory=dict)

    def moved(self, theta: FloatArray) -> State:
        """The same at other parameters."""
        return replace(self, theta=theta)


@dataclass(frozen=True)
class Progress:
    """What one step of training saw.

    Attributes:
        reward, cost: mean discounted sums of the policies that were run: after adaptation where the method adapts.
        before: mean cost of the policy before adaptation, the same where nothing is adapted.
        steps: of the environment.
        episodes: how many, and how many of them cost more than the limit.
        exceeding: see episodes.
    """

    reward: float
    cost: float
    before: float
    steps: int
    episodes: int
    exceeding: int


class Learner(Protocol):
    """A method.

    Attributes:
        name: as on the command line.
        policy: the distribution that is trained.
    """

    name: str
    policy: StochasticPolicy

    def train(self, state: State, world: World, rng: np.random.Generator) -> tuple[State, Progress]:
        """One step of training on tasks of the family."""
        ...

    def adapt(self, state: State, batch: Batch, world: World) -> State:
        """One update at test time, from episodes of the present policy in one task."""
        ...


def save_state(path: Path, policy: StochasticPolicy, state: State, about: Mapping[str, Any]) -> None:
    """Plain arrays; ``about`` holds numbers, texts and arrays. The file is moved to its place at once."""
    arrays: dict[str, Any] = {
        "theta": state.theta, "multiplier": np.float64(state.multiplier), "shift": policy.shift, "scale": policy.scale,
        "sizes": np.array(policy.network.sizes), **{f"memory.{k}": v for k, v in state.memory.items()},
        **{f"about.{k}": np.asarray(v) for k, v in about.items()},
    }  # fmt: skip
    write_arrays(path, arrays)


def load_state(path: Path, policy: Any) -> tuple[Any, State, dict[str, Any]]:
    """The policy with its normalisation, the state, and what was said about them.

    Args:
        path: of a file that :func:`save_state` wrote.
        policy: a policy of the same shapes.

    Raises:
        InvalidInput: another file, or a network of another shape.
    """
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        sizes = tuple(int(s) for s in arrays["sizes"])
        state = State(
            arrays["theta"].astype(np.float64), float(arrays["multiplier"]),
            {k.removeprefix("memory."): v for k, v in arrays.items() if k.startswith("memory.")},
        )  # fmt: skip
        shift, scale = arrays["shift"].astype(np.float64), arrays["scale"].astype(np.float64)
    except (*ARCHIVE_ERRORS, OSError, TypeError, ValueError, KeyError) as error:
        raise InvalidInput(
            f"path must be a checkpoint of a policy network, got {path}: {error}; train it again",
            code="SF-RECORD-UNREADABLE",
        ) from error
    if sizes != policy.network.sizes or state.theta.shape != (policy.size,) or not np.isfinite(state.theta).all():
        raise InvalidInput(
            f"checkpoint {path} must hold a network of sizes {list(policy.network.sizes)}, got {list(sizes)}; train it again",
            code="SF-ARGUMENT-MISMATCH",
        )
    about = {k.removeprefix("about."): v for k, v in arrays.items() if k.startswith("about.")}
    return replace(policy, shift=shift, scale=scale), state, about
