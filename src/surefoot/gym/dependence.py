r"""Do episodes depend on the parameters of their task, and otherwise on their seed alone?

A certificate speaks of tasks ``M = M(z)`` that ``make(z)`` builds and that stay the same from episode to episode. Episodes
``x = f(z, s, a)`` are run at K sampled parameters z that lie far apart, with seeds s and sequences of actions a, and four things are looked at:

* *The same seed twice.* ``f(z, s, a)`` must repeat, else an episode has chance that its seed does not decide.
* *The same seed, other parameters.* If ``f(z, s, a) = f(z', s, a)`` to the last bit for all of them, the parameters are ignored.
* *The same parameters, other seeds.* If ``f(z, s, a) = f(z, s', a)`` to the last bit, the task has no chance, or ``reset`` ignores its
  seed. Episodes that differ where ``reset`` is given no seed show the latter.
* *Other seeds and other parameters.* In block b every one of the K tasks has one episode of a seed of its own, with the same policy or
  actions. If the distribution of episodes does not depend on z, the K episodes of a block are exchangeable. With ``R_bkf`` the rank in its
  block of feature f,

      T = max_f sum_k (mean_b R_bkf - (K+1)/2)^2 / var_f

  is compared with its values under permutations within blocks (Friedman's statistic, its largest over features). It is read after 8, 16 and
  32 blocks, at a third of the level each: an environment that ignores its parameters passes for one that uses them with probability at most
  ``LEVEL``.

A ``reset`` that draws parameters *around* those asked for has episodes that depend on z, and its further chance is chance within one task
for whoever sees episodes only. What gives it away now and then is the environment's own memory (the attributes that it holds).

Letters: K parameters, p their dimension, n blocks, F features of an episode.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.errors import SimulationError
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import Rollouts, RolloutWorker

__all__ = ["Dependence", "RandomActions", "dependence", "far_apart", "ignored"]

POINTS, CANDIDATES = 4, 64
"""Tasks that are compared, and sampled ones among which they are the farthest apart."""
LOOKS = (8, 16, 32)
"""Blocks after which the permutation test is read."""
LEVEL = 0.01
"""Probability that it finds a dependence where there is none."""
PERMUTATIONS = 999
EXACT = 8
"""Blocks that have to be equal to the last bit before anything is called ignored."""
PURPOSE = 8
"""Number of the purpose in the seeds of these episodes."""
ATTEMPTS, APART = 5, 100_000
"""Seeds that are tried for one episode before a simulator that gives up is an error, and how far apart their numbers are."""
COORDINATES = 32
"""Entries of an observation that are looked at, evenly spread."""
CLOSE = 1e-5
"""Relative difference between two runs of one seed that rounding explains."""
DEPTH, LEAVES, LARGEST = 4, 2000, 64
"""How far an environment's attributes are followed, how many numbers are kept, and how large an array may be."""


def far_apart(family: GymFamily, seed: int) -> FloatArray:
    """(K, p) at most ``POINTS`` different sampled parameters, each as far from the ones before as any candidate is."""
    points = family.sample(CANDIDATES, np.random.default_rng((seed, PURPOSE)))
    width = np.diff(family.support, axis=1)[:, 0]
    spread = np.ptp(points, axis=0)
    scale = np.where(np.isfinite(width) & (width > 0.0), width, np.where(spread > 0.0, spread, 1.0))
    unit = points / scale
    chosen = [int(np.linalg.norm(unit - unit.mean(axis=0), axis=1).argmax())]
    while len(chosen) < POINTS:
        away = np.linalg.norm(unit[:, None] - unit[chosen], axis=2).min(axis=1)
        if not away.max() > 0.0:
            break
        chosen.append(int(away.argmax()))
    return np.asarray(points[chosen])


@dataclass(frozen=True)
class Dependence:
    """What was found.

    Attributes:
        problems: parameters or seeds that are ignored.
        notes: what may be meant so.
        p_value: of the last look of the permutation test; ``None`` where it was not needed.
        episodes: how many were run.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    p_value: float | None
    episodes: int


def ignored(family: GymFamily, policies: Sequence[Any], *, seed: int) -> list[str]:
    """Parameters that change nothing and seeds that decide nothing: what makes any training senseless, from a few episodes of the library."""
    points = far_apart(family, seed)
    with _Probe(family, points, policies, seed, random=False) as probe:
        return [text for text in (probe.hidden(), probe.same_everywhere(), probe.seedless()[0]) if text]


def dependence(family: GymFamily, policies: Sequence[Any], *, seed: int) -> Dependence:
    """Everything that can be found out, with random actions and with the policies (as deployed).

    Raises:
        SimulationError: an environment or a policy breaks a rule.
    """
    points = far_apart(family, seed)
    with _Probe(family, points, policies, seed, random=True) as probe:
        problem = probe.hidden() or probe.same_everywhere()
        notes = [] if problem else list(probe.idle())
        wrong, odd = probe.seedless()
        problems = [text for text in (problem, wrong) if text]
        notes += [odd] if odd else []
        notes += probe.redrawn()
        value = None
        if not problems and len(points) > 1 and not family.shared and not odd:
            value, text = probe.exchangeable()
            notes += [text] if text else []
        return Dependence(tuple(problems), tuple(notes), value, probe.count)


class RandomActions:
    """Uniform draws from an action space; the space's own generator is not touched."""

    def __init__(self, space: Any) -> None:
        self.space = space

    def predict(self, observation: Any, *, rng: np.random.Generator) -> tuple[Any, None]:
        """An action."""
        kind = type(self.space).__name__
        if kind == "Box":
            low = np.where(np.isfinite(self.space.low), self.space.low, -1.0)
            high = np.where(np.isfinite(self.space.high), self.space.high, 1.0)
            return rng.uniform(low, high).astype(self.space.dtype), None
        if kind == "Discrete":
            return int(self.space.start + rng.integers(self.space.n)), None
        self.space.seed(int(rng.integers(2**31)))
        return self.space.sample(), None


class _Sequence:
    """The same random actions in every episode, whatever is observed; ``held`` ones stay for a whole episode."""

    def __init__(self, space: Any, entropy: tuple[int, ...], held: bool) -> None:
        self._draw, self._entropy, self._held = RandomActions(space), entropy, held
        self._rng = np.random.default_rng(entropy)
        self._action: Any = None

    def for_episode(self) -> _Sequence:
        """From the first action on."""
        return _Sequence(self._draw.space, self._entropy, self._held)

    def predict(self, observation: Any) -> tuple[Any, None]:
        """The next action."""
        if self._action is None or not self._held:
            self._action = self._draw.predict(observation, rng=self._rng)[0]
        return copy.copy(self._action), None


@dataclass(frozen=True, eq=False)
class _Episode:
    """One episode: a digest of everything seen, its features (F,), the outcomes, and the numbers that the environment held after every step."""

    digest: bytes
    features: FloatArray
    rollouts: Rollouts
    held: list[dict[str, FloatArray]]


class _Watched:
    """An environment that writes down what it shows; ``seeded = False`` keeps the seed from it."""

    def __init__(self, env: Any, scan: bool) -> None:
        self._env, self._scan = env, scan
        self.seeded = True
        self.made = _numbers(env) if scan else {}

    def reset(self, *, seed: int) -> Any:
        result = self._env.reset(seed=seed) if self.seeded else self._env.reset()
        self.digest = hashlib.blake2b()
        self.shown: list[FloatArray] = []
        self.held = [_numbers(self._env)] if self._scan else []
        self._see(result[0] if isinstance(result, tuple) and result else None)
        return result

    def step(self, action: Any) -> Any:
        result = self._env.step(action)
        if isinstance(result, tuple) and len(result) > 1:
            self._see(result[0])
            self.digest.update(repr(result[1]).encode())
        if self._scan and len(self.held) <= 3:
            self.held.append(_numbers(self._env))
        return result

    def _see(self, observation: Any) -> None:
        flat = np.asarray(observation, dtype=np.float64).ravel()
        self.digest.update(flat.tobytes())
        self.shown.append(flat[:: max(1, -(-flat.size // COORDINATES))].copy())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._env, name)


class _Probe:
    """The tasks at (K, p), one environment each, and what is run in them."""

    def __init__(
        self, family: GymFamily, points: FloatArray, policies: Sequence[Any], seed: int, *, random: bool
    ) -> None:
        self.family, self.points, self.policies, self.seed = family, points, list(policies), seed
        self.random = random or not self.policies
        self.count = 0
        self.stack = ExitStack()

    def __enter__(self) -> _Probe:
        self.stages = [self._stage(point) for point in self.points]
        self.first = [self._blocked(0, k, 0) for k in range(min(2, len(self.stages)))]
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _stage(self, point: FloatArray, scan: bool = False) -> RolloutWorker:
        make = self.family.make
        watched = replace(self.family, make=lambda z: _Watched(make(z), scan))
        at = self.points if self.family.shared else None
        return self.stack.enter_context(RolloutWorker(watched, point, rewards_at=at, num_envs=1))

    def _blocked(self, block: int, task: int | RolloutWorker, number: int, seeded: bool = True) -> _Episode:
        """An episode of a block: the block decides the policy or the actions; ``number`` the seed."""
        worker = task if isinstance(task, RolloutWorker) else self.stages[task]
        (env,) = worker.environments(1)
        env.seeded = seeded
        kinds = 2 * self.random + bool(self.policies)
        kind = block % kinds
        if self.random and kind < 2:
            try:
                return self._run(
                    worker, _Sequence(env.action_space, (self.seed, PURPOSE, block), kind == 1), block, number
                )
            except SimulationError:
                # Ranges may hold for the policies only; then the policies alone are asked.
                if not self.policies:
                    raise
                self.random = False
        return self._run(worker, self.policies[block // kinds % len(self.policies)], block, number)

    def _run(self, worker: RolloutWorker, policy: Any, block: int, number: int) -> _Episode:
        self.count += 1
        seeded = worker.envs[0].seeded
        for attempt in range(ATTEMPTS):
            # An episode that the simulator does not finish says nothing; another seed takes its place, in every task the same.
            tolerant, first = attempt < ATTEMPTS - 1, number + attempt * APART
            found = worker.run(policy, block, seed=(self.seed, PURPOSE), first=first, count=1, tolerant=tolerant)
            if not found.failed[0]:
                break
            worker.envs[0].seeded = seeded
        env = worker.envs[0]
        shown = np.asarray(env.shown)
        change = np.abs(np.diff(shown, axis=0)).mean(axis=0) if len(shown) > 1 else np.zeros(shown.shape[1])
        outcomes = np.concatenate([found.returns.ravel(), found.costs.ravel(), found.signals.ravel(), found.lengths])
        features = np.concatenate([outcomes, shown[0], shown[-1], shown.mean(axis=0), change])
        env.digest.update(found.costs.tobytes() + found.signals.tobytes() + found.returns.tobytes())
        return _Episode(env.digest.digest(), features, found, env.held)

    def _where(self, point: FloatArray) -> str:
        return f"{self.family.name} at {point.tolist()}"

    def hidden(self) -> str | None:
        """The same seed in another environment of the same task."""
        again = self._blocked(0, self._stage(self.points[0]), 0)
        for name in ("first_observations", "lengths", "returns", "costs", "signals"):
            one, two = (np.asarray(getattr(e.rollouts, name), dtype=np.float64) for e in (self.first[0], again))
            if not np.allclose(one, two, rtol=CLOSE, atol=CLOSE * 0.01):
                return (
                    f"{name} of an episode must be decided by its seed, got others for the same one ({self._where(self.points[0])}); use the seed "
                    "that reset is given and draw from self.np_random alone"
                )
        return None

    def same_everywhere(self) -> str | None:
        """The same seeds at other parameters."""
        if len(self.points) < 2:
            return None
        for block in range(max(EXACT, 2 * len(self.policies))):
            first = self.first[0] if block == 0 else self._blocked(block, 0, 0)
            if self.family.shared:
                if np.ptp(first.rollouts.returns, axis=1).any():
                    return None
                continue
            for k in range(1, len(self.points)):
                other = self.first[1] if (block, k) == (0, 1) else self._blocked(block, k, 0)
                if other.digest != first.digest:
                    return None
        one, two = self.points[0].tolist(), self.points[1].tolist()
        what = "rewards=" if self.family.shared else "episodes"
        return (
            f"{what} of {self.family.name} must depend on the parameters of the task, got exactly the same at {one}, {two} and "
            f"{len(self.points) - 2} others for the same seeds and actions; use what make is given, and draw no parameter in reset"
        )

    def idle(self) -> Iterator[str]:
        """Parameters that change nothing, one by one."""
        if len(self.points) < 2 or self.points.shape[1] < 2 or self.family.shared:
            return
        for i, name in enumerate(self.family.parameter_names):
            ends = self.points[:, i]
            far = int(np.abs(ends - ends[0]).argmax())
            moved = self.points[0].copy()
            moved[i] = ends[far]
            if moved[i] == ends[0]:
                continue
            try:
                worker = self._stage(moved)
                same = all(self._blocked(b, worker, 0).digest == self._blocked(b, 0, 0).digest for b in range(EXACT))
            except Exception:
                # One by one, parameters may leave the set in which the family lives.
                continue
            if same:
                yield (
                    f"parameter {name!r} changed nothing: {EXACT} episodes were exactly the same at {ends[0]:.6g} and {moved[i]:.6g}, "
                    f"the others as in {self.points[0].tolist()}; is it used?"
                )

    def seedless(self) -> tuple[str | None, str | None]:
        """The same parameters with other seeds, and with none: a problem, or a note."""
        for block, k in itertools.product(range(EXACT), range(len(self.points))):
            if self._blocked(block, k, 1).digest != self._blocked(block, k, 0).digest:
                return None, None
        without = [self._blocked(0, 0, 0, seeded=False).digest for _ in range(3)]
        if len(set(without)) > 1:
            return (
                f"episodes of {self.family.name} must differ with their seeds, got the same for all seeds although episodes without a seed differ; "
                "call super().reset(seed=seed) and draw from self.np_random alone"
            ), None
        return None, (
            f"every episode of a task of {self.family.name} was the same whatever its seed; right for tasks without chance, otherwise reset ignores "
            "its seed"
        )

    def redrawn(self) -> list[str]:
        """Attributes that stay in an episode, change between episodes of one task, and look like its parameters."""
        worker = self._stage(self.points[0], scan=True)
        episodes = [self._blocked(0, worker, number) for number in range(3)]
        made, asked = worker.envs[0].made, self.points[0]
        plain = {_plain(name): name for name in self.family.parameter_names}
        found = []
        for path, value in episodes[0].held[0].items():
            steps = [held for episode in episodes for held in episode.held]
            if any(path not in held or held[path].shape != value.shape for held in steps):
                continue
            tracks = [[held[path] for held in episode.held] for episode in episodes]
            within = all(np.array_equal(v, track[0]) for track in tracks for v in track)
            if not within or all(np.array_equal(track[0], value) for track in tracks):
                continue
            name = plain.get(_plain(path.rsplit(".", 1)[-1]))
            before = made.get(path)
            was = before is not None and bool(np.isin(before, asked).any())
            if name is None and not was:
                continue
            why = (
                f"is called like the parameter {name!r}"
                if name is not None
                else "held a parameter before the first reset"
            )
            shown = " and ".join(np.array2string(np.asarray(v[0]), precision=4, threshold=6) for v in tracks[:2])
            found.append(
                f"attribute {path} of the environment {why}, stays the same within an episode and differs between episodes of one task "
                f"({shown}); a parameter that reset draws again is none: keep what make was given, and let sampler draw"
            )
        return found

    def exchangeable(self) -> tuple[float, str | None]:
        """The permutation test: its last p-value, and what to say where no dependence was found."""
        rng = np.random.default_rng((self.seed, PURPOSE, 1))
        rows: list[list[FloatArray]] = []
        value = 1.0
        for look in LOOKS:
            for block in range(len(rows), look):
                rows.append([self._blocked(block, k, 2 + k).features for k in range(len(self.points))])
            value = _permuted(np.asarray(rows), rng)
            if value <= LEVEL / len(LOOKS):
                return value, None
        return value, (
            f"no dependence of episodes of {self.family.name} on the parameters was found: {LOOKS[-1]} episodes at each of {len(self.points)} "
            f"parameters far apart differ no more between tasks than within (permutation test at level {LEVEL:g}, p = {value:.2g}). Either reset "
            "draws again what make was given, and nothing that is certified holds in the real task; or tasks differ by less than so few episodes "
            "show, and cells cannot tell them apart. This check cannot say which"
        )


def _permuted(values: FloatArray, rng: np.random.Generator) -> float:
    """p-value of the hypothesis that the K entries of each block of (n, K, F) are exchangeable."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=1) - 0.5 * (values.shape[1] + 1)
    variance = (ranks**2).mean(axis=(0, 1))
    ranks = ranks[:, :, variance > 0.0] / np.sqrt(variance[variance > 0.0])
    if not ranks.size:
        return 1.0
    rows = np.arange(len(ranks))[:, None]

    def largest(table: FloatArray) -> float:
        return float((table.mean(axis=0) ** 2).sum(axis=0).max())

    seen = largest(ranks)
    orders = (rng.random(ranks.shape[:2]).argsort(axis=1) for _ in range(PERMUTATIONS))
    above = sum(largest(ranks[rows, order]) >= seen * (1.0 - 1e-12) for order in orders)
    return (1.0 + above) / (1.0 + PERMUTATIONS)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _numbers(env: Any) -> dict[str, FloatArray]:
    """The numbers and small arrays that an environment holds, by the path of their attributes; its spaces and generators are left out."""
    found: dict[str, FloatArray] = {}
    seen: set[int] = set()

    def walk(value: Any, path: str, depth: int) -> None:
        if len(found) >= LEAVES or "seed" in path.rsplit(".", 1)[-1].lower():
            return
        if isinstance(value, bool | str | bytes):
            return
        if isinstance(value, int | float | np.number):
            found[path] = np.asarray(float(value))
        elif isinstance(value, np.ndarray):
            if value.dtype.kind in "iuf" and 0 < value.size <= LARGEST:
                found[path] = value.astype(np.float64)
        elif depth < DEPTH and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, dict):
                items: Any = [(str(key), entry) for key, entry in value.items()]
            elif isinstance(value, list | tuple):
                items = [(str(k), entry) for k, entry in enumerate(value[:LARGEST])]
            elif type(value).__module__.startswith(("gymnasium.spaces", "numpy")) or isinstance(value, type):
                return
            else:
                items = getattr(value, "__dict__", {}).items()
            for key, entry in items:
                walk(entry, f"{path}.{key}" if path else key, depth + 1)

    walk(env, "", 0)
    return found
