"""Training and adaptation of the deep baselines, on a family where both are fast; the command line on one of MuJoCo's bodies, tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot.baselines.deep import World
from surefoot.experiments.locomotion import deep as module
from surefoot.experiments.locomotion.deep import adaptation, reproduce_deep, train_method
from surefoot.report.deep import figure4_deep, read_deep, render_deep
from tests.baselines.deep_worlds import LQ, lq_family
from tests.cli.running import run
from tests.refusals import refused
from tests.report.runs import write_run

SMALL: dict[str, Any] = {"episodes": 4}


@pytest.fixture
def world() -> World:
    return World(lq_family(limit=2.0))


def test_a_training_that_goes_on_is_the_one_in_a_single_piece(world: World, tmp_path: Path) -> None:
    whole = train_method(world, "cpo", 1500, tmp_path / "a.npz", settings=SMALL)
    for steps in (700, 900, 1500):
        parts = train_method(world, "cpo", steps, tmp_path / "b.npz", settings=SMALL)
    np.testing.assert_array_equal(parts.state.theta, whole.state.theta)
    np.testing.assert_array_equal(parts.history[:, :6], whole.history[:, :6])
    assert (whole.steps, whole.history[-1, 4]) == (1560, 52)  # 24 episodes of 30 steps at first, then 4 at a time
    # What is reached already is left alone.
    again = train_method(world, "cpo", 100, tmp_path / "b.npz", settings=SMALL)
    assert again.steps == whole.steps
    with refused("SF-TRAINING-RESUMED", "checkpoint", "cpo", "seed 1"):
        train_method(world, "cpo", 1500, tmp_path / "b.npz", seed=1, settings=SMALL)


def test_adaptation_judges_every_policy_that_is_deployed(world: World, tmp_path: Path) -> None:
    trained = train_method(world, "trpo-lagrangian", 1, tmp_path / "a.npz")
    tasks = np.array([[0.2], [0.7]])
    found = adaptation(world, "trpo-lagrangian", trained, tasks, episodes=12, every=4, judged=40)
    assert found.episodes.tolist() == [4.0, 8.0, 12.0]
    assert found.reward.shape == found.cost.shape == found.error.shape == (2, 3)
    assert found.own_cost.shape == (2, 12)
    # Policies differ from one batch to the next, and fresh episodes agree with the method's own.
    assert np.ptp(found.cost, axis=1).min() > 0.0
    own = found.own_cost.reshape(2, 3, 4).mean(axis=2)
    assert (np.abs(own - found.cost) < 8.0 * found.error * np.sqrt(10.0)).all()
    again = adaptation(world, "trpo-lagrangian", trained, tasks, episodes=12, every=4, judged=40)
    np.testing.assert_array_equal(again.cost, found.cost)
    with refused("SF-ARGUMENT-RANGE", "episodes", "4", "10"):
        adaptation(world, "trpo-lagrangian", trained, tasks, episodes=10, every=4)


def test_violations_are_counted_by_what_policies_cost(world: World, tmp_path: Path) -> None:
    found = module.Adaptation(
        np.array([5.0, 10.0]), np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 2.05], [1.9, 2.9]]), np.full((2, 2), 0.1),
        np.array([[1.0] * 10, [2.5] * 10]),
    )  # fmt: skip
    row = module._test_row(found, 2.0, 5, 1.0)["test"]
    assert (row["violating_episodes"], row["surely_violating_episodes"]) == (10, 5)
    assert (row["tasks_violated"], row["tasks_surely_violated"], row["episodes_above_limit"]) == (2, 1, 10)
    assert row["worst_excess"] == pytest.approx(0.9)
    assert (row["first"]["reward"], row["last"]["reward_low"], row["last"]["cost_high"]) == (2.0, 2.0, 2.9)


def tiny(out: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Any]:
    monkeypatch.setattr(module, "locomotion", lambda env: lq_family(limit=2.0))
    chosen = {
        "methods": ["cpo"],
        "steps": 800,
        "tasks": 2,
        "episodes": 6,
        "every": 3,
        "judged": 4,
        "progress": False,
        **settings,
    }
    return reproduce_deep(out, **chosen)


def test_a_run_leaves_logs_a_table_and_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tiny(tmp_path / "run", monkeypatch)
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    read, curves = read_deep(tmp_path / "run")
    assert read == summary
    assert curves["cpo"].episodes.tolist() == [1.0, 3.0, 4.0, 6.0]
    assert curves["cpo"].cost.shape == (2, 4, 1)
    table = render_deep(summary)
    assert "cpo" in table and str(summary["methods"]["cpo"]["training"]["steps"]) in table and "limit 2" in table
    assert figure4_deep(tmp_path / "run").stat().st_size > 10_000
    with refused("SF-OUTPUT-EXISTS"):
        tiny(tmp_path / "run", monkeypatch)
    # The checkpoints of one run serve another.
    kept = tiny(tmp_path / "more", monkeypatch, train=False, checkpoints=tmp_path / "run" / "checkpoints", tasks=0)
    assert kept["methods"]["cpo"]["training"] == summary["methods"]["cpo"]["training"]
    assert "violating" not in render_deep(kept)
    (tmp_path / "run" / "curves" / "cpo.npz").write_bytes(b"nothing")
    with refused("SF-RECORD-UNREADABLE", "cpo"):
        read_deep(tmp_path / "run")


def test_agents_of_the_other_experiment_are_drawn_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(tmp_path / "run", monkeypatch)
    write_run(tmp_path / "ours", limits=(2.0,), agents=("always-safe",), experiment="locomotion:hopper")
    alone = figure4_deep(tmp_path / "run").stat().st_size
    assert figure4_deep(tmp_path / "run", tmp_path / "ours").stat().st_size > alone
    for k, wrong in enumerate(
        ({"experiment": "locomotion:half-cheetah"}, {"experiment": "locomotion:hopper", "limits": (3.0,)})
    ):
        write_run(tmp_path / f"other{k}", **{"limits": (2.0,), "agents": ("always-safe",), **wrong})  # type: ignore[arg-type]
        with refused("SF-ARGUMENT-MISMATCH", "beside", "locomotion:hopper", "2"):
            figure4_deep(tmp_path / "run", tmp_path / f"other{k}")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"methods": ["ppo"]}, "SF-ARGUMENT-CHOICE"),
        ({"methods": ["cpo", "cpo"]}, "SF-ARGUMENT-DISTINCT"),
        ({"methods": []}, "SF-ARGUMENT-DISTINCT"),
        ({"train": False}, "SF-ARGUMENT-MISSING"),
        ({"steps": 0}, "SF-ARGUMENT-RANGE"),
    ],
)
def test_wrong_settings_are_refused(
    settings: dict[str, Any], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused(code):
        tiny(tmp_path / "run", monkeypatch, **settings)


@pytest.mark.slow
def test_the_command_trains_on_a_body(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call = "reproduce locomotion-deep --env hopper --methods maml-first-order,safe-meta-rl --steps 600 --tasks 1 --episodes 4 --every 2 --judged 2"
    found = run([*call.split(), "--out", "a"], capsys)
    assert found.status == 0
    assert "safe-meta-rl" in found.out and (tmp_path / "a" / "figure4-deep.png").exists()
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["limit"] == 5.0
    assert all(row["training"]["steps"] >= 600 for row in summary["methods"].values())


def test_the_cost_of_the_toy_is_its_effort() -> None:
    env = LQ()
    env.reset(seed=0)
    assert env.step(np.array([2.0]))[4]["cost"] == 4.0
