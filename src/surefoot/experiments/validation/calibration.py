"""Do the e-processes of cells keep their promise where it is tightest?

If the real task lies in cell i, its wealth ever reaches ``1/delta`` with probability at most ``delta`` (Ville), whatever is played. Here the
largest wealth of one true cell is simulated for every kind of evidence, and the crossing rate is compared with every level at once:

================ ===========================================================================================================
position         where the truth stands
================ ===========================================================================================================
inside           fresh tasks of the family; the lowest-index cell that contains them
edges            tasks at the edge of a cell, that cell
vertices         transitions: kernels whose every row is a vertex of the cell's box within the simplex; returns: outcomes whose means,
                 given policy (and initial state), are vertices of the predicted box
================ ===========================================================================================================

Vertices are where suprema over boxes are attained: a process that was only right for training tasks, or at a box's centre, fails there.
They are chosen *towards* another cell, often a neighbour, so that the true cell looks as wrong as the box allows. Nobody's task need look
like that; the null hypothesis is the whole box. Outcomes at vertices follow two-point laws, in half of the runs on the ends of the
range (the heaviest tails), else on a narrow interval around the mean; signals are independent or move together.

Kinds: ``transitions``, ``joint`` and ``separate`` (returns and costs), and the average that decides, ``all`` and ``returns``. The evidence is the
agent's own object, with the agent's batches; only the other cells are switched off.

Letters: N cells, J policies, F = 1 + I signals, B initial states, E entries of the kernel support, n episodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_matrix

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Simulator, transition_rows
from surefoot.deploy.evidence import Evidence, PredictionTable
from surefoot.deploy.report import Report
from surefoot.deploy.trace import batch_sizes
from surefoot.experiments.validation.scenarios import TaskSampler, World
from surefoot.experiments.validation.truth import library_tables
from surefoot.policy import Mixture
from surefoot.policyset.schema import KernelBoxes, PolicySet

__all__ = ["KINDS", "POSITIONS", "MaxWealth", "Null", "find_nulls", "run_null"]

POSITIONS = ("inside", "edges", "vertices", "vertices by initial state")
KINDS = ("transitions", "joint", "separate", "all", "returns")
TASKS = 12
"""Different truths per position; runs go round them."""
NARROW = 0.02
"""Half-width of the narrow two-point laws, as a share of the signal's range."""


@dataclass(frozen=True)
class Null:
    """One run of a true null hypothesis.

    Attributes:
        position: one of :data:`POSITIONS`.
        cell: whose wealth is watched.
        parameters: of the task, or those of the cell's centre for vertices.
        towards: another cell; vertices are chosen towards it.
        run: number, for the random streams.
    """

    position: str
    cell: int
    parameters: tuple[float, ...]
    towards: int
    run: int


@dataclass(frozen=True)
class MaxWealth:
    """Largest log-wealth of the true cell during one run.

    Attributes:
        position: as in :class:`Null`.
        peaks: kind to largest log-wealth; kinds that the position does not speak of are absent.
    """

    position: str
    maxima: dict[str, float]


def find_nulls(world: World, sampler: TaskSampler, runs: int, seed: int) -> list[Null]:
    """Runs for every position that the policy set allows; ``runs`` each."""
    rng = np.random.default_rng([seed, 0])
    cells = world.policy_set.cells
    places: dict[str, list[tuple[int, tuple[float, ...]]]] = {
        "inside": _inside(world, sampler, rng),
        "edges": [(cell, tuple(point.tolist())) for point, cell in zip(*sampler.edges())],
        "vertices": [(int(i), tuple(cells.parameters[i].tolist())) for i in rng.integers(len(cells), size=2 * TASKS)],
    }
    if cells.conditional is not None:
        places["vertices by initial state"] = places["vertices"]
    found = []
    for position, where in places.items():
        for run in range(runs):
            # Neighbouring runs share a task, whose tables are then made once.
            cell, parameters = where[run * len(where) // runs]
            found.append(Null(position, cell, parameters, _other(cell, cells.parameters, rng), run))
    return found


def _inside(world: World, sampler: TaskSampler, rng: np.random.Generator) -> list[tuple[int, tuple[float, ...]]]:
    found: list[tuple[int, tuple[float, ...]]] = []
    for point in np.asarray(world.family.sample(8 * TASKS, rng)):
        home = sampler.truth(point).home
        if home is not None and len(found) < 2 * TASKS:
            found.append((home, tuple(point.tolist())))
    return found


def _other(cell: int, centers: FloatArray, rng: np.random.Generator) -> int:
    """Another cell: half of the time one of the two nearest, which the truth at a vertex resembles most."""
    if len(centers) == 1:
        return cell
    scale = np.maximum(centers.std(axis=0), 1e-300)
    distance = (np.abs(centers - centers[cell]) / scale).max(axis=1)
    distance[cell] = -1.0
    others = np.argsort(distance, kind="stable")[1:]
    return int(rng.choice(others[:2] if rng.random() < 0.5 else others))


def run_null(world: World, nulls: Sequence[Null], episodes: int, seed: int) -> list[MaxWealth]:
    """Play runs one after the other."""
    policy_set = world.policy_set
    tables = library_tables(policy_set.policies)
    ceilings = np.asarray(policy_set.bounds.cost_ceilings, dtype=np.float64)
    table = PredictionTable.of(policy_set, ceilings)

    @lru_cache(maxsize=2)
    def simulator(parameters: tuple[float, ...], kernel_of: tuple[int, int] | None) -> Simulator:
        task = world.family.cmdp(np.asarray(parameters))
        if kernel_of is not None and policy_set.cells.kernel is not None:
            task = vertex_task(task, policy_set.cells.kernel, *kernel_of)
        return Simulator(task, tables)

    results = []
    for null in nulls:
        chance, draws = (
            np.random.default_rng([seed, 1 + POSITIONS.index(null.position), null.run, part]) for part in (0, 1)
        )
        mixture = _mixture(policy_set, null.cell, draws)
        number = int(chance.integers(2**62))
        if null.position in ("inside", "edges"):
            maxima = _watch_task(
                policy_set, null.cell, simulator(null.parameters, None), mixture, episodes, number, draws
            )
        else:
            maxima = _watch_outcomes(policy_set, table, null, mixture, episodes, chance)
            if null.position == "vertices" and policy_set.cells.kernel is not None:
                vertex = simulator(null.parameters, (null.cell, null.towards))
                walk = _watch_task(policy_set, null.cell, vertex, mixture, episodes, number, draws)
                maxima["transitions"] = walk["transitions"]
        results.append(MaxWealth(null.position, maxima))
    return results


def _mixture(policy_set: PolicySet, cell: int, rng: np.random.Generator) -> Mixture:
    """The safe policy, the cell's own and one more, in random proportions."""
    n_policies = len(policy_set.policies)
    weights = np.zeros(n_policies)
    members = [0, int(policy_set.cells.policy_index[cell]), int(rng.integers(n_policies))]
    np.add.at(weights, members, rng.dirichlet(np.ones(len(members))))
    return Mixture(weights / weights.sum())


class _Watch:
    """The evidence of one kind about one cell, and its largest values."""

    def __init__(self, policy_set: PolicySet, kind: str, cell: int) -> None:
        ceilings = np.asarray(policy_set.bounds.cost_ceilings, dtype=np.float64)
        self.evidence = Evidence(policy_set, kind, 0.5, ceilings)
        self.evidence.watched[:] = False
        self.evidence.watched[cell] = True
        self._kind, self._cell = kind, cell
        self.maxima: dict[str, float] = {}

    def settle(self, told: Report) -> None:
        """Multiply in one batch."""
        everyone = np.arange(told.ids.size)
        self.evidence.settle(told, [(self.evidence.bets(), everyone)])
        for name, value in log_wealths(self.evidence, self._kind, self._cell).items():
            self.maxima[name] = max(self.maxima.get(name, 0.0), value)


def log_wealths(evidence: Evidence, kind: str, cell: int) -> dict[str, float]:
    """Log-wealth of one cell by kind of evidence, and the average that decides (under the name of ``kind``)."""
    if not evidence.watched[cell]:
        return {kind: math.inf}
    found = {name: float(part[cell]) for name, part in evidence.parts().items()}
    found[kind] = float(evidence.log_wealth()[cell])
    if "transitions" in found and not evidence.possible[cell]:
        found |= {"transitions": math.inf, kind: math.inf}
    # Beside transitions the bets on returns are the same as without, or idle.
    return {name: found[name] for name in (kind, "transitions") if name in found} if "transitions" in found else found


def _watch_task(
    policy_set: PolicySet,
    cell: int,
    simulator: Simulator,
    mixture: Mixture,
    episodes: int,
    seed: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    watches = [_Watch(policy_set, "returns", cell)]
    if policy_set.cells.kernel is not None:
        watches.append(_Watch(policy_set, "all", cell))
    first = 0
    for n in batch_sizes(episodes):
        index = mixture.draw(n, rng)
        seen = simulator.run(index, seed=seed, first_episode=first, groups=np.zeros(n, dtype=np.int64))
        counts = None if seen.transitions is None else transition_rows(simulator.cmdp, seen.transitions[0])
        outcomes = np.column_stack([seen.returns, simulator.cmdp.measure(seen.costs)])
        for watch in watches:
            watch.settle(
                Report(
                    np.arange(first, first + n),
                    outcomes[:, 0],
                    outcomes[:, 1:],
                    seen.initial_states,
                    counts,
                    None,
                    index,
                )
            )
        first += n
    return {name: peak for watch in watches for name, peak in watch.maxima.items()}


def _watch_outcomes(
    policy_set: PolicySet, table: PredictionTable, null: Null, mixture: Mixture, episodes: int, rng: np.random.Generator
) -> dict[str, float]:
    """Artificial outcomes; separate bets never look at initial states, so those are read unconditionally."""
    by_state = null.position == "vertices by initial state"
    means = vertex_means(table, null.cell, null.towards, rng)
    narrow, together = rng.random(2) < 0.5
    watch, first = _Watch(policy_set, "returns", null.cell), 0
    for n in batch_sizes(episodes):
        index = mixture.draw(n, rng)
        column = rng.integers(table.states.size, size=n) if by_state else np.full(n, table.states.size)
        outcomes = two_point(means[index, :, column], table.low, table.high, bool(narrow), bool(together), rng)
        states = table.states[column] if by_state else None
        watch.settle(Report(np.arange(first, first + n), outcomes[:, 0], outcomes[:, 1:], states, None, None, index))
        first += n
    speaks = ("joint",) if by_state else ("joint", "separate", "returns")
    return {kind: watch.maxima[kind] for kind in speaks}


def vertex_means(table: PredictionTable, cell: int, towards: int, rng: np.random.Generator) -> FloatArray:
    """(J, F, B+1) vertices of the cell's boxes on the side of another cell's centre, random where that lies inside."""
    lower, upper, aim = table.lower[cell], table.upper[cell], table.center[towards]
    above = np.where((aim >= lower) & (aim <= upper), rng.random(lower.shape) < 0.5, aim > upper)
    low, high = table.low[None, :, None], table.high[None, :, None]
    result: FloatArray = np.clip(np.where(above, upper, lower), low, high)
    return result


def two_point(
    means: FloatArray, low: FloatArray, high: FloatArray, narrow: bool, together: bool, rng: np.random.Generator
) -> FloatArray:
    """(n, F) outcomes in ``[low, high]`` with exactly these means (n, F): on the ends, or on a narrow interval around the mean."""
    width = NARROW * (high - low)
    left = np.maximum(low, means - width) if narrow else np.broadcast_to(low, means.shape)
    right = np.minimum(high, means + width) if narrow else np.broadcast_to(high, means.shape)
    share = np.where(right > left, (means - left) / np.where(right > left, right - left, 1.0), 0.0)
    shape = (len(means), 1) if together else means.shape
    result: FloatArray = np.where(rng.random(shape) < share, right, left)
    return result


def vertex_task(task: TabularCMDP, kernel: KernelBoxes, cell: int, towards: int) -> TabularCMDP:
    """``task`` with every row of its kernel at the vertex of the cell's box that looks most like another cell."""
    lower, upper = kernel.lower[cell], kernel.upper[cell]
    state, action, successor = kernel.support.T
    rows = (state * task.n_actions + action).astype(np.int64)
    wish = kernel.center[towards] / np.maximum(kernel.center[cell], 1e-300)
    row = _vertices(lower, upper, wish, rows)
    matrix = csr_matrix((row, (rows, successor)), shape=(task.n_states * task.n_actions, task.n_states))
    return TabularCMDP(
        matrix, task.rewards, task.costs, task.cost_limits, task.start, task.discount, task.functionals, task.grid
    )


def _vertices(lower: FloatArray, upper: FloatArray, wish: FloatArray, rows: IntArray) -> FloatArray:
    """(E,) for each row the probabilities in the box that maximise ``wish . P``: filled in the order of the wish."""
    result = lower.copy()
    for row in np.unique(rows):
        mine = np.flatnonzero(rows == row)
        rest = 1.0 - lower[mine].sum()
        for e in mine[np.argsort(-wish[mine], kind="stable")]:
            more = min(max(rest, 0.0), upper[e] - lower[e])
            result[e] += more
            rest -= more
    return result
