r"""How many episodes of a ``cells`` deployment can be worse than eps-optimal: theorem T9 of ``docs/guarantees.md``, computed.

The real task M lies in cell i; its values ``R`` (J,), ``C`` (J, I) and its optimum ``V*`` are given, and so are the variances of outcomes. A cell q
is *watched* until its wealth has reached ``1/(FINAL delta_e)``; it is rejected for good then.

**Information.** Let f be an episode's factor in one component of cell q's wealth, whose weight is omega, and ``phi_j = E_M[f^-s]`` under policy j,
for some s > 0 fixed beforehand. For the deployed mixtures ``w_k``, ``prod_k f_k^-s / sum_j w_kj phi_j`` is a nonnegative martingale, so by Ville and
``-ln(1 - x) >= x``, with probability at least ``1 - delta'``: while q is watched

    sum_k sum_j w_kj a_j < s ln(1/(FINAL delta_e omega)) + ln(1/delta') =: beta,        a_j = 1 - phi_j.

Episodes that are asked but have not taken effect are not in the sum: there are D of them at most, the last one included. Two consequences:

* *plays* ``T_qj = beta / a_j + D``: before cell q is out for good, policy j gets a total weight below this, if no policy has a negative ``a``. The
  bets of :mod:`~surefoot.deploy.evidence.marginal` are components that move on one policy's episodes only. For a factor ``1 + y``, ``y >= -b``,
  ``0 < b < 1``,

      (1+y)^-s <= 1 - s y + y^2 ((1-b)^-s - 1 - s b) / b^2,                             (the quotient falls in y)

  so that ``phi`` is bounded by the first two moments of the outcome.
* *episodes* ``n_q = beta / min_j a_j + D``: where every policy informs, q is out after so many episodes whatever is played. The bets of
  :mod:`~surefoot.deploy.evidence.transitions` are of that kind: their ``phi_j`` is a product along the path, summed by recursion.

**What a plan can lose.** Let l be the candidate cell (largest ``ubar`` among active cells, so ``ubar_l >= V*`` while i is active), j(l) its policy,
and let all active cells be in U. Then (:meth:`Losses.worst`)

    r_l . w >= v = (1 - kappa') v_l(U) + kappa' min over a in {alpha_l(U), 1} of (a r_l(j(l)) + (1 - a) r_l(0)),
    V* - R . w <= V* - min { R . w' : w' in the simplex, C . w' <= d, r_l . w' >= v, g . w' <= theta }    if  g . w <= theta,

``v_l(U)`` the optimum of the plan's program with the rows ``V+`` of all of U, ``kappa'`` the largest share of exploration. Plans give j(l) a weight
of at least ``kappa alpha_l(U)``, kappa the least share.

**The count.** Let ``g_l(j) = max(r_l(j) - R_j, 0)`` for policies with finite ``T_lj``, and ``U_l(x)`` the cell i and all q with ``T_q,j(l) > x``. For
every theta, among the episodes with candidate l, at most ``sum_j T_lj g_l(j) / theta`` have ``g_l . w > theta``. The others are eps-optimal once j(l)
has had the weight ``x_l``, from which on l is not in ``U_l(x)`` or the loss above is at most eps for ``U = U_l(x)``. Hence

    N(eps) <= sum_l min(n_l, min over theta of [sum_j T_lj g_l(j) / theta + (1/kappa) int_0^x_l dx / alpha_l(U_l(x))]),
    N(eps) <= the first n from which on no l in U = {i} + {q : n_q > n} can lose more than eps,

and the regret of K episodes is at most ``int min(K, N(eps)) d eps``.

Letters: N cells, J policies (0 is safe), I constraints, F = 1 + I outcomes, B bets, R alternatives, E entries of the kernel support.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats, check_integer, check_real
from surefoot.cmdp.evaluate import evaluate_many, outcome_variances
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Simulator
from surefoot.deploy.admission import check_margin
from surefoot.deploy.comparison import BESIDE, LEVEL
from surefoot.deploy.evidence.marginal import MarginalEvidence
from surefoot.deploy.evidence.mixture import FINAL, Evidence
from surefoot.deploy.evidence.transitions import TransitionEvidence, encode
from surefoot.deploy.planner import Program, largest_weight, plan
from surefoot.deploy.trust import data_start, simulated_ceilings, trust_level
from surefoot.deploy.tuning import TUNING
from surefoot.errors import InvalidInput
from surefoot.highs import INFINITY, Matrix, make_model, make_solver, run_solver
from surefoot.planning.predictions import policy_tables
from surefoot.policyset.schema import PolicySet
from surefoot.solvers.linear_program import solve

__all__ = [
    "Bound", "Budgets", "Losses", "RealTask", "Use", "budgets", "moment_information", "sample_complexity", "true_cell",
]  # fmt: skip

EXPONENTS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5)
"""``s``."""
SCREEN = 0.25
"""That of ``s`` at which the pair of cell and alternative is chosen."""
THRESHOLDS = (0.05, 0.1, 0.2, 0.4, 0.6)
"""``theta`` in units of eps."""
PLAYED = 1.0 - 1e-5
"""Of the floor under the candidate's weight, what rounding, tidying and the solver's tolerance leave at least."""
ROUNDING = 1e-12
"""Information per episode below this is none."""
SOLVER = 1e-6
"""Tolerance of linear programs, relative to the largest number in the objective."""


@dataclass(frozen=True, eq=False)
class RealTask:
    """What is true of the real task.

    Attributes:
        returns: (J,) of every library policy.
        costs: (J, I).
        variances: (J, 1+I) of an episode's return and costs.
        optimum: ``V*``, or the value of whatever deployed mixtures are compared with.
        task: the task itself, from which the information in transitions is computed; ``None`` for none.
    """

    returns: FloatArray
    costs: FloatArray
    variances: FloatArray
    optimum: float
    task: TabularCMDP | None = None

    def __post_init__(self) -> None:
        returns = as_floats("returns", self.returns, (None,))
        costs = as_floats("costs", self.costs, (returns.size, None))
        variances = as_floats("variances", self.variances, (returns.size, 1 + costs.shape[1]))
        for name, value in (("returns", returns), ("costs", costs), ("variances", variances)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "optimum", check_real("optimum", self.optimum))

    @staticmethod
    def of(task: TabularCMDP, policy_set: PolicySet) -> RealTask:
        """Exact values of a finite task."""
        policy_set.criterion.means_only("the bound on episodes that are not near-optimal")
        tables = policy_tables(policy_set)
        values = evaluate_many(task, tables)
        variances = outcome_variances(task, tables)
        return RealTask(values[:, 0], values[:, 1:], variances, solve(task).value_or_raise().value, task)

    @property
    def means(self) -> FloatArray:
        """(J, 1+I)."""
        return np.column_stack([self.returns, self.costs])


@dataclass(frozen=True)
class Use:
    """How the agent is used.

    Attributes:
        delta: of the agent, as in :class:`~surefoot.deploy.certified.CertifiedAgent`.
        evidence: likewise.
        ramp: likewise. The comparison with the safe policy that comes with a ramp may keep a fifth of the weight on the safe policy for good:
            then only what is left of the promise can be proved. 0, the default here, switches both off.
        pending: D, the most episodes that are asked and have not taken effect, the newest one included: 1 for ask, tell, ask, tell; the
            largest batch otherwise. None may be lost.
        monitor_delta: likewise; a false alarm ends learning, so it counts as an error here. The detector of changes is not counted: the statement
            is about ``false_alarm_every=0``, or about the time until its first false alarm.
        delta_speed: ``delta'``, the error of the statement on speed, beside these.
    """

    delta: float = 0.05
    evidence: str = "all"
    ramp: int = 0
    pending: int = 1
    monitor_delta: float = 0.001
    delta_speed: float = 0.05

    def __post_init__(self) -> None:
        for name in ("delta", "monitor_delta", "delta_speed"):
            check_real(name, getattr(self, name), low=0.0, high=1.0, open_low=True, open_high=True)
        check_integer("ramp", self.ramp, low=0)
        check_integer("pending", self.pending, low=1)


@dataclass(frozen=True, eq=False)
class Budgets:
    """How long cells can survive.

    Attributes:
        plays: (N, J) ``T``; infinite where no bound is known.
        episodes: (N,) ``n``; likewise.
    """

    plays: FloatArray
    episodes: FloatArray


def moment_information(exponent: Any, bet: Any, gap: Any, variance: Any, worst: Any) -> Any:
    """Lower bound on ``1 - E[(1 + bet Y)^-exponent]`` for ``Y`` of mean ``gap`` and this variance with ``bet Y >= -worst``; arrays broadcast.

    The smallest possible value where Y takes two values, one of them ``-worst/bet``; exact there. ``worst`` in [0, 1).
    """
    b = np.maximum(worst, 1e-6)
    # From the closed form, or from its series where that would cancel.
    closed = ((1.0 - b) ** -exponent - 1.0 - exponent * b) / b**2
    series = 0.5 * exponent * (exponent + 1.0) * (1.0 + (exponent + 2.0) * b / (3.0 * (1.0 - b) ** (exponent + 3.0)))
    curve = np.where(b < 1e-3, series, closed)
    return exponent * bet * gap - curve * bet**2 * (variance + gap**2)


def budgets(policy_set: PolicySet, truth: RealTask, use: Use) -> Budgets:
    """``T`` and ``n`` of all cells; each of the ``N (J + 1)`` statements has an equal part of ``delta_speed``."""
    level = trust_level("cells")
    delta = level.shares(use.delta)["elimination"]
    evidence = Evidence(policy_set, use.evidence, delta, simulated_ceilings(policy_set))
    n, j = len(policy_set.cells), truth.returns.size
    error = math.log(n * (j + 1) / use.delta_speed)
    final = -math.log(FINAL * delta)
    plays, episodes = np.full((n, j), np.inf), np.full(n, np.inf)
    separate = evidence.kinds.get("separate")
    if isinstance(separate, MarginalEvidence):
        plays = _separate_plays(separate, truth, final - math.log(evidence.weights["separate"]), error)
    transitions = evidence.kinds.get("transitions")
    if isinstance(transitions, TransitionEvidence) and truth.task is not None:
        start = final - math.log(evidence.weights["transitions"])
        told, episodes = _transition_budgets(policy_set, transitions, truth.task, start, error)
        plays = np.minimum(plays, told)
    return Budgets(plays + use.pending, episodes + use.pending)


def _separate_plays(kind: MarginalEvidence, truth: RealTask, start: float, error: float) -> FloatArray:
    """(N, J) ``beta / a`` of the best component for each cell and policy."""
    means, best = truth.means, np.inf
    for f, process in enumerate(kind.processes[: means.shape[1]]):
        variance = truth.variances[:, f, None]
        fractions = process.bets.fractions
        weight = process.policy_weights[:, None] * 0.5 * process.bets.weights / len(kind.processes)
        with np.errstate(divide="ignore"):
            level = start - np.log(weight)
        for gap, loss in (
            (means[:, f] - process.hull_plus, process.hull_plus - process.low),
            (process.hull_minus - means[:, f], process.high - process.hull_minus),
        ):
            bet = fractions / (process.high - process.low)[..., None]
            for s in EXPONENTS:
                gain = moment_information(s, bet, gap[..., None], variance, bet * loss[..., None])
                with np.errstate(divide="ignore", invalid="ignore"):
                    needed = np.where((gain > 0.0) & (gap[..., None] > 0.0), (s * level + error) / gain, np.inf)
                best = np.minimum(best, needed.min(axis=2))
    return np.asarray(best, dtype=np.float64)


def _transition_budgets(
    policy_set: PolicySet, kind: TransitionEvidence, task: TabularCMDP, start: float, error: float
) -> tuple[FloatArray, FloatArray]:
    """(N, J) and (N,) ``beta / a_j`` and ``beta / min_j a_j``, from one component for every cell."""
    alternatives, ratios = kind.pairs
    paths = _Paths.of(policy_set, task)
    n, j = len(policy_set.cells), paths.tables.shape[0]
    plays, episodes = np.full((n, j), np.inf), np.full(n, np.inf)
    levels = start - alternatives.log_weights

    def needed(q: int, r: int, s: float) -> FloatArray:
        """(J,) ``beta / a_j``; negative where a policy loses wealth."""
        told = 1.0 - paths.mean_power(ratios[:, q, r], s)
        told[np.abs(told) < ROUNDING] = 0.0
        with np.errstate(divide="ignore"):
            return np.asarray((s * float(levels[q, r]) + error) / told)

    for q in range(n):
        pairs = np.flatnonzero(np.isfinite(levels[q])).tolist()
        # The pair is chosen at one exponent, then the exponent.
        first = {r: found for r in pairs if (found := needed(q, r, SCREEN)).min() > 0.0}
        if first:
            r = min(first, key=lambda r: (float(first[r].max()), float(first[r].min())))
            options = [found for s in EXPONENTS if (found := needed(q, r, s)).min() > 0.0]
            plays[q] = min(options, key=lambda found: (float(found.max()), float(found.min())))
            episodes[q] = plays[q].max()
    return plays, episodes


@dataclass(frozen=True, eq=False)
class _Paths:
    """Paths of a real task under J policies, as the simulator counts them.

    Attributes:
        tables: (J, S, A).
        start: (S,).
        entries: (E, 3) triples that are possible, with their probability (E,) and their place among the cells' support (E,).
        resting: (J, S) states in which an episode has ended.
        steps: most steps of an episode.
    """

    tables: FloatArray
    start: FloatArray
    entries: IntArray
    probability: FloatArray
    place: IntArray
    resting: Any
    steps: int

    @staticmethod
    def of(policy_set: PolicySet, task: TabularCMDP) -> _Paths:
        kernel = policy_set.cells.kernel
        if kernel is None:
            raise ValueError("the cells have no kernel")
        tables, keys = policy_tables(policy_set), encode(kernel.support)
        state, action = np.divmod(task.rows, task.n_actions)
        entries = np.column_stack([state, action, task.successors]).astype(np.int64)
        place = np.minimum(np.searchsorted(keys, encode(entries)), keys.size - 1)
        if (keys[place] != encode(entries)).any():
            raise InvalidInput(
                "task must allow no transition that the cells' kernels do not know, got one; it lies in no cell",
                code="SF-ARGUMENT-MISMATCH",
            )
        stays = np.array([task.dense[s, :, s] == 1.0 for s in range(task.n_states)])
        taken = tables > 0.0
        signals = np.where(taken[:, None], task.signals, np.nan)
        steady = (np.nanmax(signals, axis=3) == np.nanmin(signals, axis=3)).all(axis=1)
        resting = (stays | ~taken).all(axis=2) & steady
        steps = Simulator(task, tables).horizon
        return _Paths(tables, task.start, entries, task.probabilities, place, resting, steps)

    def _moves(self, factor: FloatArray) -> FloatArray:
        """(J, S, S) probabilities of moves, each entry (E,) times ``factor``; none from where an episode has ended."""
        s, a, t = self.entries.T
        moves = np.zeros((len(self.tables), self.start.size, self.start.size))
        for k in range(len(self.tables)):
            np.add.at(moves[k], (s, t), self.tables[k, s, a] * self.probability * factor)
        moves[self.resting] = 0.0
        return moves

    def mean_power(self, logs: FloatArray, s: float) -> FloatArray:
        """(J,) ``E[prod exp(-s logs)]`` along an episode, ``logs`` (E',) on the cells' support."""
        with np.errstate(over="ignore", invalid="ignore"):
            moves = self._moves(np.exp(-s * logs[self.place]))
            ahead = np.ones((len(self.tables), self.start.size))
            for _ in range(self.steps):
                new = np.where(self.resting, 1.0, np.einsum("jst,jt->js", moves, ahead))
                change, ahead = np.abs(new - ahead).max(), new
                if not change > 1e-14 or not math.isfinite(change):
                    break
            found: FloatArray = ahead @ self.start
        return np.where(np.isfinite(found), found, np.inf)


class Losses:
    """What a plan can lose, from the candidate and the cells that may be active.

    Args:
        policy_set, truth, use: as in :func:`sample_complexity`.
    """

    def __init__(self, policy_set: PolicySet, truth: RealTask, use: Use) -> None:
        cells, criterion = policy_set.cells, policy_set.criterion
        level = trust_level("cells")
        self.kappa = level.exploration
        self._largest = max(level.exploration, TUNING.most_exploration)
        self._compared = use.ramp > 0
        self._truth, self._limits, self._cells = truth, criterion.cost_limits, cells
        start = data_start(policy_set, simulated_ceilings(policy_set), check_margin(policy_set, None))
        self._rows = np.minimum(cells.predictions.cost_upper, start)
        # What returns less than the safe policy may be barred at any time, with the ramp.
        self._poor = np.flatnonzero(truth.returns < truth.returns[0]) if self._compared else np.zeros(0, np.int64)
        self._found: dict[tuple[int, bytes], tuple[float, float]] = {}

    def _planned(self, cell: int, among: IntArray) -> tuple[float, float]:
        """``v`` and ``alpha_l`` for this candidate when the active cells are among these."""
        key = cell, among.tobytes()
        if key not in self._found:
            own = int(self._cells.policy_index[cell])
            rewards = self._cells.predictions.reward_center[cell]
            others = tuple(range(1, rewards.size)) if self._compared else ()
            program = Program(
                objective=rewards,
                rows=self._rows[among],
                names=tuple(map(str, among.tolist())),
                limits=self._limits,
                candidate=own,
                kappa=0.0,
                cap=TUNING.exploration_cap,
                barred=tuple(int(k) for k in self._poor if k not in (0, own)),
                doubted=others,
                beside=BESIDE,
            )
            share, alpha = self._largest, largest_weight(program)
            carried = 1.0
            if self._compared:
                # Beside a doubted candidate the safe policy keeps a fifth, so the mixture that meets the floor is a larger part of the plan.
                carried = 1.0 / (1.0 + BESIDE)
            ends = [rewards[0] + carried * a * (rewards[own] - rewards[0]) for a in (alpha, 1.0)]
            value = (1.0 - share / carried) * plan(program).value + share / carried * float(min(ends))
            self._found[key] = value - SOLVER * float(np.abs(rewards).max()), alpha
        return self._found[key]

    def weight(self, cell: int, among: IntArray) -> float:
        """``kappa alpha_l(U)``: least weight of the candidate's policy; 0 where that is the safe policy."""
        return PLAYED * self.kappa * self._planned(cell, among)[1]

    def worst(self, cell: int, among: IntArray, over: FloatArray | None = None, theta: float = math.inf) -> float:
        """Largest ``V* - R . w`` of a plan with this candidate when the active cells, the true one among them, are among these.

        Args:
            cell: l.
            among: indices of cells, l and the true one among them.
            over, theta: ``g`` (J,): plans with ``g . w > theta`` are left out.
        """
        value, _ = self._planned(cell, among)
        truth, rewards = self._truth, self._cells.predictions.reward_center[cell]
        rows = [*truth.costs.T, -rewards]
        ends = [*(self._limits + SOLVER * np.abs(self._limits)), -value]
        if over is not None and math.isfinite(theta):
            rows.append(over)
            ends.append(theta)
        least = _smallest(truth.returns, np.array(rows), np.array(ends))
        return truth.optimum - least


def _smallest(objective: FloatArray, rows: FloatArray, ends: FloatArray) -> float:
    """``min {objective . w : rows w <= ends}`` over the simplex from below; infinite where there is no such w.

    Any multipliers y >= 0 prove ``min_j (objective + y . rows)_j - y . ends``; those of the solver are used, so nothing rests on its tolerances.
    """
    size = objective.size
    scale = np.maximum(np.abs(rows).max(axis=1), 1e-12)
    matrix = Matrix.from_dense(np.vstack([np.ones(size), rows / scale[:, None]]))
    low, high = np.r_[1.0, np.full(len(rows), -INFINITY)], np.r_[1.0, ends / scale]
    solver = make_solver(make_model(objective, (np.zeros(size), np.ones(size)), (low, high), matrix), presolve="off")
    status = run_solver(solver)
    if status == "infeasible":
        return math.inf
    multipliers = np.zeros(len(rows))
    if status == "optimal":
        multipliers = np.maximum(-np.asarray(solver.getSolution().row_dual, dtype=np.float64)[1:], 0.0) / scale
    return float((objective + multipliers @ rows).min() - multipliers @ ends)


@dataclass(frozen=True, eq=False)
class Bound:
    """Theorem T9 for one policy set and one real task.

    With probability at least ``confidence``, for all eps at once: no more than :meth:`episodes` episodes run a mixture that returns less than
    ``V* - eps``, however long the deployment is.

    Attributes:
        budgets: how long cells can survive.
        cell: the true one.
        candidates: cells that can be candidates while the true one is active.
        confidence: of the statement; it includes that every deployed mixture is safe.
    """

    budgets: Budgets
    cell: int
    candidates: IntArray
    confidence: float
    _losses: Losses = field(repr=False)
    _truth: RealTask = field(repr=False)
    _ramp: int = field(repr=False)

    def episodes(self, eps: float) -> float:
        """``N(eps)``; infinite where the cells are too wide for this eps."""
        eps = check_real("eps", eps, low=0.0, open_low=True)
        settled = self.settled(eps)
        return self._ramp + min(settled, self.counted(eps, settled))

    def settled(self, eps: float) -> float:
        """Episodes after which *every* mixture is eps-optimal, from evidence that all policies provide; infinite where there is none."""
        times = np.unique(self.budgets.episodes[np.isfinite(self.budgets.episodes)])
        stages = np.r_[0.0, times]
        first = _first(lambda k: self._harmless(self._left(self.budgets.episodes, stages[k]), eps), stages.size)
        return math.inf if first is None else float(stages[first])

    def _harmless(self, among: IntArray, eps: float) -> bool:
        return all(self._losses.worst(int(l), among) <= eps for l in np.intersect1d(among, self.candidates))

    def counted(self, eps: float, most: float = math.inf) -> float:
        """The sum over candidates; any number above ``most`` where it is larger than that."""
        total = 0.0
        for cell in self.candidates.tolist():
            total += min(float(self.budgets.episodes[cell]), self._with_candidate(cell, eps))
            if math.isinf(total) or total > most:
                break
        return total

    def _with_candidate(self, cell: int, eps: float) -> float:
        """Episodes with this candidate that are not eps-optimal."""
        own = int(self._cells.policy_index[cell])
        plays = self.budgets.plays[:, own]
        over = np.maximum(self._cells.predictions.reward_center[cell] - self._truth.returns, 0.0)
        needed, best = self.budgets.plays[cell], math.inf
        for share in (math.inf, *THRESHOLDS):
            theta = share * eps
            counted = np.isfinite(needed) & (over >= 0.5 * theta) if math.isfinite(theta) else np.zeros(over.size, bool)
            paid = float((needed[counted] * over[counted]).sum() / theta) if counted.any() else 0.0
            if paid < best:
                found = paid + self._until_harmless(cell, plays, np.where(counted, over, 0.0), theta, eps)
                best = min(best, found)
        return best

    def _until_harmless(self, cell: int, plays: FloatArray, over: FloatArray, theta: float, eps: float) -> float:
        """``(1/kappa) int dx / alpha`` up to where this candidate is out or can lose no more than eps."""
        stages = np.r_[0.0, np.unique(plays[np.isfinite(plays)])]

        def over_by(k: int) -> bool:
            among = self._left(plays, stages[k])
            return cell not in among or self._losses.worst(cell, among, over, theta) <= eps

        last = _first(over_by, stages.size)
        if last is None:
            return math.inf
        total = 0.0
        for k in range(last):
            weight = self._losses.weight(cell, self._left(plays, stages[k]))
            if weight <= 0.0:
                return math.inf
            total += float(stages[k + 1] - stages[k]) / weight
        return total

    def _left(self, budget: FloatArray, spent: float) -> IntArray:
        """The true cell, and those whose budget (N,) is larger than what was spent."""
        return np.flatnonzero((budget > spent) | (np.arange(budget.size) == self.cell))

    @property
    def _cells(self) -> Any:
        return self._losses._cells

    def regret(self, episodes: int, grid: Sequence[float] | None = None) -> float:
        """Bound on the sum over K episodes of ``V* - R . w``: ``int min(K, N(eps)) d eps`` from above, on a grid of eps.

        Args:
            episodes: K.
            grid: increasing, positive; by default 24 values up to the largest possible loss.
        """
        episodes = check_integer("episodes", episodes, low=0)
        most = self._truth.optimum - float(self._truth.returns.min())
        ends = np.geomspace(most / 500.0, most, 24) if grid is None else np.asarray(grid, dtype=np.float64)
        ends = np.r_[0.0, ends[ends < most], most]
        counts = [float(episodes), *(min(float(episodes), self.episodes(e)) for e in ends[1:-1])]
        return float(np.dot(np.diff(ends), np.minimum.accumulate(counts)))


def _first(holds: Callable[[int], bool], size: int) -> int | None:
    """The smallest k in ``0 .. size - 1`` from which on a property holds that stays once it holds; ``None`` if it never does."""
    low, high = -1, size - 1
    if not holds(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def true_cell(policy_set: PolicySet, truth: RealTask) -> int:
    """The cell of lowest index whose intervals hold the real values (and whose kernel box holds the real kernel, where both are known).

    Raises:
        InvalidInput: there is none.
    """
    p = policy_set.cells.predictions
    inside = ((p.reward_lower <= truth.returns) & (truth.returns <= p.reward_upper)).all(axis=1)
    inside &= ((p.cost_lower <= truth.costs) & (truth.costs <= p.cost_upper)).all(axis=(1, 2))
    inside &= policy_set.cells.optimal_upper >= truth.optimum
    kernel = policy_set.cells.kernel
    if kernel is not None and truth.task is not None:
        real = truth.task.dense[tuple(kernel.support.T)]
        inside &= ((kernel.lower <= real) & (real <= kernel.upper)).all(axis=1)
    if not inside.any():
        raise InvalidInput(
            "truth must lie in some cell, got values that lie in none; the theorem says nothing about such a task",
            code="SF-ARGUMENT-MISMATCH",
        )
    return int(np.flatnonzero(inside)[0])


def sample_complexity(policy_set: PolicySet, truth: RealTask, use: Use | None = None) -> Bound:
    """Theorem T9 for this policy set on this real task.

    Args:
        policy_set: what the agent is given.
        truth: what the agent does not know; :meth:`RealTask.of` computes it for finite tasks.
        use: how the agent is used.

    Raises:
        InvalidInput: the truth does not fit the policy set, or lies in no cell.
    """
    use = Use() if use is None else use
    cells, shape = policy_set.cells, policy_set.cells.predictions.cost_upper.shape[1:]
    if truth.costs.shape != shape:
        raise InvalidInput(
            f"truth must describe (J, I) = {shape} policies and constraints, got {truth.costs.shape}; compute it for this policy set",
            code="SF-ARGUMENT-MISMATCH",
        )
    cell = true_cell(policy_set, truth)
    found = budgets(policy_set, truth, use)
    # The true cell stays active on the event that the statement is about.
    found.plays[cell], found.episodes[cell] = np.inf, np.inf
    wrong = use.delta + use.delta_speed + use.monitor_delta + (LEVEL + use.monitor_delta if use.ramp else 0.0)
    return Bound(
        budgets=found,
        cell=cell,
        candidates=np.flatnonzero(cells.optimal_upper >= cells.optimal_upper[cell]),
        confidence=max(0.0, 1.0 - wrong),
        _losses=Losses(policy_set, truth, use),
        _truth=truth,
        _ramp=use.ramp + use.pending if use.ramp else 0,
    )
