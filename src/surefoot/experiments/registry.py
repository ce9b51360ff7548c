"""Names of agents, and how each is made. A new baseline is one file with the algorithm and one line here.

A name is ``key`` or ``key:argument``; the factory gets the argument (``""`` when there is none). All experiments make their agents here. Where they
differ, they say so in :class:`AgentOptions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from surefoot.baselines import dope, dope_plus, lb_sgd, meta_srl, opt_pess, presets, safe_meta_rl
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Simulator
from surefoot.deploy.agent import Agent
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.fixed import FixedAgent
from surefoot.deploy.safe_pce import PCE, SafePCE
from surefoot.errors import InvalidInput
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import PolicySet
from surefoot.solvers.linear_program import solve
from surefoot.tasks.family import TabularFamily

__all__ = [
    "AGENTS",
    "AgentContext",
    "AgentOptions",
    "Recipe",
    "all_agents",
    "check_agents",
    "make_agent",
    "rung_called",
]


@dataclass(frozen=True)
class AgentOptions:
    """In what experiments differ.

    Attributes:
        evidence: what certified agents are given where their name does not say: everything, or returns and costs alone.
        losses: what certified agents are told about reports that are declared lost.
        p_max: what share of the family certified agents accept to be uncovered.
        published: which hand-set constants Safe-PCE and PCE are given as the published ones.
        eps: what Safe-PCE is told about the cover; by default the policy set's radius.
    """

    evidence: Literal["all", "returns"] = "all"
    losses: Literal["worst", "independent"] = "worst"
    p_max: float = 0.05
    published: Literal["published", "locomotion"] = "published"
    eps: float | None = None


@dataclass(frozen=True, eq=False)
class AgentContext:
    """What a factory may use.

    Attributes:
        family: the task family, ``None`` where its tasks have no models.
        policy_set: the trained policy set.
        coarse_set: the cover that the published code's hand-set constants go with.
        task: the real task. Model-based baselines are told its rewards, costs and start distribution, as in their papers' own
            experiments. **Only the oracle may look at its transitions.** ``None`` where it has no model.
        episodes: K.
        delta: error probability of the deployment.
        seed: of the agent's draws.
        options: in what this experiment differs from others.
    """

    family: TabularFamily | None
    policy_set: PolicySet
    coarse_set: PolicySet
    task: TabularCMDP | None
    episodes: int
    delta: float
    seed: int
    options: AgentOptions = AgentOptions()

    def model(self) -> tuple[TabularFamily, TabularCMDP]:
        """Family and real task.

        Raises:
            InvalidInput: the task has no model.
        """
        if self.family is None or self.task is None:
            raise InvalidInput(
                "agents that know the real task's model need one, got a simulated task; leave this agent out",
                code="SF-ARGUMENT-COMBINATION",
            )
        return self.family, self.task


def _oracle(context: AgentContext, argument: str) -> Agent:
    _refuse_argument("oracle", argument)
    policy = TabularPolicy(solve(context.model()[1]).value_or_raise().policy)
    return FixedAgent(policy, context.policy_set.criterion, seed=context.seed)


def _always_safe(context: AgentContext, argument: str) -> Agent:
    _refuse_argument("always-safe", argument)
    return FixedAgent(context.policy_set.safe_policy, context.policy_set.criterion, seed=context.seed)


def _parameters(argument: str) -> list[float]:
    try:
        return [float(part) for part in argument.split(",")]
    except ValueError:
        raise InvalidInput(
            f"robust-fixed needs the parameters of a task, got {argument!r}; e.g. robust-fixed:0.36",
            code="SF-ARGUMENT-SYNTAX",
        ) from None


def _robust_fixed(context: AgentContext, argument: str) -> Agent:
    parameters = _parameters(argument)
    policy = TabularPolicy(solve(context.model()[0].cmdp(parameters)).value_or_raise().policy)
    return FixedAgent(policy, context.policy_set.criterion, seed=context.seed)


def _safe_pce(context: AgentContext, argument: str) -> Agent:
    policy_set, setting = _pce_setting(context, *_preset("safe-pce", argument or "theory"))
    return SafePCE(
        policy_set, delta=context.delta, episodes=context.episodes, seed=context.seed, eps=context.options.eps, **setting
    )  # fmt: skip


def _pce(context: AgentContext, argument: str) -> Agent:
    policy_set, setting = _pce_setting(context, *_preset("pce", argument or "published"))
    return PCE(policy_set, delta=context.delta, episodes=context.episodes, seed=context.seed, **setting)


def _pce_setting(context: AgentContext, preset: str, share: float) -> tuple[PolicySet, dict[str, Any]]:
    """Policy set and constants of a preset."""
    if preset == "published":
        return context.coarse_set, {"preset": context.options.published}
    if preset == "between":
        return context.coarse_set, {"preset": preset, "share": share}
    return context.policy_set, {"preset": preset}


def _certified_parts(argument: str) -> tuple[str, str, float | None, int]:
    """Trust level, evidence (``""`` where nothing is said), error probability (likewise ``None``), and how many episodes were logged."""
    trust, *more = argument.split(":")
    named = {key: _number(more.pop()[len(key) :]) for key in ("log=", "delta=") if more and more[-1].startswith(key)}
    delta, log = named.get("delta="), named.get("log=", 0.0)
    evidence = more[0] if more else ""
    wrong = trust not in ("", "cells", "envelope", "data") or evidence not in ("", "all", "returns") or len(more) > 1
    if wrong or (delta is not None and not 0.0 < delta < 1.0) or not (0.0 <= log < math.inf and log == math.floor(log)):
        raise InvalidInput(
            "certified takes cells, envelope or data, then :all or :returns, then :delta=NUMBER in (0, 1), then :log=EPISODES logged, got "
            f"{argument!r}; e.g. certified:cells:returns",
            code="SF-ARGUMENT-SYNTAX",
        )
    return trust or "cells", evidence, delta, int(log)


def _certified(context: AgentContext, argument: str) -> Agent:
    level, evidence, delta, log = _certified_parts(argument)
    options = context.options
    kind: Any = evidence or options.evidence
    agent = CertifiedAgent(
        context.policy_set, trust=level, evidence=kind, delta=context.delta if delta is None else delta, losses=options.losses,
        p_max=options.p_max, seed=context.seed,
    )  # fmt: skip
    if log:
        _, task = context.model()
        played = Simulator(task, [agent.policies[0]]).run(np.zeros(log, dtype=np.int64), seed=_log_seed(context.seed))
        agent.recall(played.returns, played.costs, initial_state=played.initial_states)
    return agent


def _log_seed(seed: int) -> int:
    """Chance of what was logged before a deployment: none that the deployment meets."""
    return int(np.random.SeedSequence([seed, 0x106]).generate_state(1, np.uint64)[0] >> 1)


def _rehearsed_parts(argument: str) -> tuple[float | None, str]:
    """Boldness (``None``: what was certified) and evidence (``""`` where nothing is said)."""
    boldness, _, evidence = argument.partition(":")
    value = _number(boldness) if boldness else None
    if evidence not in ("", "all", "returns") or (value is not None and not 0.0 < value < math.inf):
        raise InvalidInput(
            f"rehearsed takes a boldness > 0, then :all or :returns, got {argument!r}; e.g. rehearsed:2.7",
            code="SF-ARGUMENT-SYNTAX",
        )
    return value, evidence


def rung_called(name: str, context: AgentContext) -> Rung | None:
    """What ``rehearsed:BOLDNESS`` plays; ``None``: what was certified."""
    boldness, evidence = _rehearsed_parts(name.partition(":")[2])
    if boldness is None:
        return None
    return Rung(boldness=boldness, episodes=context.episodes, evidence=evidence or context.options.evidence)


def _rehearsed(context: AgentContext, argument: str) -> Agent:
    kind: Any = _rehearsed_parts(argument)[1] or context.options.evidence
    rung = rung_called(f"rehearsed:{argument}", context)
    return CertifiedAgent(
        context.policy_set, trust="rehearsed", evidence=kind, delta=context.delta, losses=context.options.losses,
        seed=context.seed, rung=rung,
    )  # fmt: skip


def _number(text: str) -> float:
    """NaN where it is none, which no range contains."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _preset(name: str, value: str) -> tuple[str, float]:
    """Preset and share of the way."""
    preset, given, number = value.partition("=")
    share = _number(number) if given else 1.0
    if (
        preset not in ("theory", "published", "between")
        or (preset == "between") != bool(given)
        or not 0.0 <= share < math.inf
    ):
        raise InvalidInput(
            f'preset of {name} must be "theory", "published" or "between=SHARE" with SHARE >= 0, got {value!r}; e.g. {name}:theory',
            code="SF-ARGUMENT-CHOICE",
        )
    return preset, share


def _refuse_argument(name: str, argument: str) -> None:
    if argument:
        raise InvalidInput(f"{name} takes no argument, got {argument!r}; write {name}", code="SF-ARGUMENT-SYNTAX")


@dataclass(frozen=True)
class Recipe:
    """How agents of one key are made.

    Attributes:
        make: the agent, from the context and what follows the colon in its name.
        check: refuses a wrong argument before anything is trained.
        variants: arguments that ``--agents all`` runs; none where an argument only makes sense for one family.
        knows_model: whether it is told the real task's model, or part of it.
    """

    make: Callable[[AgentContext, str], Agent]
    check: Callable[[str], object] = lambda argument: None
    variants: tuple[str, ...] = ("",)
    knows_model: bool = False


def _trivial(name: str, make: Callable[[AgentContext, str], Agent], knows_model: bool) -> Recipe:
    return Recipe(make, partial(_refuse_argument, name), knows_model=knows_model)


def _paper(key: str, module: Any) -> Recipe:
    """A baseline with a module of its own: a function ``make`` and, where there are more than two, ``PRESETS``."""
    variants = tuple(getattr(module, "PRESETS", ("theory", "calibrated")))
    return Recipe(module.make, partial(presets.parse, key, presets=variants), variants, knows_model=True)


AGENTS: dict[str, Recipe] = {
    "oracle": _trivial("oracle", _oracle, True),
    "always-safe": _trivial("always-safe", _always_safe, False),
    "robust-fixed": Recipe(_robust_fixed, _parameters, (), knows_model=True),
    "safe-pce": Recipe(_safe_pce, lambda a: _preset("safe-pce", a or "theory"), ("theory", "published")),
    "pce": Recipe(_pce, lambda a: _preset("pce", a or "published"), ("theory", "published")),
    "certified": Recipe(_certified, _certified_parts, ("cells", "cells:returns", "envelope", "data")),
    "rehearsed": Recipe(_rehearsed, _rehearsed_parts, ()),
    "optpess-lp": _paper("optpess-lp", opt_pess),
    "dope": _paper("dope", dope),
    "dope-plus": _paper("dope-plus", dope_plus),
    "lb-sgd": _paper("lb-sgd", lb_sgd),
    "safe-meta-rl": _paper("safe-meta-rl", safe_meta_rl),
    "meta-srl": _paper("meta-srl", meta_srl),
}
"""Key to recipe."""


def all_agents(*extra: str) -> tuple[str, ...]:
    """Every registered agent in every variant, for ``--agents all``; ``extra`` names follow the trivial agents."""
    names = [f"{key}:{v}" if v else key for key, recipe in AGENTS.items() for v in recipe.variants]
    return (*names[:2], *extra, *names[2:])


def make_agent(name: str, context: AgentContext) -> Agent:
    """The agent called ``name``.

    Raises:
        InvalidInput: unknown name or argument; the message lists what there is. Or an agent that is told the model of a task without one.
    """
    check_agents((name,))
    key, _, argument = name.partition(":")
    recipe = AGENTS[key]
    if recipe.knows_model:
        context.model()
    return recipe.make(context, argument)


def check_agents(names: Sequence[str]) -> None:
    """Raise where a name or its argument is unknown, before anything expensive is done for the others.

    Raises:
        InvalidInput: names the first wrong one and what there is.
    """
    for name in names:
        if name.partition(":")[0] not in AGENTS:
            raise InvalidInput(
                f"agent must be one of {', '.join(sorted(AGENTS))}, got {name!r}; add :argument where needed",
                code="SF-ARGUMENT-CHOICE",
            )
        key, _, argument = name.partition(":")
        AGENTS[key].check(argument)
