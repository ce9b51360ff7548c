"""Rehearsals: the certificate's error rate, what is frozen, what is counted, and mutants of each."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import surefoot as sf
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.tracker import EpisodeTracker
from surefoot.policy import Mixture, TabularPolicy
from surefoot.protocol import Protocol
from surefoot.rehearsal import core
from surefoot.rehearsal.agents import play_agent
from surefoot.rehearsal.core import rehearse
from surefoot.rehearsal.judging import judge
from surefoot.rehearsal.plants import best_pair
from surefoot.rehearsal.runs import Path, RunRecord, checkpoints, score
from surefoot.stats.binomial import rejects
from surefoot.tasks import NoisyGridworld
from tests.journal.rehearsed import rehearsed_set, rehearsing
from tests.refusals import refused
from tests.rehearsal.test_lockstep import believing_set

# ------------------------------------------------------------------------------------------------ a family in closed form


class Toll:
    """One state, two actions: free, and one that earns 1 and costs ``theta`` per step; limit 1 on an episode's cost of at most 2."""

    name, parameter_names, support = "toll", ("theta",), np.array([[0.0, 1.0]])
    criterion = sf.Criterion(discount=0.5, cost_limits=[1.0], reward_bounds=(0.0, 1.0), cost_bounds=[1.0])

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.random((n, 1))

    def cmdp(self, parameters: Any) -> sf.TabularCMDP:
        return sf.TabularCMDP(
            np.ones((1, 2, 1)),
            np.array([[0.0, 1.0]]),
            np.array([[[0.0, float(parameters[0])]]]),
            cost_limits=[1.0],
            start=np.ones(1),
            discount=0.5,
        )


class Constant:
    """Plays the costly action with weight w for ever: violates where ``2 w theta > 1``, on a share ``1 - 1 / (2 w)`` of the family."""

    wants: frozenset[str] = frozenset()

    def __init__(self, weight: float, seed: int) -> None:
        self.weight = weight
        self.policies = (TabularPolicy(np.array([[1.0, 0.0]])), TabularPolicy(np.array([[0.0, 1.0]])))
        ranges = Toll.criterion.return_range, Toll.criterion.cost_ceilings
        self._tracker = EpisodeTracker(self.policies, Toll.criterion, *ranges, np.random.default_rng(seed))

    def ask(self, n: int | None = None) -> Any:
        batch = self._tracker.open(Mixture([1.0 - self.weight, self.weight]), 1 if n is None else n)
        return batch[0] if n is None else batch

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        self._tracker.close(self._tracker.check(ids, reward, costs))


def constant(weight: float) -> Any:
    return lambda seed: Constant(weight, seed)


LADDER = {"a": 0.5, "b": 0.507, "c": 0.5155, "d": 0.535, "e": 0.56, "f": 0.7}
RATES = {name: 1.0 - 1.0 / (2.0 * w) for name, w in LADDER.items()}
AGENTS = {name: constant(w) for name, w in LADDER.items()}


def quick(cast: Any, parameters: np.ndarray, seed: int, names: Any) -> list[RunRecord]:
    """The records of constant agents without playing them."""
    flat = np.zeros(1)
    return [
        RunRecord(2 * LADDER[n] * parameters[0] > 1.0, 2 * LADDER[n] * parameters[0] - 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, flat, flat) for n in names
    ]  # fmt: skip


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "run_rungs", quick)
    monkeypatch.setattr(core, "checkpoints", lambda episodes: np.ones(1, dtype=np.int64))


def choices(repeats: int, agents: dict[str, Any] | None = None, plants: int = 300, **how: Any) -> list[str | None]:
    """The rung chosen in each of some rehearsals with fresh plants."""
    found = []
    for seed in range(repeats):
        result = rehearse(
            family=Toll(), agents=agents or AGENTS, episodes=1, plants=plants, seed=seed, progress=False, **how
        )
        found.append(None if result.chosen is None else result.chosen.name)
    return found


def test_rates_of_the_toy_are_what_playing_it_shows() -> None:
    result = rehearse(family=Toll(), agents={"e": AGENTS["e"]}, episodes=3, plants=60, progress=False)
    wanted = (2 * LADDER["e"] * result.parameters[:, 0] > 1.0 + 1e-6).astype(float)
    np.testing.assert_array_equal(result.numbers[:, 0, 0], wanted)
    np.testing.assert_allclose(result.numbers[:, 0, 1], 2 * LADDER["e"] * result.parameters[:, 0] - 1.0, atol=1e-9)


def wrong(names: list[str | None]) -> int:
    return sum(name is not None and RATES[name] > 0.05 for name in names)


def test_a_rung_that_violates_too_often_is_chosen_in_at_most_delta_of_the_rehearsals(quickly: None) -> None:
    names = choices(200)
    assert binom.sf(wrong(names) - 1, 200, 0.025) > 1e-3  # the first look pays half of .05
    valid = [name for name, rate in RATES.items() if rate <= 0.05]
    assert sum(name == valid[-1] for name in names) > 40 and sum(name in valid[-2:] for name in names) > 150


def test_the_walk_ends_at_the_first_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nineteen rungs, each violating on 5.05% of its own: whoever walks from the bold end, or goes on behind a refusal, finds some that passes."""
    names = [f"{k}" for k in range(19)]

    def parts(cast: Any, parameters: np.ndarray, seed: int, live: Any) -> list[RunRecord]:
        flat, part = np.zeros(1), int(parameters[0] // 0.0505)
        return [RunRecord(part == int(n), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, flat, flat) for n in live]

    monkeypatch.setattr(core, "run_rungs", parts)
    monkeypatch.setattr(core, "checkpoints", lambda episodes: np.ones(1, dtype=np.int64))
    agents = dict.fromkeys(names, AGENTS["a"])
    walked = elsewhere = 0
    for seed in range(120):
        result = rehearse(family=Toll(), agents=agents, episodes=1, plants=200, seed=seed, progress=False)
        walked += result.chosen is not None
        part = (result.parameters[:, 0] // 0.0505).astype(int)
        elsewhere += any(rejects(int((part == k).sum()), 200, 0.05, 0.025) for k in range(19))
    assert binom.sf(walked - 1, 120, 0.025) > 1e-3
    assert binom.sf(elsewhere - 1, 120, 0.025) < 1e-6


def test_rehearsing_again_and_again_keeps_the_error(quickly: None) -> None:
    """Six looks at a rung with too large a rate; fails the mutant that pays the whole error at every look, as the last line shows."""
    weight = 0.5 / (1.0 - 0.0505)
    LADDER["edge"] = weight
    passed = unpaid = 0
    for seed in range(80):
        before, any_paid, any_unpaid = None, False, False
        for _ in range(6):
            result = rehearse(
                family=Toll(),
                agents={"edge": constant(weight)},
                episodes=1,
                plants=100,
                seed=seed,
                progress=False,
                previous=before,
            )
            before = _after(before, result)
            any_paid |= result.chosen is not None
            any_unpaid |= rejects(result.rungs[0].violating, 100, 0.05, 0.05)
        passed, unpaid = passed + any_paid, unpaid + any_unpaid
    assert binom.sf(passed - 1, 80, 0.05) > 1e-3
    assert binom.sf(unpaid - 1, 80, 0.05) < 1e-4


def _after(before: Any, result: Any) -> Any:
    """What a policy set would carry after another look."""
    looks = () if before is None else (*before.rehearsal_looks, core._as_look(before.rehearsed))
    return replace(believing_set(), rehearsed=result.certificate, rehearsal_looks=looks)


def test_looks_are_counted_paid_and_met_by_fresh_plants(quickly: None) -> None:
    first = rehearse(family=Toll(), agents=AGENTS, episodes=1, plants=100, progress=False)
    second = rehearse(family=Toll(), agents=AGENTS, episodes=1, plants=100, progress=False, previous=first.certificate)
    assert (first.certificate.attempt, second.certificate.attempt) == (1, 2)
    assert (first.certificate.share, second.certificate.share) == (0.025, 0.0125)
    assert not np.array_equal(first.parameters, second.parameters)
    other = rehearse(family=Toll(), agents={"a": AGENTS["b"]}, episodes=1, plants=100, progress=False)
    assert not np.array_equal(first.parameters, other.parameters)
    again = rehearse(family=Toll(), agents=AGENTS, episodes=1, plants=100, progress=False)
    np.testing.assert_array_equal(first.parameters, again.parameters)


def test_an_agent_that_changes_after_freezing_is_refused(quickly: None) -> None:
    weights = iter([0.5] * 1 + [0.6] * 100)
    with refused("SF-TRAINING-CHANGED"):
        rehearse(
            family=Toll(),
            agents={"a": lambda seed: Constant(next(weights), seed)},
            episodes=1,
            plants=10,
            progress=False,
        )


def test_every_stratum_has_to_pass(quickly: None) -> None:
    def halves(parameters: np.ndarray) -> np.ndarray:
        return (parameters[:, 0] > 0.9).astype(int)

    agents = {"a": AGENTS["a"], "d": AGENTS["d"]}
    whole = rehearse(family=Toll(), agents=agents, episodes=1, plants=2000, alpha=0.1, progress=False)
    parted = rehearse(family=Toll(), agents=agents, episodes=1, plants=2000, alpha=0.1, progress=False, strata=halves)
    assert whole.chosen is not None and whole.chosen.name == "d"
    assert parted.chosen is not None and parted.chosen.name == "a"


def test_rungs_whose_refusal_is_certain_are_stopped_and_say_so(quickly: None) -> None:
    result = rehearse(family=Toll(), agents=AGENTS, episodes=1, plants=300, progress=False)
    last = result.rungs[-1]
    assert not last.complete and last.plants < 300 and not last.accepted
    assert all(r.complete for r in result.rungs if r.accepted)
    assert np.isnan(result.numbers[-1, -1]).all()


def test_too_few_plants_certify_nothing(quickly: None) -> None:
    assert rehearse(family=Toll(), agents={"a": AGENTS["a"]}, episodes=1, plants=50, progress=False).chosen is None
    assert rehearse(family=Toll(), agents={"a": AGENTS["a"]}, episodes=1, plants=73, progress=False).chosen is not None


def test_slices_and_density_ratio_describe_the_chosen_rung(quickly: None) -> None:
    result = rehearse(family=Toll(), agents={"c": AGENTS["c"]}, episodes=1, plants=600, alpha=0.1, progress=False)
    assert result.chosen is not None
    worst = max(result.certificate.slices, key=lambda s: s.violating)
    assert worst.high > 0.95 and worst.violating == result.chosen.violating
    assert result.certificate.density_ratio == pytest.approx(0.1 / result.certificate.upper)


# ------------------------------------------------------------------------------------------------------- what is counted


def path_of(costs: list[float], rewards: list[float], starts: list[int]) -> Path:
    return Path(np.array(starts), np.column_stack([rewards, costs]))


def test_a_run_is_scored_by_its_definition() -> None:
    path = path_of([0.5, 0.9, 0.8], [1.0, 2.0, 3.0], [0, 10, 40])
    found = score(path, limits=np.array([1.0]), safe=np.array([0.5, 0.2]), best=3.1, episodes=100, eps=0.05)
    assert not found.violating and found.excess == pytest.approx(-0.1)
    assert found.regret == pytest.approx(10 * 2.1 + 30 * 1.1 + 60 * 0.1)
    assert found.gain == pytest.approx(10 * 0.5 + 30 * 1.5 + 60 * 2.5)
    assert found.episodes == 40 and found.share == pytest.approx(found.regret / (100 * 2.6))
    at = checkpoints(100)
    regret_at = [
        sum(3.1 - path.values[np.searchsorted(path.starts, k, side="right") - 1, 0] for k in range(e)) for e in at
    ]
    np.testing.assert_allclose(found.regrets, regret_at)
    assert found.costs[0] == 0.5 and found.costs[-1] == 0.8


def test_a_violation_in_the_middle_counts_and_so_does_the_safe_policy_alone() -> None:
    """Fails the mutant that judges a run on its last mixture only."""
    limits, safe = np.array([1.0]), np.array([0.5, 0.2])
    middle = path_of([0.5, 1.01, 0.8], [1.0, 2.0, 3.0], [0, 10, 11])
    assert score(middle, limits=limits, safe=safe, best=3.0, episodes=100, eps=0.1).violating
    fine = path_of([0.5], [1.0], [0])
    assert not score(fine, limits=limits, safe=safe, best=3.0, episodes=100, eps=0.1).violating
    assert score(fine, limits=limits, safe=np.array([0.5, 1.2]), best=3.0, episodes=100, eps=0.1).violating


def test_near_optimal_means_for_good() -> None:
    limits, safe = np.array([1.0]), np.array([0.0, 0.0])
    back = path_of([0.1, 0.1, 0.1], [3.0, 1.0, 3.0], [0, 5, 9])
    never = path_of([0.1, 0.1], [3.0, 1.0], [0, 5])
    assert score(back, limits=limits, safe=safe, best=3.0, episodes=20, eps=0.1).episodes == 9
    assert score(never, limits=limits, safe=safe, best=3.0, episodes=20, eps=0.1).episodes == math.inf
    assert score(path_of([0.1], [3.0], [0]), limits=limits, safe=safe, best=3.0, episodes=20, eps=0.1).episodes == 0


def test_best_pair_is_the_best_of_a_fine_grid() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = np.column_stack([rng.uniform(0, 10, 5), rng.uniform(0, 2, (5, 2))])
        values[0, 1:] = 0.1
        limits = np.array([1.0, 0.8])
        grid = np.linspace(0, 1, 2001)
        best = -np.inf
        for a in range(5):
            for b in range(5):
                mixed = (1 - grid)[:, None] * values[a] + grid[:, None] * values[b]
                good = (mixed[:, 1:] <= limits).all(axis=1)
                best = max(best, mixed[good, 0].max(initial=-np.inf))
        assert best_pair(values, limits) == pytest.approx(best, abs=0.01)


# ------------------------------------------------------------------------------------------------------------ protocols


class Recorder(Constant):
    """Notes when it is asked and told."""

    def __init__(self) -> None:
        super().__init__(0.5, 0)
        self.opened, self.log, self.gone = 0, [], []

    def ask(self, n: int | None = None) -> Any:
        self.opened += n or 1
        return super().ask(n)

    def tell(self, ids: Any, reward: Any, costs: Any, **more: Any) -> None:
        self.log += [(int(k), self.opened) for k in np.atleast_1d(ids)]
        super().tell(ids, reward, costs, **more)

    def lost(self, ids: Any) -> None:
        self.gone += list(ids)
        self._tracker.forget(ids)


def played(protocol: Protocol, episodes: int = 400) -> Recorder:
    agent = Recorder()
    play_agent(agent, Toll().cmdp([0.4]), protocol, episodes=episodes, plant_seed=3)
    return agent


def test_agents_are_used_as_the_protocol_says() -> None:
    """Fails the mutant that ignores the protocol."""
    plain = played(Protocol())
    assert plain.log == [(k, k + 1) for k in range(400)]
    batches = played(Protocol(batch=20))
    assert all(told == (k // 20 + 1) * 20 for k, told in batches.log) and len(batches.log) == 400
    late = played(Protocol(delay=[(0, 0.5), (7, 0.5)]))
    waits = np.array([told - k - 1 for k, told in late.log])
    assert set(waits.tolist()) <= {0, 7} and 0.4 < (waits == 7).mean() < 0.6
    lossy = played(Protocol(lost=0.3))
    assert 80 < len(lossy.gone) < 160 and len(lossy.gone) + len(lossy.log) == 400
    costly = played(Protocol(lost_if_costly=(0.1, 1.0)))
    policies = {int(k): int(j) for k, j in enumerate(_draws(costly))}
    assert costly.gone and all(policies[k] == 1 for k in costly.gone) and all(policies[k] == 0 for k, _ in costly.log)


def _draws(agent: Recorder) -> np.ndarray:
    return Mixture([0.5, 0.5]).draw(400, np.random.default_rng(0))


def test_the_belief_is_rehearsed_as_its_agent_plays_alone() -> None:
    policy_set, family = believing_set(), NoisyGridworld()
    how: dict[str, Any] = {
        "episodes": 60,
        "plants": 4,
        "seed": 5,
        "progress": False,
        "alpha": 0.9,
        "delta_coverage": 0.9,
    }

    def alone(boldness: float) -> Any:
        rung = Rung(boldness=boldness, episodes=60)
        return lambda seed: sf.CertifiedAgent(policy_set, trust="rehearsed", rung=rung, seed=seed)

    fast = rehearse(policy_set, family, ladder=[2.5, 1.5], **how)
    seeds = _seeds(policy_set, family, how)
    for k, (point, seed) in enumerate(zip(fast.parameters, seeds, strict=True)):
        cmdp = family.cmdp(point)
        safe = sf.evaluate(cmdp, policy_set.policies[0])
        for rung, boldness in enumerate((2.5, 1.5)):
            path = play_agent(alone(boldness)(seed), cmdp, Protocol(), episodes=60, plant_seed=seed)
            record = score(
                path, limits=cmdp.cost_limits, safe=np.array([safe.reward, *safe.costs]), best=0.0, episodes=60, eps=0.0
            )
            assert record.excess == pytest.approx(fast.numbers[k, rung, 1], abs=1e-12)
            assert record.gain == pytest.approx(fast.numbers[k, rung, 3], abs=1e-9)


def _seeds(policy_set: Any, family: Any, how: dict[str, Any]) -> list[int]:
    """The plants' seeds of a rehearsal with the ladder 2.5, 1.5."""
    setting = core._Setting(
        policy_set, family, None, how["episodes"], how["plants"], how["alpha"], how["delta_coverage"], Protocol(), [2.5, 1.5], "all", None,
        0.02, 0.05, 20_000, how["seed"], None,
    )  # fmt: skip
    return setting.drawn()[1]


def test_workers_and_interruptions_do_not_change_the_result(tmp_path: Any) -> None:
    policy_set, family = believing_set(), NoisyGridworld()
    how: dict[str, Any] = {"episodes": 30, "plants": 12, "ladder": [3.0, 2.0], "seed": 6, "progress": False}
    one = rehearse(policy_set, family, **how)
    two = rehearse(policy_set, family, workers=2, **how)
    kept = rehearse(policy_set, family, checkpoint=tmp_path / "runs", **how)
    files = sorted((tmp_path / "runs").glob("*.npz"))
    files[0].unlink()
    files[1].write_bytes(b"damaged")
    again = rehearse(policy_set, family, checkpoint=tmp_path / "runs", **how)
    for other in (two, kept, again):
        np.testing.assert_array_equal(one.numbers, other.numbers)
        assert other.certificate == one.certificate
    with refused("SF-TRAINING-RESUMED", "checkpoint"):
        rehearse(policy_set, family, checkpoint=tmp_path / "runs", **{**how, "episodes": 31})


def test_a_rehearsed_set_is_deployed_and_others_are_refused() -> None:
    policy_set, family = believing_set(), NoisyGridworld()
    with refused("SF-ASSUMPTION-REHEARSAL"):
        sf.CertifiedAgent(policy_set, trust="rehearsed")
    result = rehearse(policy_set, family, episodes=40, plants=80, ladder=[4.0], seed=7, progress=False)
    assert result.chosen is not None and result.policy_set is not None
    agent = sf.CertifiedAgent(result.policy_set, trust="rehearsed", seed=1)
    batch = agent.ask(1)
    assert batch.weights.shape == (len(policy_set.policies),)
    with refused("SF-ASSUMPTION-REHEARSAL", "evidence"):
        sf.CertifiedAgent(result.policy_set, trust="rehearsed", evidence="returns")
    with refused("SF-ASSUMPTION-REHEARSAL", "delta"):
        sf.CertifiedAgent(result.policy_set, trust="rehearsed", delta=0.01)
    refused_rung = replace(result.rungs[0], accepted=False)
    nothing = replace(result.certificate, rungs=(refused_rung,), chosen=-1, upper=1.0)
    refusing = replace(result.policy_set, rehearsed=nothing)
    with refused("SF-ASSUMPTION-REHEARSAL"):
        sf.CertifiedAgent(refusing, trust="rehearsed")
    changed = replace(result.policy_set, beliefs={"all": replace(policy_set.beliefs["all"], tasks=61)})
    with refused("SF-ASSUMPTION-REHEARSAL", "changed"):
        sf.CertifiedAgent(changed, trust="rehearsed")
    second = rehearse(result.policy_set, family, episodes=40, plants=4, ladder=[4.0], seed=7, progress=False)
    assert second.certificate.attempt == 2 and second.policy_set is not None
    assert [look.judged for look in second.policy_set.rehearsal_looks] == [result.certificate.judged]


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"family": None}, "SF-ARGUMENT-TYPE", ("family",)),
        ({"policy_set": None}, "SF-ARGUMENT-MISSING", ("policy_set",)),
        ({"ladder": [2.0, 3.0]}, "SF-ARGUMENT-ORDER", ("ladder",)),
        ({"ladder": []}, "SF-ARGUMENT-ORDER", ("ladder",)),
        ({"plants": 0}, "SF-ARGUMENT-RANGE", ("plants", "0")),
        ({"alpha": 1.0}, "SF-ARGUMENT-RANGE", ("alpha",)),
        ({"evidence": "some"}, "SF-ARGUMENT-CHOICE", ("evidence",)),
        ({"previous": 3}, "SF-ARGUMENT-TYPE", ("previous",)),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_played(
    values: dict[str, Any], code: str, words: tuple[str, ...]
) -> None:
    how: dict[str, Any] = {
        "policy_set": believing_set(),
        "family": NoisyGridworld(),
        "episodes": 10,
        "plants": 10,
        "progress": False,
    }
    with refused(code, *words):
        rehearse(**{**how, **values})


# -------------------------------------------------------------------------------------------------------------- judging


def sampler(rng: np.random.Generator, costs: list[float]) -> Any:
    def sample(j: int, n: int) -> np.ndarray:
        return np.column_stack([np.full(n, float(j)), (rng.random(n) < costs[j]).astype(float)])

    return sample


def test_mixtures_above_the_limit_are_shown_to_be_fine_in_at_most_beta_of_the_cases() -> None:
    mixtures = np.array([[1.0, 0.0], [0.5, 0.5], [0.4, 0.6]])
    wrong = sum(
        bool(
            judge(
                sampler(np.random.default_rng([2, k]), [0.1, 0.45]), mixtures, np.array([0.27]), np.array([1.0]), beta=0.1, budget=3000
            ).shown[1:].any()
        )
        for k in range(150)
    )  # fmt: skip
    assert binom.sf(wrong - 1, 150, 0.1) > 1e-3


def test_mixtures_below_the_limit_are_shown_with_enough_episodes() -> None:
    mixtures = np.array([[1.0, 0.0], [0.5, 0.5]])
    found = judge(
        sampler(np.random.default_rng(3), [0.1, 0.3]),
        mixtures,
        np.array([0.25]),
        np.array([1.0]),
        beta=0.1,
        budget=20_000,
    )
    assert found.shown.all() and found.episodes.max() < 20_000
    tight = judge(
        sampler(np.random.default_rng(3), [0.1, 0.3]),
        mixtures,
        np.array([0.2001]),
        np.array([1.0]),
        beta=0.1,
        budget=2000,
    )
    assert tight.shown.tolist() == [True, False]


def test_a_certificate_alone_hands_on_how_many_looks_there_were() -> None:
    certificate = rehearsed_set("returns", rehearsing()).rehearsed
    assert certificate is not None
    third = replace(certificate, attempt=3, share=0.00625)
    assert [look.judged for look in core._looks(None, third)] == ["unknown", "unknown", certificate.judged]
    assert len(core._looks(None, certificate)) == 1
