"""The story of docs/deploying.md, for real: another process runs the plant, is killed twice, paused, resumed, aborted, audited, reported.

The plant is the script on that page. It is judged against a run that nothing happened to: the same agent in memory, fed with the same outcomes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.planning.plants import Rollouts
from tests.cli.running import Run, run
from tests.experiments.validation_worlds import small_set

PAGE = Path(__file__).resolve().parents[1] / "docs" / "deploying.md"
ROBOTS, NOISE, OUTCOMES, SEED = 10, 0.31, 7, 3
"""As on the page."""
EPISODES = 2000
WITHOUT_END = 10**9


def script() -> str:
    """plant.py, from the page."""
    (found,) = re.findall(r"^```python\n(# plant\.py\n.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return found


class Plant:
    """A process that runs the plant."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def lines(self) -> Iterator[str]:
        """What it says, until it ends."""
        assert self.process.stdout is not None
        return iter(self.process.stdout.readline, "")

    def reach(self, episodes: int) -> int:
        """Wait until so many episodes were told."""
        for line in self.lines():
            done = int(line.split()[0])
            if done >= episodes:
                return done
        pytest.fail(f"the plant ended before episode {episodes}: {self.process.communicate()[1]}")


@contextmanager
def started(folder: Path, episodes: int = EPISODES) -> Iterator[Plant]:
    """The script in a process of its own, which is killed at the end if it still runs."""
    command = [sys.executable, "plant.py", "plant.db", str(episodes)]
    # The library may be found by a path relative to where the tests started.
    environment = {**os.environ, "PYTHONPATH": str(Path(sf.__file__).parents[1])}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        try:
            yield Plant(process)
        finally:
            process.kill()


def undisturbed(policy_set: sf.PolicySet, episodes: int) -> tuple[list[int], sf.CertifiedAgent]:
    """Draws of a run without a journal, crashes or pauses, and its agent."""
    agent = sf.CertifiedAgent(policy_set, seed=SEED)
    world = Rollouts(sf.tasks.NoisyGridworld().cmdp([NOISE]), np.stack([p.table for p in policy_set.policies]))  # type: ignore[attr-defined]
    draws: list[int] = []
    while len(draws) < episodes:
        batch = agent.ask(ROBOTS)
        seen = world.run(batch.policy_index, OUTCOMES, len(draws))
        agent.tell(batch.ids, seen.returns, seen.costs, initial_state=seen.initial_states, transitions=seen.transitions)
        draws += batch.policy_index.tolist()
    return draws, agent


@pytest.mark.slow
def test_from_a_policy_set_to_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plant.py").write_text(script(), encoding="utf-8")
    policy_set = small_set()
    policy_set.save("set.sf")

    def deploy(*arguments: str) -> Run:
        return run(["deploy", arguments[0], "plant.db", *arguments[1:]], capsys)

    assert deploy("open", "--policy-set", "set.sf", "--seed", str(SEED)).status == 0

    # Killed twice, wherever it happens to be.
    for told in (300, 700):
        with started(tmp_path) as plant:
            reached = plant.reach(told)
            plant.process.kill()
            plant.process.wait()
        status = json.loads(deploy("status", "--json").out)
        assert status["episodes"] - status["pending"] >= reached

    # Paused by somebody else while it runs, however fast it is; then it ends of its own accord.
    with started(tmp_path, WITHOUT_END) as plant:
        plant.reach(1000)
        assert deploy("pause", "--reason", "shift change").status == 0
        *_, last = plant.lines()
        assert last.startswith("stopped: the deployment is paused (shift change)")
        assert plant.process.wait() == 0
    assert deploy("ask", "--request", "too early").status == 5
    assert deploy("resume").status == 0

    total = max(EPISODES, json.loads(deploy("status", "--json").out)["episodes"] + 20 * ROBOTS)
    with started(tmp_path, total) as plant:
        assert plant.reach(total) == total
        assert plant.process.wait() == 0

    # Nothing lost, nothing twice, and every draw as if nothing had happened.
    with sf.Deployment.open("plant.db", create=False) as deployment:
        events = list(deployment.events())
    told_ids = [k for e in events if e.kind == "told" for k in e.body["ids"]]
    drawn = [j for e in events if e.kind == "asked" for j in e.body["draws"]]
    wanted, agent = undisturbed(policy_set, total)
    assert sorted(told_ids) == list(range(total))
    assert drawn == wanted
    status = json.loads(deploy("status", "--json").out)
    assert (status["state"], status["pending"]) == ("running", 0)
    np.testing.assert_array_equal(list(status["certified_costs"].values()), agent.plan.bounds)
    assert status["weights"] == {str(j): agent.plan.weights[j] for j in np.flatnonzero(agent.plan.weights)}
    assert status["cells_left"] == agent.active.sum() < status["cells"]
    # It did learn, and what it deployed was safe in the task that it never saw.
    task = sf.tasks.NoisyGridworld().cmdp([NOISE])
    costs = np.array([sf.evaluate(task, p).costs for p in policy_set.policies])
    for event in events:
        if event.kind == "planned":
            weights = np.array([event.body["weights"].get(str(j), 0.0) for j in range(len(costs))])
            assert (weights @ costs <= task.cost_limits + 1e-9).all()
    assert status["weights"].get("0", 0.0) < 0.5

    for _ in range(2):
        assert deploy("abort", "--reason", "the end").status == 0
    again = json.loads(deploy("ask", "-n", "50", "--request", "after the end", "--json").out)
    assert {e["policy"] for e in again["episodes"]} == {0}

    assert deploy("verify").status == 0
    assert deploy("report", "--out", "report.html").status == 0
    page = Path("report.html").read_text(encoding="utf-8")
    for said in ("Aborted", "the end", "paused: shift change", "None so far."):
        assert said in page
    assert f"<b>{(total + 50):,}</b>".replace(",", "\u202f") in page


def test_the_page_forecasts_as_the_command_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_set().save(tmp_path / "set.sf")
    out = run(["plan", str(tmp_path / "set.sf"), "--runs", "2", "--episodes", "40"], capsys).out
    (shown,) = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for line in shown.splitlines():
        assert re.search(re.escape(line).replace(r"\ \ \.\.\.", ".*"), out), line
