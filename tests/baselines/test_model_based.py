"""The shell of the model-based baselines: what it plays, what it refuses, what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet, TabularCMDP, TabularPolicy, evaluate
from surefoot.baselines import dope, dope_plus, opt_pess
from surefoot.baselines.counts import ModelEstimate, Support
from surefoot.baselines.dope import DOPE
from surefoot.baselines.model_based import EpisodePlan, Known, ModelBasedAgent, known_from, point_model
from surefoot.baselines.presets import Choice
from surefoot.deploy.agent import Agent
from surefoot.experiments.registry import AGENTS, AgentContext, check_agents, make_agent
from surefoot.experiments.runner import play
from surefoot.tasks import NoisyGridworld
from tests.baselines.worlds import known_of, support_of, with_margin
from tests.models import random_cmdp
from tests.refusals import refused

WORLD = NoisyGridworld()
NAMES = [
    "optpess-lp", "optpess-lp:theory", "optpess-lp:calibrated", "optpess-lp:calibrated=1e-4", "dope", "dope:theory", "dope:calibrated",
    "dope:calibrated=1e-3", "dope-plus", "dope-plus:theory", "dope-plus:calibrated", "dope-plus:calibrated=1e-3", "dope-plus:published",
]  # fmt: skip


@pytest.fixture
def context(gridworld_set: PolicySet) -> AgentContext:
    return AgentContext(WORLD, gridworld_set, gridworld_set, WORLD.cmdp(0.33), 40_000, 0.05, 7)


def small(multiplier: float = 1.0) -> tuple[TabularCMDP, Known]:
    cmdp, safe = with_margin(random_cmdp(np.random.default_rng(5), states=3, discount=0.7), 1.0)
    return cmdp, known_of(cmdp, safe, 1.0, multiplier=multiplier)


class Script:
    """A rule that answers from a list, the last answer for ever."""

    def __init__(self, known: Known, *answers: str) -> None:
        self.known, self.threshold, self.answers, self.asked = known, known.limits, list(answers), 0

    def safe_costs(self, estimate: ModelEstimate) -> np.ndarray:
        """Falls below the limit with a hundred thousand visits to every pair."""
        return self.known.limits * 1e5 / np.maximum(estimate.visits.min(), 1.0)

    def plan(self, estimate: ModelEstimate) -> EpisodePlan:
        answer: Any = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if answer != "planned":
            return EpisodePlan.safe(answer, self.safe_costs(estimate))
        policy = np.roll(self.known.safe_policy, 1, axis=1)
        return EpisodePlan(policy, "planned", self.safe_costs(estimate), 1.0, self.known.limits)


def scripted(*answers: str, phase: int = 0) -> ModelBasedAgent:
    return ModelBasedAgent(Script(small()[1], *answers), choice=Choice("theory"), phase=phase)


def report(agent: ModelBasedAgent, *rows: tuple[int, int, int, int], n: int = 1) -> None:
    """Play n harmless episodes that saw these transitions."""
    batch = agent.ask(n)
    agent.tell(batch.ids, np.zeros(n), np.zeros((n, 1)), transitions=np.array(rows, dtype=np.int64).reshape(-1, 4))


@pytest.mark.parametrize("name", NAMES)
def test_names_make_agents_that_start_safe(name: str, context: AgentContext) -> None:
    agent: Agent = make_agent(name, context)
    assert type(agent) is ModelBasedAgent and agent.wants == {"transitions"}
    assert len(agent.policies) == 1
    episode = agent.ask()
    assert (episode.policy_index, episode.weights.tolist()) == (0, [1.0])
    assert isinstance(episode.policy, TabularPolicy)
    np.testing.assert_array_equal(episode.policy.table, WORLD.safe_policy())


@pytest.mark.parametrize("key", ["optpess-lp", "dope"])
def test_only_dope_plus_has_a_published_preset(key: str) -> None:
    assert key in AGENTS
    with refused("SF-ARGUMENT-CHOICE", f"preset of {key}", "theory, calibrated", "'published'"):
        check_agents([f"{key}:published"])
    check_agents([f"{key}:calibrated", f"{key}:calibrated=0.1", "dope-plus:published"])


def test_notes_say_which_preset_and_which_constants(context: AgentContext) -> None:
    assert make_agent("dope:calibrated=1e-3", context).notes == (  # type: ignore[attr-defined]
        "all confidence radii are multiplied by 0.001, which is outside the proof",
    )
    style = make_agent("dope-plus", context).notes  # type: ignore[attr-defined]
    assert style == ("DOPE+-style: the constants of its bonus are our own derivation",)
    public = make_agent("dope-plus:published", context).notes  # type: ignore[attr-defined]
    assert public[0].startswith("DOPE+ as publicly adapted") and "nothing is guaranteed" in public[0]


@pytest.mark.parametrize("name", ["optpess-lp", "dope", "dope-plus"])
def test_theory_says_that_it_equals_always_safe(name: str, context: AgentContext) -> None:
    agent = make_agent(name, context)
    trace = play(agent, context.task, 300, seed=1)
    assert trace.weight.max() == 0.0
    note = agent.notes[-1]  # type: ignore[attr-defined]
    assert note.startswith("equal to always-safe so far: the method's own test would first pass after about 1e")
    assert int(note.split("about 1e")[1].split(" ")[0]) >= 7


def test_only_what_is_known_beforehand_is_read(context: AgentContext) -> None:
    """Two tasks that differ in their transitions alone give equal knowledge."""
    choice = Choice("theory")
    one, other = (known_from(replace(context, task=WORLD.cmdp(q)), choice) for q in (0.1, 0.37))
    for field in ("rewards", "costs", "start", "safe_policy"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    np.testing.assert_array_equal(one.support.triples, other.support.triples)
    assert (one.safe_margin, one.episodes, one.delta) == (context.policy_set.safe_margin, 40_000, 0.05)
    kernel = context.policy_set.cells.kernel
    assert kernel is not None and len(one.support) == len(kernel.support) < 49 * 4 * 49


def test_without_kernels_every_state_may_follow(context: AgentContext) -> None:
    cells = replace(context.policy_set.cells, kernel=None, outside=None)
    blind = replace(context, policy_set=replace(context.policy_set, cells=cells))
    assert len(known_from(blind, Choice("theory")).support) == 49 * 4 * 49


def test_a_safe_policy_that_is_no_table_is_refused(context: AgentContext) -> None:
    class Controller:
        def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, Any]:
            return 0, None

    policies = (Controller(), *context.policy_set.policies[1:])
    with refused("SF-POLICY-KIND", "safe policy", "Controller"):
        known_from(replace(context, policy_set=replace(context.policy_set, policies=policies)), Choice("theory"))


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"rewards": np.zeros((2, 2))}, ("SF-ARGUMENT-SHAPE", "rewards", "(3, 3)", "(2, 2)")),
        ({"costs": np.zeros((2, 3, 3))}, ("SF-ARGUMENT-SHAPE", "costs", "(1, 3, 3)")),
        ({"start": np.full(3, 0.5)}, ("SF-ARGUMENT-SIMPLEX", "start", "1")),
        ({"safe_policy": np.zeros((3, 3))}, ("SF-ARGUMENT-SIMPLEX", "safe_policy[0]", "1")),
        ({"safe_margin": 0.0}, ("SF-ARGUMENT-RANGE", "safe_margin", "(0, inf)", "0")),
        ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes", "1", "0")),
        ({"delta": 1.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
        ({"multiplier": -1.0}, ("SF-ARGUMENT-RANGE", "multiplier", "[0, inf)", "-1")),
    ],
)
def test_wrong_knowledge_is_refused(change: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        replace(small()[1], **change)


def test_a_finite_horizon_is_its_own_number_of_steps() -> None:
    known = small()[1]
    finite = replace(known, criterion=replace(known.criterion, horizon=12))
    assert finite.trials == 12 * 1000
    assert finite.horizon == pytest.approx((1 - 0.7**12) / 0.3)
    assert known.trials == 1000 * np.ceil(np.log(1e-15) / np.log(0.7))


def test_the_point_model_has_the_frequencies_and_the_signals(rng: np.random.Generator) -> None:
    cmdp, known = small()
    rewards, costs = rng.random((3, 3)), rng.random((1, 3, 3))
    model = point_model(known, cmdp.probabilities, rewards, costs, known.limits)
    np.testing.assert_allclose(model.dense, cmdp.dense)
    np.testing.assert_array_equal(model.rewards, rewards)
    np.testing.assert_array_equal(model.costs, costs)
    np.testing.assert_array_equal(model.start, cmdp.start)


def test_plans_are_played_and_replaced() -> None:
    agent = scripted("test", "planned", "test", "planned")
    assert len(agent.policies) == 1
    report(agent, (0, 0, 0, 1))
    before = agent.policies
    assert len(before) == 1 and agent.plan is not None and agent.plan.reason == "test"
    report(agent, (0, 0, 0, 1))
    planned = agent.policies
    assert len(planned) == 2 and planned is not before and planned[0] is before[0]
    assert agent.ask(3).weights.tolist() == [0.0, 1.0]
    report(agent, (0, 0, 0, 2))
    assert len(agent.policies) == 1 and agent.ask().weights.tolist() == [1.0]
    report(agent, (0, 0, 0, 4))
    assert len(agent.policies) == 2 and agent.policies is not planned
    assert agent.reasons == {"planned": 2, "test": 2, "infeasible": 0, "failed": 0} and agent.solves == 4


def test_nothing_is_solved_between_doublings() -> None:
    agent = scripted("planned")
    report(agent, (0, 0, 0, 10))
    held = agent.policies
    for _ in range(9):
        report(agent, (0, 0, 0, 1))
    assert agent.solves == 1 and agent.policies is held
    report(agent, (0, 0, 0, 1))
    assert agent.solves == 2


def test_episodes_asked_before_a_new_plan_may_be_told_after_it() -> None:
    agent = scripted("planned")
    early = agent.ask(2)
    report(agent, (0, 0, 0, 1))
    agent.tell(early.ids, [0.0, 0.0], [[0.0], [0.0]], transitions=np.array([[0, 0, 0, 1]]))
    assert agent.estimate.visits[0] == 2.0 and agent.solves == 2


@pytest.mark.parametrize(
    ("reason", "note"),
    [
        ("infeasible", "where the linear program was infeasible the safe policy was played until the next one"),
        (
            "failed",
            "where the solver's answer failed the independent check the safe policy was played until the next one",
        ),
    ],
)
def test_without_a_plan_the_safe_policy_is_played_and_the_reason_said(reason: str, note: str) -> None:
    agent = scripted("planned", reason, "planned")
    report(agent, (0, 0, 0, 1))
    report(agent, (0, 0, 0, 1))
    assert len(agent.policies) == 1 and agent.notes == (note,)
    report(agent, (0, 0, 0, 2))
    assert len(agent.policies) == 2 and agent.notes == (note,), "it stays said"


def test_a_phase_of_the_safe_policy_ends_with_a_plan() -> None:
    agent = scripted("planned", phase=20)
    report(agent, (0, 0, 0, 100), n=15)
    assert agent.solves == 0
    report(agent, (0, 0, 0, 1), n=15)
    assert agent.solves == 1 and len(agent.policies) == 2, "no count has doubled, but the phase is over"
    report(agent, (0, 0, 0, 1), n=15)
    assert agent.solves == 1


def test_a_transition_outside_the_support_ends_everything() -> None:
    cmdp, known = small()
    triples = support_of(cmdp).triples
    missing = next(t for t in np.argwhere(np.ones((3, 3, 3))) if not (triples == t).all(axis=1).any())
    agent = ModelBasedAgent(Script(known, "planned"), choice=Choice("theory"))
    report(agent, (*triples[0], 1))
    assert len(agent.policies) == 2
    report(agent, (*missing, 1))
    assert len(agent.policies) == 1 and agent.ask().weights.tolist() == [1.0]
    report(agent, (*triples[0], 1000))
    assert len(agent.policies) == 1 and agent.solves == 1
    assert agent.notes == (
        "a transition outside the known support was seen: the model is wrong, the safe policy is played for good",
    )


def test_reports_without_transitions_teach_nothing_and_are_mentioned() -> None:
    agent = scripted("planned")
    batch = agent.ask(3)
    agent.tell(batch.ids, np.zeros(3), np.zeros((3, 1)))
    assert agent.solves == 0 and agent.estimate.visits.sum() == 0.0
    assert agent.notes == ("3 episodes were told without transitions: nothing was learned from them",)


ROW = np.array([[0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("ids", "reward", "costs", "transitions", "refusal"),
    [
        ([5], [0.0], [[0.0]], ROW, ("SF-REPORT-UNKNOWN", "id", "5")),
        ([0, 0], [0.0, 0.0], [[0.0], [0.0]], ROW, ("SF-REPORT-DISTINCT", "ids")),
        ([0], [np.nan], [[0.0]], ROW, ("SF-REPORT-FINITE", "reward[0]")),
        ([0], [1e9], [[0.0]], ROW, ("SF-REPORT-RANGE", "reward[0]")),
        ([0], [0.0], [[-1.0]], ROW, ("SF-REPORT-RANGE", "costs[0, 0]")),
        ([0], [0.0], [[0.0, 0.0]], ROW, ("SF-REPORT-SHAPE", "costs")),
        ([0], [0.0], [[0.0]], ROW[:, :3], ("SF-REPORT-TRANSITIONS", "transitions", "(m, 4)")),
        ([0], [0.0], [[0.0]], ROW * [1, 1, 1, -1], ("SF-REPORT-TRANSITIONS", "transitions[0, 3]")),
        ([0], [0.0], [[0.0]], ROW + [9, 0, 0, 0], ("SF-REPORT-TRANSITIONS", "transitions[0, 0]", "[0, 3)", "9")),
    ],
)
def test_bad_reports_are_refused_and_the_episodes_stay_pending(
    ids: Any, reward: Any, costs: Any, transitions: Any, refusal: tuple[str, ...]
) -> None:
    agent = scripted("planned")
    agent.ask(2)
    with refused(*refusal):
        agent.tell(ids, reward, costs, transitions=transitions)
    assert agent.solves == 0 and agent.estimate.visits.sum() == 0.0
    agent.tell([0, 1], [0.0, 0.0], [[0.0], [0.0]], transitions=ROW)
    assert agent.solves == 1


def test_how_much_data_the_test_would_take() -> None:
    """The scripted rule passes at 1e5 visits to the rarest pair: 1000 times the present 100, from 20 episodes."""
    cmdp, known = small()
    agent = ModelBasedAgent(Script(known, "test"), choice=Choice("theory"))
    support = support_of(cmdp)
    rows = [(*support.triples[first], 100) for first in support.first]
    report(agent, *rows, n=20)
    assert agent.notes == (
        "equal to always-safe so far: the method's own test would first pass after about 1e4 episodes of the safe policy",
    )


def test_a_test_that_no_amount_of_the_same_data_passes() -> None:
    """One pair is never visited, however often the same episodes are repeated."""
    cmdp, known = small()
    agent = ModelBasedAgent(Script(known, "test"), choice=Choice("theory"))
    support = support_of(cmdp)
    report(agent, *[(*support.triples[first], 100) for first in support.first[1:]], n=20)
    assert agent.notes == ("equal to always-safe so far: no number of such episodes would pass the method's own test",)


def test_learning_pays_once_there_is_enough_data() -> None:
    """A long run with true counts, theory constants, in a model small enough for them: it leaves the safe policy, improves, stays safe."""
    cmdp, known = small()
    rule = DOPE(replace(known, episodes=4_000_000))
    agent = ModelBasedAgent(rule, choice=Choice("theory"))
    safe = evaluate(cmdp, known.safe_policy).reward
    batch = agent.ask(1)
    counts = np.floor(1e9 * cmdp.probabilities).astype(np.int64)
    table = np.column_stack([support_of(cmdp).triples, counts])
    agent.tell(batch.ids, [0.0], [[0.0]], transitions=table)
    assert agent.plan is not None and agent.plan.reason == "planned"
    planned = agent.policies[1]
    assert isinstance(planned, TabularPolicy)
    found = evaluate(cmdp, planned)
    assert found.reward > safe and (found.costs <= cmdp.cost_limits).all()
    assert agent.notes == ()


def test_the_same_seed_gives_the_same_run(context: AgentContext) -> None:
    runs = [play(make_agent("dope:calibrated=1e-4", context), context.task, 1500, seed=3) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].reward, runs[1].reward)
    assert runs[0].weight.max() == 1.0


def test_a_support_of_everything_still_plans() -> None:
    cmdp, known = small()
    rule = DOPE(replace(known, support=Support(3, 3), multiplier=0.0))
    dense = ModelEstimate(rule.known.support, cmdp.dense.reshape(-1), np.full(9, 1e6))
    assert rule.plan(dense).reason == "planned"


@pytest.mark.parametrize("module", [opt_pess, dope, dope_plus])
def test_every_paper_has_a_make_of_its_own(module: Any) -> None:
    assert callable(module.make) and "make" in module.__all__
