r"""Treatment of sepsis in intensive care: a family of hospitals on the kernel of the package ``icu-sepsis``.

*Theirs* (Choudhary, Gupta & Thomas 2024, "ICU-Sepsis"; records of MIMIC-III as prepared by Komorowski et al. 2018). An episode is the stay of one
patient, a step is four hours. States 0..712 are clusters of patients with a mean SOFA score each, 713 is death, 714 survival, 715 absorbs. Action
``5 f + v`` gives fluids at level f and vasopressors at level v, both 0 (none) to 4. ``P0(s'|s,a)`` was counted from the records where at least 20
show action a in state s: such actions are *admissible*. Data are read where the package is installed; nothing of them is copied.

*Inadmissible actions.* The package knows two ways: its default gives them the mean row of the state's admissible actions, ``terminate`` lets the
patient die. Rows here are those of ``terminate``, with one entry each instead of eighty-six. Nothing is lost by that: a policy of the default
environment is one over admissible actions, with what it puts on others spread over them evenly (:func:`spread`), and earns the same.

*Reward* 1 on survival. *Cost*: fluids, ``f/4`` of the highest level in every step; harm by too much fluid is why restrictive protocols were put on
trial (CLASSIC 2022, CLOVERS 2023). The package has discount 1; the library needs one below, and takes .99 a step, as Komorowski et al. 2018 did.

*The safe policy* is what clinicians do under such a protocol: the package's expert policy, estimated from the records, which where it would give
fluids at level 3 or 4 keeps to its lower levels wherever the state admits one. The limit of 2.8 is a third above its use in the middle of the
family and 6% above the worst end (:meth:`Sepsis.worst_end`). The clinicians' policy without the protocol uses 3.8 and so breaks the limit. Their
own use would be no limit worth the name: the optimum keeps within it nearly for free.

*What varies is ours.* A hospital is six numbers, uniform on :data:`SUPPORT`:

    severity     start(s) ~ d0(s) exp(severity z(s)),       z the standardised SOFA score of s: the mix of patients at admission
    mortality    log-odds of dying in a step against staying, everywhere
    discharge    log-odds of surviving and leaving in a step against staying, everywhere
    moderate     log-odds of dying in a step with fluids at level 1 or 2, beside those without
    heavy        the same at levels 3 and 4
    vasopressor  the same with any vasopressor

    P(s'|s,a) = P0(s'|s,a) exp(t(s,a,s')) / Z(s,a),     t = mortality + moderate 1{f in {1,2}} + heavy 1{f in {3,4}} + vasopressor 1{v > 0}  (death)
                                                        t = discharge (survival),        t = 0 (all other states)

so every row stays a distribution on the same successors. Whatever makes leaving likelier, dead or alive, lowers the fluids of every policy, because
costs to come are zero there and nowhere negative: the worst end of the family for a policy has five unknowns at their low ends. How large such
effects may be, counts decide: twenty records of an event of probability p leave its log-odds a standard deviation of ``1 / sqrt(20 p (1 - p))``,
which is 1 at p = .05 and never below .44. All ranges of treatment effects lie within one at p = .15 (.63). Hospitals differ as a whole here, not
row by row; that is an assumption.

Letters: S = 716 states, A = 25 actions, E stored transition probabilities.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats, check_real, freeze
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion
from surefoot.errors import MissingExtra

__all__ = ["SUPPORT", "Records", "Sepsis", "load_records", "restricted", "spread"]

DEATH, SURVIVAL, ABSORBED = 713, 714, 715
LEVELS = 5
DISCOUNT = 0.99
SUPPORT = {
    "severity": (-0.3, 0.3),
    "mortality": (-0.2, 0.2),
    "discharge": (-0.2, 0.2),
    "moderate": (-0.6, 0.6),
    "heavy": (-0.6, 0.6),
    "vasopressor": (-0.6, 0.6),
}
"""Ranges of the six unknowns."""
LIMIT = 2.8
RESTRICTED = 3
"""Fluids from this level on are what the protocol avoids."""
SEVEREST = 4.0
"""Standard deviations that SOFA scores are cut at before patients are reweighted."""


@dataclass(frozen=True, eq=False)
class Records:
    """What the package ships.

    Attributes:
        kernel: (S, A, S), the package's default: rows of inadmissible actions are means of the admissible ones.
        start: (S,).
        clinicians: (S, A) the expert policy, inadmissible actions among it.
        admissible: (S, A).
        sofa: (S,) mean SOFA score; 0 where there is no patient.
    """

    kernel: FloatArray
    start: FloatArray
    clinicians: FloatArray
    admissible: Any
    sofa: FloatArray


@lru_cache(maxsize=1)
def load_records() -> Records:
    """The data of the installed package, without importing it: that would bring in pandas and the old gym.

    Raises:
        MissingExtra: it is not installed.
    """
    found = importlib.util.find_spec("icu_sepsis")
    if found is None or found.origin is None:
        raise MissingExtra("icu-sepsis", "sepsis")
    assets = Path(found.origin).parent / "envs" / "assets"
    with np.load(assets / "dynamics.npz", allow_pickle=False) as data:
        kernel, start, clinicians, sofa = (
            np.asarray(data[name], dtype=np.float64) for name in ("tx_mat", "d_0", "expert_policy", "sofa_scores")
        )
    admissible = np.zeros(clinicians.shape, dtype=np.bool_)
    lines = (assets / "admissible_actions.txt").read_text(encoding="ascii").splitlines()
    for s, line in enumerate(lines[1 : 1 + len(admissible)]):
        admissible[s, [int(a) for a in line.split()]] = True
    return Records(freeze(kernel), freeze(start), freeze(clinicians), freeze(admissible), freeze(sofa))


def spread(policy: FloatArray, admissible: Any) -> FloatArray:
    """(S, A) the policy over admissible actions that does in the package's default environment what ``policy`` (S, A) does.

    What a state's row holds on inadmissible actions goes to the admissible ones in equal parts; rows without any probability (no patient) become
    uniform.
    """
    table = np.asarray(policy, dtype=np.float64)
    held = np.where(admissible, table, 0.0)
    lost = np.where(table.sum(axis=1) > 0.0, table.sum(axis=1) - held.sum(axis=1), 1.0)
    found = held + (lost / admissible.sum(axis=1))[:, None] * admissible
    result: FloatArray = found / found.sum(axis=1, keepdims=True)
    return result


def restricted(policy: FloatArray, admissible: Any) -> FloatArray:
    """(S, A) the policy (S, A) where it gives fluids below level :data:`RESTRICTED` alone, in proportion to what it gave.

    In a state where it never does, it chooses evenly among the admissible actions that do; where there is none it stays what it is.
    """
    low = admissible & (np.arange(policy.shape[1]) // LEVELS < RESTRICTED)[None]
    kept = np.where(low, policy, 0.0)
    kept = np.where(kept.sum(axis=1, keepdims=True) > 0.0, kept, low)
    kept = np.where(low.any(axis=1, keepdims=True), kept, policy)
    found: FloatArray = kept / kept.sum(axis=1, keepdims=True)
    return found


@dataclass(frozen=True)
class Sepsis:
    """The family; a hospital is named by the six numbers of :data:`SUPPORT`.

    Attributes:
        limit: on the mean discounted fluids, in steps at the highest level.
        stretch: factor on the range of single unknowns, by name: realities outside the family for mismatch studies.
        deviation: share of steps in which another admissible action than the ordered one is carried out, drawn evenly among all of the state's: no
            member of the family has one above 0. Doses are counted as carried out.
    """

    limit: float = LIMIT
    stretch: tuple[tuple[str, float], ...] = ()
    deviation: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", check_real("limit", self.limit, low=0.0))
        object.__setattr__(self, "deviation", check_real("deviation", self.deviation, low=0.0, high=1.0))

    @property
    def name(self) -> str:
        """Used in reports."""
        return "sepsis"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Six."""
        return tuple(SUPPORT)

    @property
    def support(self) -> FloatArray:
        """(6, 2)."""
        factors = dict(self.stretch)
        return freeze(np.array([[factors.get(name, 1.0) * end for end in ends] for name, ends in SUPPORT.items()]))

    @property
    def criterion(self) -> Criterion:
        """Shared by all tasks."""
        return Criterion(
            discount=DISCOUNT,
            cost_limits=np.array([self.limit]),
            reward_bounds=(0.0, 1.0),
            cost_bounds=np.ones(1),
            cost_names=("fluids",),
        )

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, 6) fresh hospitals."""
        low, high = self.support.T
        drawn: FloatArray = rng.uniform(low, high, size=(n, low.size))
        for k, (name, (_, end)) in enumerate(SUPPORT.items()):
            if name in dict(self.stretch):
                # outside is outside: between the family's end and the new one, on either side
                outer = high[k]
                drawn[:, k] = np.sign(drawn[:, k]) * (end + (outer - end) * np.abs(drawn[:, k]) / outer)
        return drawn

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The hospital with these six numbers; they may lie outside the support.

        Raises:
            InvalidInput: not six finite numbers.
        """
        severity, mortality, discharge, moderate, heavy, vasopressor = as_floats(
            "parameters", np.atleast_1d(parameters), (len(SUPPORT),)
        ).tolist()
        table = _table()
        shift = (
            mortality + np.array([0.0, moderate, moderate, heavy, heavy])[:, None] + np.array([0.0, *4 * [vasopressor]])
        )
        tilt = np.zeros(table.successors.size)
        dying, leaving = table.successors == DEATH, table.successors == SURVIVAL
        tilt[dying] = shift.reshape(-1)[table.actions[dying]]
        tilt[leaving] = discharge
        # Single entries are facts (what follows death, what an inadmissible action does), not counts.
        weights = table.probabilities * np.exp(np.where(table.counted, tilt, 0.0))
        total = np.add.reduceat(weights, table.row_start[:-1])
        probabilities = weights / np.repeat(total, np.diff(table.row_start))
        kernel = _matrix(table, probabilities)
        costs = _doses()
        if self.deviation:
            kernel, costs = _deviating(kernel, costs, self.deviation)
        start = table.start * np.exp(severity * table.score)
        return TabularCMDP(
            kernel, table.rewards, costs[None], np.array([self.limit]), start / start.sum(), DISCOUNT
        )  # fmt: skip

    def safe_policy(self) -> FloatArray:
        """(S, A) what clinicians do under a restrictive protocol, on admissible actions."""
        records = load_records()
        return freeze(restricted(spread(records.clinicians, records.admissible), records.admissible))

    def worst_end(self, severity: float = SUPPORT["severity"][1]) -> FloatArray:
        """(6,) where every policy costs most, given this severity."""
        return freeze(np.array([severity, *(ends[0] for ends in list(SUPPORT.values())[1:])]))

    def stretched(self, name: str, factor: float = 2.0) -> Sepsis:
        """Hospitals in which one unknown lies beyond the family's range, up to ``factor`` times its end; the others are as ever."""
        return replace(self, stretch=(*self.stretch, (name, factor)))


@dataclass(frozen=True, eq=False)
class _Table:
    """The kernel under ``terminate``, by rows.

    Attributes:
        row_start: (S*A + 1,).
        successors, probabilities: (E,).
        actions: (E,) of the row.
        counted: (E,) whether the row comes from records: admissible actions of patients.
        start: (S,).
        score: (S,) standardised SOFA scores, cut at :data:`SEVEREST`.
        rewards: (S, A).
    """

    row_start: IntArray
    successors: IntArray
    probabilities: FloatArray
    actions: IntArray
    counted: Any
    start: FloatArray
    score: FloatArray
    rewards: FloatArray


@lru_cache(maxsize=1)
def _table() -> _Table:
    records = load_records()
    n_states, n_actions = records.clinicians.shape
    patients = np.arange(n_states) < DEATH
    kernel = records.kernel.copy()
    kernel[~records.admissible] = np.eye(n_states)[DEATH]
    flat = kernel.reshape(-1, n_states)
    rows, successors = np.nonzero(flat)
    weights = records.start / records.start.sum()
    mean = float(weights @ records.sofa)
    spread_of = float(np.sqrt(weights @ (records.sofa - mean) ** 2))
    score = np.where(patients, np.clip((records.sofa - mean) / spread_of, -SEVEREST, SEVEREST), 0.0)
    rewards = np.zeros((n_states, n_actions))
    rewards[SURVIVAL] = 1.0
    return _Table(
        row_start=np.searchsorted(rows, np.arange(len(flat) + 1)),
        successors=successors,
        probabilities=flat[rows, successors],
        actions=rows % n_actions,
        counted=(records.admissible & patients[:, None]).reshape(-1)[rows],
        start=weights,
        score=score,
        rewards=rewards,
    )


def _matrix(table: _Table, probabilities: FloatArray) -> Any:
    from scipy.sparse import csr_matrix

    shape = (table.row_start.size - 1, table.start.size)
    return csr_matrix((probabilities, table.successors, table.row_start), shape=shape)


@lru_cache(maxsize=1)
def _doses() -> FloatArray:
    """(S, A) fluids that a patient gets, as a share of the highest level."""
    n_states, n_actions = load_records().clinicians.shape
    given = np.arange(n_actions) // LEVELS / (LEVELS - 1)
    return freeze(np.where(np.arange(n_states)[:, None] < DEATH, given[None], 0.0))


def _deviating(kernel: Any, costs: FloatArray, share: float) -> tuple[Any, FloatArray]:
    """Kernel and costs where a share of orders is replaced by one of the state's admissible actions."""
    from scipy.sparse import csr_matrix

    admissible = load_records().admissible
    n_states, n_actions = admissible.shape
    patient = np.arange(n_states) < DEATH
    even = np.where(patient[:, None] & admissible, admissible / admissible.sum(axis=1, keepdims=True), 0.0)
    # (S, S*A): the mean row of every state, repeated for each of its actions; inadmissible orders stay what they are.
    mean = csr_matrix(
        (even.reshape(-1), np.arange(n_states * n_actions), np.arange(0, n_states * n_actions + 1, n_actions)),
        shape=(n_states, n_states * n_actions),
    )
    rows = mean @ kernel
    where = (patient[:, None] & admissible).reshape(-1)
    part = np.where(where, share, 0.0)
    repeat = csr_matrix(
        (part, np.repeat(np.arange(n_states), n_actions), np.arange(part.size + 1)), shape=(part.size, n_states)
    )
    keep = csr_matrix((1.0 - part, np.arange(part.size), np.arange(part.size + 1)), shape=(part.size, part.size))
    given = (even * costs).sum(axis=1)
    share_of = part.reshape(n_states, n_actions)
    return keep @ kernel + repeat @ rows, (1.0 - share_of) * costs + share_of * given[:, None]
