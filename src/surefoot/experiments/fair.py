r"""Everybody on the boldest settings that the same rehearsal supports: a comparison in which no method is held back by its proof.

Every method has a *ladder*, a list of settings from cautious to bold that is fixed here, before any result. A rehearsal plays the rungs on the same m
fresh plants from the family, K episodes each. A run *violates* when some mixture deployed in it, or the safe policy alone, has an exact expected cost
above a limit. With ``k_r`` violating runs on rung r, the ladder is walked from its cautious end, and rung r is accepted while

    P(Bin(m, alpha) <= k_r) <= delta_coverage                                              (surefoot.stats.binomial: rejects, fixed_sequence)

The first rung that is not ends the walk. Let t be the first rung whose true rate is at least alpha: some accepted rung has such a rate only if t was
accepted, which has probability at most ``delta_coverage``. So **all accepted rungs of a method hold together**, and any of them may be chosen by
looking at the same runs. Chosen is the accepted rung of smallest mean regret in the rehearsal, which is what the method's friends would choose. It
then plays the test tasks. The statement is one per method: that all methods' choices are right at once has error ``delta_coverage`` times
their number.

*What need not be played.* Which rungs are accepted is a function of ``k_1, k_2, ...`` in which nothing after the first refusal matters; and once more
runs of a rung violate than are allowed, that rung is refused whatever the rest would show. Runs that are left out on these two grounds would
not change the outcome, so the error probability is that of the full procedure. No rung is accepted before all m of its runs have been played.

Plants come from a stream derived from the seed and from the content of everything that is frozen: policy sets, all ladders, K, alpha. The same plants
and the same chance serve all rungs and methods, whichever of them are asked for. Letters: m plants, K episodes, n tasks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.cmdp.evaluate import evaluate
from surefoot.deploy.trace import VIOLATION_TOLERANCE
from surefoot.errors import InvalidInput
from surefoot.experiments.comparison import follow_one, play_one
from surefoot.experiments.registry import check_agents
from surefoot.experiments.run_directory import RunDirectory
from surefoot.parallel import map_tasks
from surefoot.policyset.schema import PolicySet
from surefoot.solvers.linear_program import solve
from surefoot.stats.binomial import clopper_pearson_upper, failures_allowed, rejects, trials_needed
from surefoot.tasks.family import TabularFamily

__all__ = ["LADDERS", "Ladder", "RehearsedLadder", "RehearsedRung", "ladders_called", "rehearse_ladders"]

STREAM = 0xFA18
LABEL = "rehearsing methods"

MULTIPLIERS = (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 1e-4)
BETWEEN = (0.8, 0.9, 0.95)
BEYOND = (1.05, 1.1, 1.2, 1.3)
DELTAS = (0.05, 0.3, 0.9)
BOLDNESS = (4.0, 3.5, 3.0, 2.7, 2.4, 2.1, 1.8, 1.5, 1.2)


@dataclass(frozen=True)
class Ladder:
    """Settings of one method.

    Attributes:
        method: its name in tables.
        rungs: names of agents (:mod:`surefoot.experiments.registry`), the most cautious first.
    """

    method: str
    rungs: tuple[str, ...]


def _scaled(key: str) -> Ladder:
    """All confidence radii of a published method times a multiplier, from the constants of its proof downwards."""
    return Ladder(key, (f"{key}:theory", *(f"{key}:calibrated={m:g}" for m in MULTIPLIERS)))


def _certified(level: str) -> Ladder:
    return Ladder(f"certified:{level}", tuple(f"certified:{level}:delta={d:g}" for d in DELTAS))


LADDERS = (
    Ladder("rehearsed", tuple(f"rehearsed:{b:g}" for b in BOLDNESS)),
    *map(_certified, ("cells", "envelope", "data")),
    Ladder(
        "safe-pce",
        (
            "safe-pce:theory",
            *(f"safe-pce:between={s:g}" for s in BETWEEN),
            "safe-pce:published",
            *(f"safe-pce:between={s:g}" for s in BEYOND),
        ),
    ),
    Ladder("pce", ("pce:theory", "pce:published")),
    *map(_scaled, ("safe-meta-rl", "meta-srl", "lb-sgd", "optpess-lp", "dope", "dope-plus")),
    *(Ladder(name, (name,)) for name in ("safe-meta-rl:published", "lb-sgd:published", "dope-plus:published")),
)  # fmt: skip
"""Every method that learns. What plays one policy for ever has no ladder: it is beside the table as it is."""


def ladders_called(methods: Sequence[str]) -> tuple[Ladder, ...]:
    """The ladders of these methods, in this order.

    Raises:
        InvalidInput: none, one named twice, or a method without a ladder.
    """
    known = {ladder.method: ladder for ladder in LADDERS}
    if not methods or len(set(methods)) < len(methods):
        raise InvalidInput(
            f"methods must be distinct names, got {list(methods)}; list every method once", code="SF-ARGUMENT-DISTINCT"
        )
    for name in methods:
        if name not in known:
            raise InvalidInput(
                f"method must be one of {', '.join(known)}, got {name!r}; choose some", code="SF-ARGUMENT-CHOICE"
            )
    return tuple(known[name] for name in methods)


@dataclass(frozen=True)
class RehearsedRung:
    """What the rehearsal showed of one setting.

    Attributes:
        agent: its name.
        plants: runs that were played; fewer than m where the refusal was certain before.
        violating: of them, runs with a mixture above a limit.
        upper: at error ``delta_coverage``, the rate of violating runs is at most this; ``None`` where runs were left out.
        accepted: whether the ladder was walked past this rung.
        mean_regret: over the runs played, violating ones among them.
        largest_excess: of an expected cost over its limit, negative where all stayed below.
        seconds: of all runs.
    """

    agent: str
    plants: int
    violating: int
    upper: float | None
    accepted: bool
    mean_regret: float
    largest_excess: float
    seconds: float


@dataclass(frozen=True)
class RehearsedLadder:
    """What the rehearsal showed of one method.

    Attributes:
        method: its name.
        rungs: those that were played, the refused one last if there is one.
        ladder: number of rungs that there are.
    """

    method: str
    rungs: tuple[RehearsedRung, ...]
    ladder: int

    @property
    def accepted(self) -> tuple[RehearsedRung, ...]:
        """All that hold together; none where the method is not deployable at alpha."""
        return tuple(rung for rung in self.rungs if rung.accepted)

    @property
    def chosen(self) -> RehearsedRung | None:
        """The accepted rung of smallest mean regret, the bolder one of equals."""
        return min(reversed(self.accepted), key=lambda rung: rung.mean_regret, default=None)

    def as_dict(self) -> dict[str, Any]:
        """As it is written into ``summary.json``."""
        chosen = self.chosen
        return {
            "method": self.method,
            "ladder": self.ladder,
            "chosen": None if chosen is None else chosen.agent,
            "boldest_accepted": self.accepted[-1].agent if self.accepted else None,
            "rungs": [dict(vars(rung)) for rung in self.rungs],
        }


@dataclass(frozen=True, eq=False)
class _Rehearsal:
    """What all ladders share."""

    family: TabularFamily
    policy_set: PolicySet
    coarse_set: PolicySet
    points: FloatArray
    optima: FloatArray
    unsafe: Any
    settings: tuple[int, float, int]
    alpha: float
    delta_coverage: float

    def walk(self, ladder: Ladder) -> RehearsedLadder:
        """Until the first refusal."""
        played: list[RehearsedRung] = []
        for agent in ladder.rungs:
            played.append(self._rung(agent))
            if not played[-1].accepted:
                break
        return RehearsedLadder(ladder.method, tuple(played), len(ladder.rungs))

    def _rung(self, agent: str) -> RehearsedRung:
        """Until the refusal is certain, or all plants have been met."""
        plants, limits = len(self.points), self.family.criterion.cost_limits
        play = follow_one if agent.partition(":")[0] == "rehearsed" else play_one
        allowed = failures_allowed(plants, self.alpha, self.delta_coverage)
        violating, regret, excess, seconds, done = 0, 0.0, -np.inf, 0.0, 0
        while done < plants and (allowed is None or violating <= allowed):
            trace, _ = play(
                self.family, self.policy_set, self.coarse_set, *self.settings, agent, done, self.points[done]
            )
            violating += bool(self.unsafe[done] or trace.violating(limits))
            regret += float(trace.regret(float(self.optima[done]), np.array([trace.ends[-1]]))[0])
            excess = max(excess, float((trace.costs - limits).max(initial=-np.inf)))
            seconds += trace.seconds
            done += 1
        accepted = done == plants and rejects(violating, plants, self.alpha, self.delta_coverage)
        upper = clopper_pearson_upper(violating, plants, self.delta_coverage) if done == plants else None
        return RehearsedRung(agent, done, violating, upper, accepted, regret / done, excess, seconds)


def _walk(rehearsal: _Rehearsal, ladder: Ladder) -> RehearsedLadder:
    return rehearsal.walk(ladder)


def rehearse_ladders(
    family: TabularFamily,
    policy_set: PolicySet,
    coarse_set: PolicySet,
    ladders: Sequence[Ladder],
    *,
    plants: int,
    episodes: int,
    alpha: float = 0.05,
    delta_coverage: float = 0.05,
    delta: float = 0.05,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
    run: RunDirectory | None = None,
) -> list[RehearsedLadder]:
    """Rehearse every ladder on the same fresh plants; the result does not depend on ``workers``.

    Args:
        family: the plants.
        policy_set: what agents deploy; with a belief for ``rehearsed``.
        coarse_set: for the published constants.
        ladders: fixed beforehand.
        plants: m.
        episodes: K.
        alpha: share of violating deployments that is tolerated.
        delta_coverage: error probability of each method's rehearsal.
        delta: given to agents whose setting does not say otherwise.
        seed: of everything.
        workers: processes.
        progress: show progress.
        run: keeps finished ladders.

    Raises:
        InvalidInput: an argument out of range, or fewer plants than any acceptance needs.
    """
    check_rehearsal(plants, episodes, alpha, delta_coverage)
    check_agents([agent for ladder in ladders for agent in ladder.rungs])
    entropy = _entropy([policy_set.hash, coarse_set.hash], ladders, plants, episodes, alpha, delta_coverage, seed)
    points = np.asarray(family.sample(plants, np.random.default_rng(entropy)), dtype=np.float64)
    models = [family.cmdp(p) for p in points]
    limits = family.criterion.cost_limits
    optima = np.array([solve(model).value_or_raise().value for model in models])
    safe = np.array([evaluate(model, policy_set.safe_policy).costs for model in models])
    unsafe = (safe > limits * (1.0 + VIOLATION_TOLERANCE)).any(axis=1)
    chance = int(entropy.spawn(1)[0].generate_state(1)[0])
    shared = _Rehearsal(
        family, policy_set, coarse_set, points, optima, unsafe, (episodes, delta, chance), alpha, delta_coverage
    )
    calls = [(shared, ladder) for ladder in ladders]
    how: dict[str, Any] = {"workers": workers, "label": LABEL, "progress": progress, "batch_size": 1}
    return map_tasks(_walk, calls, **how) if run is None else run.map("ladders", _walk, calls, **how)


def check_rehearsal(plants: int, episodes: int, alpha: float, delta_coverage: float) -> None:
    """Refuse what no rung could pass, before anything is trained.

    Raises:
        InvalidInput: an argument out of range, or fewer plants than any acceptance needs.
    """
    check_integer("episodes", episodes, low=1)
    check_integer("plants", plants, low=1)
    for name, value in (("alpha", alpha), ("delta_coverage", delta_coverage)):
        check_real(name, value, low=0.0, high=1.0, open_low=True, open_high=True)
    fewest = trials_needed(0, alpha, delta_coverage)
    if plants < fewest:
        raise InvalidInput(
            f"plants must be at least {fewest} for alpha={alpha:g} and delta_coverage={delta_coverage:g}, got {plants}: even without a violating run "
            f"nothing would be accepted; take {fewest} or more",
            code="SF-ARGUMENT-RANGE",
        )


def _entropy(hashes: list[str], ladders: Sequence[Ladder], *settings: float) -> np.random.SeedSequence:
    """Of the plants: whoever changes a ladder meets others, whoever asks for fewer methods does not."""
    fixed = [*LADDERS, *(ladder for ladder in ladders if ladder not in LADDERS)]
    frozen = json.dumps([hashes, [[ladder.method, *ladder.rungs] for ladder in fixed], settings])
    digest = hashlib.sha256(frozen.encode()).digest()
    return np.random.SeedSequence([STREAM, int(settings[-1]), int.from_bytes(digest[:16], "big")])
