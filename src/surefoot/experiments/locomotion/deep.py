"""The deep baselines on the locomotion families: training that can be interrupted, and adaptation on the test tasks.

    training     every method spends the same number of environment steps on fresh tasks of the family; a checkpoint is a file of arrays
    test         the tasks of ``surefoot reproduce locomotion``; a method deploys its policy for ``every`` episodes, updates it, and so on

What a deployed policy costs is judged by fresh episodes that the method never sees, exploration included, as it is deployed. An episode *violates*
when the judged cost of its policy exceeds the limit, and *surely* when it does so by more than two standard errors. Episodes in training are counted
by their own cost: how many were above the limit.

Step k of a training draws from a seed sequence of its own, so that a training that goes on gives, bit for bit, what one in a single piece would
have given.

Layout of a run directory::

    summary.json    checkpoints/<method>.npz    curves/<method>.npz (reward, cost: (T, B) judged; error: (T, B); episodes: (B,))

Letters: T tasks, B batches between updates, K episodes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_integer
from surefoot.baselines.deep import LEARNERS, DeepAgent, GaussianPolicy, State, World, make_learner
from surefoot.baselines.deep.learner import Progress, load_state, save_state
from surefoot.errors import InvalidInput, OutputExists
from surefoot.experiments.comparison import fresh_tasks
from surefoot.experiments.locomotion.families import locomotion
from surefoot.progress import track
from surefoot.version import VERSION

__all__ = ["DEFAULT_METHODS", "adaptation", "reproduce_deep", "train_method"]

DEFAULT_METHODS = tuple(LEARNERS)
HIDDEN = (32, 32)
FIRST_EPISODES = 24
"""Of the untrained policy; they fix the normalisation of observations and count as steps."""
SAVE_EVERY = 60.0
SCHEMA = 1
TRAIN_STREAM, TEST_STREAM = 0xDEE9, 0x7E57
COLUMNS = ("steps", "reward", "cost", "before", "episodes", "exceeding", "seconds")
"""Of a training's history; ``steps``, ``episodes``, ``exceeding`` and ``seconds`` are running totals."""


@dataclass(frozen=True, eq=False)
class Trained:
    """Where a training stands.

    Attributes:
        policy: with its normalisation.
        state: of the method.
        history: (n, 7), columns :data:`COLUMNS`.
    """

    policy: Any
    state: State
    history: FloatArray

    @property
    def steps(self) -> int:
        """Spent so far."""
        return int(self.history[-1, 0])


def _network(world: World) -> GaussianPolicy:
    env = world.family.make(world.family.sample(1, np.random.default_rng(0))[0])
    sizes = int(np.prod(env.observation_space.shape)), int(np.prod(env.action_space.shape))
    env.close()
    return GaussianPolicy.build(*sizes, hidden=HIDDEN)


def train_method(
    world: World, method: str, steps: int, path: Path, *, seed: int = 0, settings: dict[str, Any] | None = None
) -> Trained:
    """Train a method until it has spent ``steps`` steps, going on from the checkpoint ``path`` if there is one.

    Raises:
        InvalidInput: the checkpoint belongs to another training, or to none.
    """
    name = f"{world.family.name}, {method}, seed {seed}, {json.dumps(settings or {}, sort_keys=True)}"
    if path.exists():
        policy, state, about = load_state(path, _network(world))
        if str(about.get("training")) != name or "history" not in about:
            raise InvalidInput(
                f"checkpoint {path} must belong to the training {name!r}, got {str(about.get('training'))!r}; name another folder",
                code="SF-TRAINING-RESUMED",
            )
        now = Trained(policy, state, np.asarray(about["history"], dtype=np.float64))
    else:
        now = _begun(world, seed)
    learner = make_learner(method, now.policy, **(settings or {}))
    saved = time.perf_counter()
    while now.steps < steps:
        began = time.perf_counter()
        rng = np.random.default_rng([seed, TRAIN_STREAM, list(LEARNERS).index(method), len(now.history)])
        state, progress = learner.train(now.state, world, rng)
        row = _row(now.history[-1], progress, time.perf_counter() - began)
        now = Trained(now.policy, state, np.vstack([now.history, row]))
        if time.perf_counter() - saved > SAVE_EVERY or now.steps >= steps:
            save_state(path, now.policy, now.state, {"training": name, "history": now.history})
            saved = time.perf_counter()
    return now


def _begun(world: World, seed: int) -> Trained:
    """The untrained policy, the same for all methods."""
    began, policy, rng = time.perf_counter(), _network(world), np.random.default_rng([seed, TRAIN_STREAM])
    theta = policy.initial(rng)
    found = world.run(policy, theta, world.tasks(FIRST_EPISODES, rng), rng, episodes=1)
    sums = found.sums(world.discount)
    reward, cost = sums.mean(axis=0)
    exceeding = float((sums[:, 1] > world.limit).sum())
    row = [found.steps, reward, cost, cost, FIRST_EPISODES, exceeding, time.perf_counter() - began]
    return Trained(policy.normalised(found.observations), State(theta), np.array([row], dtype=np.float64))


def _row(last: FloatArray, progress: Progress, seconds: float) -> FloatArray:
    return np.array(
        [
            last[0] + progress.steps, progress.reward, progress.cost, progress.before, last[4] + progress.episodes,
            last[5] + progress.exceeding, last[6] + seconds,
        ]
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Adaptation:
    """One method on T test tasks; B policies are deployed in each, one after the other.

    Attributes:
        episodes: (B,) episodes played when a policy is replaced.
        reward, cost: (T, B) judged.
        error: (T, B) standard error of the cost.
        own_cost: (T, K) what the deployed episodes cost themselves.
    """

    episodes: FloatArray
    reward: FloatArray
    cost: FloatArray
    error: FloatArray
    own_cost: FloatArray

    def save(self, path: Path) -> None:
        """Plain arrays."""
        np.savez_compressed(path, allow_pickle=False, **{k: np.asarray(v) for k, v in vars(self).items()})


def adaptation(
    world: World,
    method: str,
    trained: Trained,
    tasks: FloatArray,
    *,
    episodes: int,
    every: int = 10,
    judged: int = 20,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    progress: bool = False,
) -> Adaptation:
    """Deploy a trained method behind ``ask`` and ``tell`` in each of (T, p) tasks.

    Args:
        world: the family.
        method: its name.
        trained: from :func:`train_method`.
        tasks: (T, p).
        episodes: K in each task, a multiple of ``every``.
        every: episodes between updates.
        judged: fresh episodes that judge a policy.
        seed: of all chance; methods meet chance of their own.
        settings: of the method.
        progress: draw a progress bar where that makes sense.

    Raises:
        InvalidInput: a number out of range.
    """
    every = check_integer("every", every, low=1)
    judged = check_integer("judged", judged, low=2)
    if check_integer("episodes", episodes, low=1) % every:
        raise InvalidInput(
            f"episodes must be a multiple of {every}, got {episodes}; updates are made every {every} episodes",
            code="SF-ARGUMENT-RANGE",
        )
    learner, blocks = make_learner(method, trained.policy, **(settings or {})), episodes // every
    found, own = np.zeros((len(tasks), blocks, 3)), np.zeros((len(tasks), episodes))
    for k, task in enumerate(track(tasks, method, len(tasks), show=progress)):
        streams = np.random.SeedSequence([seed, TEST_STREAM, list(LEARNERS).index(method), k]).spawn(2)
        chance, judge = (np.random.default_rng(s) for s in streams)
        agent = DeepAgent(learner, trained.state, world, every=every, seed=seed)
        for b in range(blocks):
            policy = agent.policies[0]
            sums = world.run(policy.policy, policy.theta, task, judge, episodes=judged).sums(world.discount)
            error = sums[:, 1].std(ddof=1) / np.sqrt(judged)
            found[k, b] = sums[:, 0].mean(), sums[:, 1].mean(), error
            batch = agent.ask(every)
            seen = world.run(policy.policy, policy.theta, task, chance, episodes=every)
            outcome = seen.sums(world.discount)
            agent.tell(batch.ids, outcome[:, 0], outcome[:, 1:], trajectories=seen)
            own[k, b * every : (b + 1) * every] = outcome[:, 1]
    ends = every * np.arange(1, blocks + 1, dtype=np.float64)
    return Adaptation(ends, found[:, :, 0], found[:, :, 1], found[:, :, 2], own)


def reproduce_deep(
    out: str | Path,
    *,
    env: str = "hopper",
    methods: Sequence[str] = DEFAULT_METHODS,
    steps: int = 1_000_000,
    checkpoints: str | Path | None = None,
    train: bool = True,
    tasks: int = 20,
    episodes: int = 200,
    every: int = 10,
    judged: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Train the methods, let them adapt on the test tasks, write logs into ``out``; returns the summary.

    Args:
        out: new directory.
        env: a name in :data:`surefoot.experiments.locomotion.families.LOCOMOTION`.
        methods: names in :data:`surefoot.baselines.deep.LEARNERS`.
        steps: of the environment that each method is trained with.
        checkpoints: folder of checkpoints; what is there already goes on from where it is. By default ``out/checkpoints``.
        train: whether to train; otherwise the checkpoints are taken as they are.
        tasks, episodes, every, judged, seed, progress: as in :func:`adaptation`; the tasks are those of ``surefoot reproduce locomotion``. No task
            at all stops after training.

    Raises:
        InvalidInput: an argument out of range, an unknown method or family, or no checkpoint where none is to be made.
        MissingExtra: MuJoCo is not installed.
        OutputExists: ``out`` holds a summary already.
    """
    out, world = Path(out), World(locomotion(env))
    steps, tasks = check_integer("steps", steps, low=1), check_integer("tasks", tasks, low=0)
    if not methods or len(set(methods)) < len(methods):
        raise InvalidInput(
            f"methods must be distinct names, got {list(methods)}; list every method once", code="SF-ARGUMENT-DISTINCT"
        )
    for method in methods:
        if method not in LEARNERS:
            raise InvalidInput(
                f"method must be one of {', '.join(LEARNERS)}, got {method!r}; choose one of these",
                code="SF-ARGUMENT-CHOICE",
            )
    if (out / "summary.json").exists():
        raise OutputExists(f"{out} holds the results of a run already; name another folder", code="SF-OUTPUT-EXISTS")
    folder = out / "checkpoints" if checkpoints is None else Path(checkpoints)
    folder.mkdir(parents=True, exist_ok=True)
    (out / "curves").mkdir(parents=True, exist_ok=True)
    points = fresh_tasks(world.family, tasks, seed) if tasks else np.zeros((0, 1))  # type: ignore[arg-type]
    rows: dict[str, Any] = {}
    for method in methods:
        path = folder / f"{env}-{method}.npz"
        if not train and not path.exists():
            raise InvalidInput(
                f"checkpoints must hold {path.name}, got a folder without it; train the method first",
                code="SF-ARGUMENT-MISSING",
            )
        trained = train_method(world, method, steps if train else 0, path, seed=seed)
        rows[method] = _training_row(trained)
        if tasks:
            began = time.perf_counter()
            found = adaptation(
                world, method, trained, points, episodes=episodes, every=every, judged=judged, seed=seed, progress=progress
            )  # fmt: skip
            found.save(out / "curves" / f"{method}.npz")
            rows[method] |= _test_row(found, world.limit, every, time.perf_counter() - began)
    summary = {
        "schema": SCHEMA, "experiment": f"locomotion-deep:{env}", "version": VERSION, "seed": seed, "limit": world.limit, "steps": steps,
        "tasks": tasks, "episodes": episodes, "every": every, "judged": judged, "parameters": points.tolist(), "methods": rows,
    }  # fmt: skip
    (out / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def _training_row(trained: Trained) -> dict[str, Any]:
    last = dict(zip(COLUMNS, (float(x) for x in trained.history[-1])))
    return {
        "training": {
            "steps": int(last["steps"]), "seconds": last["seconds"], "updates": len(trained.history) - 1,
            "episodes": int(last["episodes"]), "episodes_above_limit": int(last["exceeding"]),
            "first_reward": float(trained.history[0, 1]), "last_reward": float(trained.history[-5:, 1].mean()),
            "last_cost": float(trained.history[-5:, 2].mean()),
        }
    }  # fmt: skip


def _test_row(found: Adaptation, limit: float, every: int, seconds: float) -> dict[str, Any]:
    over, surely = found.cost > limit, found.cost - 2.0 * found.error > limit
    return {
        "test": {
            "seconds": seconds,
            "first": asdict(_Ends.of(found, 0)), "last": asdict(_Ends.of(found, -1)),
            "mean_reward": float(found.reward.mean()),
            "violating_episodes": int(over.sum()) * every, "surely_violating_episodes": int(surely.sum()) * every,
            "tasks_violated": int(over.any(axis=1).sum()), "tasks_surely_violated": int(surely.any(axis=1).sum()),
            "worst_excess": float((found.cost - limit).max()),
            "episodes_above_limit": int((found.own_cost > limit).sum()),
        }
    }  # fmt: skip


@dataclass(frozen=True)
class _Ends:
    """Mean and range over tasks at one update."""

    reward: float
    reward_low: float
    reward_high: float
    cost: float
    cost_high: float

    @staticmethod
    def of(found: Adaptation, at: int) -> _Ends:
        r, c = found.reward[:, at], found.cost[:, at]
        return _Ends(float(r.mean()), float(r.min()), float(r.max()), float(c.mean()), float(c.max()))
