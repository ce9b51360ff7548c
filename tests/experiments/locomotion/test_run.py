"""The locomotion experiment on a family whose values are known, and what ships with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import OutputExists, PolicySet
from surefoot.controllers import LinearPolicy
from surefoot.experiments.comparison import fresh_tasks
from surefoot.experiments.locomotion import DEFAULT_AGENTS, reproduce
from surefoot.experiments.locomotion import run as module
from surefoot.experiments.locomotion.families import locomotion
from surefoot.experiments.locomotion.library import load_library
from surefoot.experiments.locomotion.run import Judgement, _digest, make_judgement
from surefoot.experiments.registry import make_agent
from surefoot.gym import GymFamily, Widths, train_simulated
from surefoot.report.figures import figure4
from surefoot.report.table import render_table
from tests.gym.toys import CRITERION, WEIGHT, gains, make
from tests.refusals import refused


def rewards(parameters: Any, obs: Any, action: Any, next_obs: Any, reward: float, info: Any) -> Any:
    return 0.3 + 0.4 * parameters[:, 0] * info["coin"]


def constant(action: float) -> LinearPolicy:
    return LinearPolicy(np.zeros((1, 2)), np.array([action]), 0.0, 1.0)


LIBRARY = tuple(constant(a) for a in (0.2, 0.5, 0.9))
EXACT_COSTS = np.array([0.1, 0.25, 0.45]) * WEIGHT


def family(name: str = "hopper") -> GymFamily:
    """The coins, with one parameter that is called as the experiment's is; tasks differ in the reward only."""
    limit = replace(CRITERION, cost_limits=np.array([0.3 * WEIGHT]))
    return GymFamily(name, ("target speed",), np.array([[0.2, 1.0]]), limit, gains, make, rewards=rewards)


@pytest.fixture(scope="module")
def policy_set() -> PolicySet:
    return train_simulated(
        family(), LIBRARY, tasks=30, holdout=120, cells=4, widths=Widths(reward=0.1, cost=0.1), max_episodes=600, seed=1, progress=False
    )  # fmt: skip


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, policy_set: PolicySet) -> None:
    """The experiment plays the coins."""
    monkeypatch.setattr(module, "locomotion", family)
    monkeypatch.setattr(module, "make_policy_set", lambda *args, **kwargs: policy_set)


def play(out: Path, **settings: Any) -> dict[str, Any]:
    chosen = {"tasks": 3, "episodes": 400, "judged": 2000, "seed": 5, "progress": False, **settings}
    return reproduce(out, **chosen)


@pytest.mark.slow
def test_repeats_meet_episodes_of_their_own_as_long_as_there_are_banks(
    toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def spy(*args: Any, first_block: int, **more: Any) -> Any:
        begun.append(first_block)
        return real(*args, first_block=first_block, **more)

    real = module.play_gym
    monkeypatch.setattr(module, "play_gym", spy)
    settings = replace(module.SETTINGS["hopper"], banks=2)
    monkeypatch.setitem(module.SETTINGS, "hopper", settings)
    summary = play(tmp_path / "run", tasks=1, repeats=3, episodes=600, agents=["certified:cells"])
    # Two blocks of 500 each.
    assert begun == [0, 2, 0] and summary["distinct_banks"] == 2


@pytest.mark.slow
def test_every_row_is_played_and_judged(toy: None, tmp_path: Path) -> None:
    summary = play(tmp_path / "run", repeats=2)
    assert tuple(summary["agents"]) == DEFAULT_AGENTS
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert len(summary["tasks"]) == 6
    for name, row in summary["agents"].items():
        assert len(row["violating_episodes"]) == 6
        assert all(sure <= seen for sure, seen in zip(row["surely_violating_episodes"], row["violating_episodes"])), (
            name
        )
        lost = row["lost_per_episode"]
        assert lost["mean"] == pytest.approx(np.mean(row["regret"]["400"]) / 400)
        assert lost["lower"] <= lost["mean"] <= lost["upper"]
    regret = {name: np.mean(row["regret"]["400"]) for name, row in summary["agents"].items()}
    assert abs(regret["oracle"]) < 1e-6
    assert regret["always-safe"] >= regret["robust-fixed"] > -1e-6
    for trust in ("cells", "envelope", "data"):
        assert not any(summary["agents"][f"certified:{trust}"]["surely_violating_episodes"])
    table = render_table(summary)
    assert "certified:cells" in table and "lost per episode" in table
    assert figure4(tmp_path / "run").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_judged_values_are_the_exact_ones(toy: None, policy_set: PolicySet) -> None:
    points = np.array([[0.3], [0.9]])
    found = make_judgement(family(), policy_set, points, 4000, seed=3, progress=False)
    for k, gain in enumerate(points[:, 0]):
        for j, action in enumerate((0.2, 0.5, 0.9)):
            exact = np.array([WEIGHT * (0.3 + 0.4 * gain * action), EXACT_COSTS[j]])
            assert ((found.lower[k, j] <= exact) & (exact <= found.upper[k, j])).all()
            np.testing.assert_allclose(found.mean[k, j], exact, atol=0.1)


@pytest.mark.slow
def test_results_do_not_depend_on_workers(toy: None, tmp_path: Path) -> None:
    agents = ("oracle", "certified:cells", "safe-pce:published")
    one, two = (play(tmp_path / str(n), agents=agents, workers=n, judged=200, episodes=100) for n in (1, 2))
    for name in agents:
        assert one["agents"][name]["regret"] == two["agents"][name]["regret"]


def test_the_oracle_is_the_best_mixture_within_the_limit(policy_set: PolicySet) -> None:
    values = np.column_stack([[1.0, 2.0, 4.0], [0.1, 0.25, 0.45]])
    limit = float(policy_set.criterion.cost_limits[0])
    values[:, 1] *= WEIGHT
    weights = module._oracle(policy_set, values)
    assert abs(weights @ values[:, 1] - limit) < 1e-9
    assert weights[2] > 0.4
    robust = module._robust(policy_set, values)
    assert (policy_set.cells.predictions.cost_upper[:, :, 0] @ robust <= limit + 1e-9).all()


def test_a_judgement_is_read_back_and_used_only_where_it_fits(
    toy: None, policy_set: PolicySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    points = np.array([[0.4], [0.8]])
    parts = np.ones((2, 3, 2)), np.zeros((2, 3, 2)), np.full((2, 3, 2), 2.0)
    Judgement(points, *parts, 77, _digest(policy_set)).save(tmp_path / "judged.npz")
    monkeypatch.setattr(module, "shipped", lambda name: nullcontext(tmp_path / "judged.npz"))
    assert make_judgement(family(), policy_set, points, progress=False).episodes == 77
    assert make_judgement(family(), policy_set, points, 100, progress=False).episodes == 100
    monkeypatch.setattr(module, "JUDGED_EPISODES", 120)
    assert make_judgement(family(), policy_set, points + 0.01, progress=False).episodes == 120
    other = replace(policy_set, policies=(*policy_set.policies[:2], constant(0.8)))
    assert make_judgement(family(), other, points, progress=False).episodes == 120
    (tmp_path / "judged.npz").write_bytes(b"no file of arrays")
    with refused("SF-RECORD-UNREADABLE", "path"):
        make_judgement(family(), policy_set, points, progress=False)


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"agents": ("best",)}, ("SF-ARGUMENT-CHOICE", "agent", "oracle, always-safe", "'best'")),
        ({"agents": ("oracle", "oracle")}, ("SF-ARGUMENT-DISTINCT", "agents")),
        ({"tasks": 0}, ("SF-ARGUMENT-RANGE", "tasks")),
        ({"repeats": 0}, ("SF-ARGUMENT-RANGE", "repeats")),
        ({"judged": 5}, ("SF-ARGUMENT-RANGE", "judged")),
        ({"source": "old"}, ("SF-ARGUMENT-CHOICE", "source", "shipped, cells, all", "'old'")),
        ({"delta": 0.0}, ("SF-ARGUMENT-RANGE", "delta")),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(
    toy: None, tmp_path: Path, wrong: dict[str, Any], refusal: tuple[str, ...]
) -> None:
    with refused(*refusal):
        play(tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_over(toy: None, tmp_path: Path) -> None:
    with pytest.raises(OutputExists):
        play(tmp_path)


@pytest.mark.parametrize("env", ["hopper", "half-cheetah", "half-cheetah-dynamics"])
def test_what_ships_fits_together(env: str) -> None:
    """Policies, cells and the judgement of the default test tasks belong to each other, and every row can be made of them without a rollout."""
    world = locomotion(env)
    shipped_set = module.make_policy_set(world)
    library, members = load_library(env), module.SETTINGS[env].members
    assert len(shipped_set.policies) == (len(library) if members is None else len(members))
    again = replace(shipped_set, policies=library if members is None else tuple(library[j] for j in members))
    assert _digest(again) == _digest(shipped_set)
    points = fresh_tasks(world, module.SHIPPED_TASKS, module.SHIPPED_SEED)  # type: ignore[arg-type]
    verdict = make_judgement(world, shipped_set, points, progress=False)
    assert verdict.mean.shape == (module.SHIPPED_TASKS, len(shipped_set.policies), 2)
    assert (verdict.mean[:, 0, 1] < world.criterion.cost_limits[0]).all(), "the safe policy is safe in every test task"
    for name in module.LEARNERS:
        agent = make_agent(name, module.agent_context(shipped_set, 100, 0.05, 0))
        assert agent.ask(3).policy_index.shape == (3,)
    for fixed in module.FIXED.values():
        assert abs(fixed(shipped_set, verdict.mean[0]).sum() - 1.0) < 1e-9
