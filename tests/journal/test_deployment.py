"""What a caller sees: idempotent calls, refusals that leave episodes pending, operators' instructions, reopening."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import (
    CertifiedAgent,
    InvalidReport,
    JournalUnavailable,
    PolicySet,
)
from surefoot.deploy.planner import verify as satisfies
from surefoot.journal import Deployment
from tests.journal.plants import BACKENDS, Plant, as_recorded, drive, open_plant, small_set
from tests.refusals import refused


@pytest.fixture
def plant(disk: Path, tiny_set: PolicySet) -> Iterator[Deployment]:
    with open_plant(disk / "plant.db", tiny_set) as found:
        yield found


def kinds(plant: Deployment) -> list[str]:
    return [event.kind for event in plant.events()]


# ------------------------------------------------------------------------------------------------------------ ask, tell


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_asked_and_told_is_there_after_reopening(
    backend: str, new_url: Callable[[str], str], full_set: PolicySet
) -> None:
    url, truth = new_url(backend), Plant(full_set)
    with open_plant(url, full_set) as plant:
        drive(plant, truth, 30)
        held = plant.ask(3)
        status, events = plant.status(), as_recorded(plant.events())
    with Deployment.open(url, create=False) as again:
        assert again.status() == status
        assert as_recorded(again.events()) == events
        assert again.policy_set.hash == full_set.hash
        again.tell(**truth.batch([t.id for t in held], [t.policy_index for t in held]))
        assert again.status().pending == 0
        assert again.verify().ok


def test_a_ticket_says_what_to_run_and_why(plant: Deployment, tiny_set: PolicySet) -> None:
    tickets = plant.ask(40)
    assert [ticket.id for ticket in tickets] == list(range(40))
    for ticket in tickets:
        assert ticket.policy is tiny_set.policies[ticket.policy_index]
        assert ticket.weights[ticket.policy_index] > 0.0 and abs(ticket.weights.sum() - 1.0) < 1e-12
        assert ticket.reason
    with pytest.raises(ValueError, match="read-only"):
        tickets[0].weights[0] = 1.0


def test_asking_without_a_number_gives_one_ticket_and_with_one_a_batch(plant: Deployment, tiny_set: PolicySet) -> None:
    agent = CertifiedAgent(tiny_set)
    for asker in (plant, agent):
        one, several = asker.ask(), asker.ask(3)
        assert one.id == 0 and several.ids.tolist() == [1, 2, 3] and len(several) == 3
        assert [episode.id for episode in several] == [1, 2, 3]
        assert [episode.policy_index for episode in several] == several.policy_index.tolist()
        assert np.array_equal(several.weights, one.weights) and np.array_equal(several[2].weights, one.weights)
        assert [episode.id for episode in asker.ask(1)] == [4]


def test_the_same_request_gets_the_same_episodes(plant: Deployment) -> None:
    first = plant.ask(5, request="key")
    drive(plant, Plant(plant.policy_set), 10)
    plant.pause()
    again = plant.ask(5, request="key")
    assert [(t.id, t.policy_index, t.reason) for t in again] == [(t.id, t.policy_index, t.reason) for t in first]
    assert np.array_equal(again[0].weights, first[0].weights)
    with refused("SF-CONFLICT-REQUEST"):
        plant.ask(4, request="key")


def test_a_ticket_can_be_seen_again(plant: Deployment) -> None:
    first, (second, third) = plant.ask(), plant.ask(2)
    assert [plant.ticket(k).policy_index for k in range(3)] == [t.policy_index for t in (first, second, third)]
    with refused("SF-REPORT-UNKNOWN", "3"):
        plant.ticket(3)


def test_the_same_report_again_changes_nothing(plant: Deployment, truth: Plant) -> None:
    tickets = plant.ask(4)
    body = truth.batch([t.id for t in tickets], [t.policy_index for t in tickets])
    plant.tell(**body)
    events = as_recorded(plant.events())
    plant.tell(**body)
    plant.tell(**{**body, "reward": np.array(body["reward"], dtype=np.float64), "ids": np.array(body["ids"])})
    for ticket in tickets:
        plant.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))
    assert as_recorded(plant.events()) == events


def test_another_report_about_the_same_episode_is_refused(plant: Deployment, truth: Plant) -> None:
    ticket = plant.ask()
    plant.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))
    before = as_recorded(plant.events())
    with refused("SF-CONFLICT-TOLD", "id", str(ticket.id)):
        plant.tell(ticket.id, reward=1.0, costs=[0.25])
    with refused("SF-CONFLICT-STANDS", "id", str(ticket.id)):
        plant.lost(ticket.id)
    assert as_recorded(plant.events()) == before


def test_a_report_that_is_partly_known_adds_the_rest(plant: Deployment, truth: Plant) -> None:
    tickets = plant.ask(3)
    plant.tell(1, **truth.report(1, tickets[1].policy_index))
    plant.tell(**truth.batch([0, 1, 2], [t.policy_index for t in tickets]))
    told = [event.body["ids"] for event in plant.events() if event.kind == "told"]
    assert told == [[1], [0, 2]]
    assert plant.verify().ok


def test_pooled_transitions_cannot_be_taken_apart(disk: Path, full_set: PolicySet) -> None:
    truth = Plant(full_set)
    with open_plant(disk / "plant.db", full_set) as plant:
        tickets = plant.ask(3)
        plant.tell(1, **truth.report(1, tickets[1].policy_index))
        with refused("SF-CONFLICT-TOLD", "id", "1"):
            plant.tell(**truth.batch([0, 1, 2], [t.policy_index for t in tickets]))
        assert plant.status().pending == 2


def test_lost_is_for_good_and_may_be_said_twice(plant: Deployment, truth: Plant) -> None:
    tickets = plant.ask(3)
    plant.lost([0, 2])
    plant.lost([2])
    plant.lost([0, 1])
    assert [event.body["ids"] for event in plant.events() if event.kind == "lost"] == [[0, 2], [1]]
    with refused("SF-CONFLICT-LOST"):
        plant.tell(0, **truth.report(0, tickets[0].policy_index))


@pytest.mark.parametrize(
    "change",
    [
        {"reward": float("nan")},
        {"reward": float("inf")},
        {"reward": "3"},
        {"reward": True},
        {"reward": [1.0, 2.0]},
        {"reward": None},
        {"costs": [float("nan")]},
        {"costs": [-0.1]},
        {"costs": [0.1, 0.2]},
        {"costs": []},
        {"costs": "x"},
        {"costs": [[0.1], [0.2]]},
        {"costs": [10**400]},
        {"ids": 1},
        {"ids": -1},
        {"ids": 0.0},
        {"ids": [0, 0]},
        {"ids": []},
        {"ids": "0"},
        {"ids": 2**70},
        {"ids": np.uint64(2**63)},
        {"initial_state": 0.5},
        {"initial_state": [0, 1]},
        {"initial_state": "a"},
        {"transitions": [[0, 0, 1]]},
        {"transitions": [[0, 0, 1, -1]]},
        {"transitions": [[0, 0, 1, 0.5]]},
        {"transitions": [[0, 0, 1, 2**60]]},
        {"transitions": [[0, 0], [1]]},
        {"signals": [2.0]},
        {"signals": [0.1, 0.2]},
        {"signals": [float("nan")]},
        {"signals": "x"},
    ],
)
def test_a_report_that_cannot_be_true_is_refused_and_leaves_the_episode_pending(
    disk: Path, full_set: PolicySet, change: dict[str, Any]
) -> None:
    truth = Plant(full_set)
    with open_plant(disk / "plant.db", full_set) as plant:
        ticket = plant.ask()
        body = truth.report(0, ticket.policy_index)
        before = as_recorded(plant.events())
        with pytest.raises(InvalidReport):
            plant.tell(**{"ids": 0, **body, **change})
        assert as_recorded(plant.events()) == before
        assert plant.status().pending == 1
        plant.tell(0, **body)
        assert plant.status().pending == 0


@pytest.mark.parametrize("n", [0, -1, 1.5, True, 10**9])
def test_a_senseless_number_of_episodes_is_refused(plant: Deployment, n: Any) -> None:
    with refused("SF-ARGUMENT-RANGE" if type(n) is int else "SF-ARGUMENT-TYPE", "n"):
        plant.ask(n)


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "\0", "\ud800", 5])
def test_a_senseless_key_is_refused(plant: Deployment, key: Any) -> None:
    with refused("SF-ARGUMENT-TEXT", "request"):
        plant.ask(request=key)


def test_a_cost_above_the_ceiling_raises_the_alarm_for_good(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, trust="data", cost_ceilings=[4.0], margin=0.6) as plant:
        plant.ask()
        plant.tell(0, reward=3.0, costs=[4.5])
        status = plant.status()
        assert (status.state, status.weights) == ("alarm", {0: 1.0})
        assert "ceiling" in status.why and "ALARM" in status.text and "no longer certified" in status.text
        assert plant.ask().policy_index == 0
        assert plant.verify().ok


def test_absurd_numbers_overflow_nothing(disk: Path, tiny_set: PolicySet) -> None:
    with open_plant(disk / "plant.db", tiny_set, trust="envelope") as plant:
        plant.ask(2)
        plant.tell(0, reward=3.0, costs=[1e308])
        plant.tell(1, reward=3.0, costs=[1e308])
        assert plant.status().state == "alarm"
        assert plant.verify().ok


# --------------------------------------------------------------------------------------------------------------- operate


def test_a_pause_hands_out_nothing_and_takes_reports(plant: Deployment, truth: Plant) -> None:
    ticket = plant.ask()
    plant.pause("lunch")
    plant.pause("again")
    with refused("SF-DEPLOYMENT-PAUSED", "lunch"):
        plant.ask()
    plant.tell(ticket.id, **truth.report(ticket.id, ticket.policy_index))
    assert (plant.status().state, plant.status().why) == ("paused", "lunch")
    plant.resume()
    plant.resume()
    assert plant.ask().id == 1
    assert kinds(plant).count("paused") == kinds(plant).count("resumed") == 1


def test_abort_returns_to_the_safe_policy_for_good_from_every_state(plant: Deployment, truth: Plant) -> None:
    drive(plant, truth, 5)
    plant.pause()
    plant.abort("smoke")
    plant.abort("fire")
    plant.resume()
    plant.cap(1.0)
    assert (plant.status().state, plant.status().why, plant.status().weights) == ("aborted", "smoke", {0: 1.0})
    assert {ticket.policy_index for ticket in plant.ask(50)} == {0}
    plant.pause()
    assert plant.status().state == "paused"
    plant.resume()
    assert plant.status().state == "aborted"
    assert kinds(plant).count("aborted") == 1
    assert plant.verify().ok


def test_a_cap_bounds_what_is_off_the_safe_policy_and_stays_certified(plant: Deployment, truth: Plant) -> None:
    free = plant.status()
    assert sum(w for j, w in free.weights.items() if j) > 0.2
    plant.cap(0.2)
    plant.cap(0.2)
    capped = plant.status()
    assert sum(w for j, w in capped.weights.items() if j) == pytest.approx(0.2)
    assert capped.cap == 0.2 and "capped" in capped.text
    assert list(capped.certified_costs.values()) < list(free.certified_costs.values())
    drive(plant, truth, 30)
    assert sum(w for j, w in plant.status().weights.items() if j) <= 0.2 + 1e-12
    state = plant._state
    assert state is not None and satisfies(
        state.agent.plan.weights, state.agent._program().rows, state.agent._program().limits
    )
    plant.cap(0)
    assert plant.status().weights == {0: 1.0}
    plant.cap(1.0)
    assert sum(w for j, w in plant.status().weights.items() if j) > 0.2
    assert kinds(plant).count("capped") == 3
    assert plant.verify().ok


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan"), "half", None])
def test_a_senseless_cap_is_refused(plant: Deployment, weight: Any) -> None:
    with refused("SF-ARGUMENT-RANGE" if isinstance(weight, float) else "SF-ARGUMENT-TYPE", "weight"):
        plant.cap(weight)


@pytest.mark.slow
def test_with_approval_a_new_plan_waits(disk: Path, tiny_set: PolicySet, truth: Plant) -> None:
    with open_plant(disk / "plant.db", tiny_set, approve=True) as plant:
        first = plant.status()
        assert first.weights == {0: 1.0} and first.waiting is not None and "waits" in first.text
        assert {ticket.policy_index for ticket in plant.ask(20)} == {0}
        with refused("SF-CONFLICT-PLAN"):
            plant.approve(first.plan + 1)
        plant.approve(first.plan)
        plant.approve(first.plan)
        assert plant.status().weights == first.waiting and plant.status().waiting is None
        with refused("SF-CONFLICT-NO-PLAN"):
            plant.approve()
        for _ in range(12):
            tickets = plant.ask(20)
            plant.tell(**truth.batch([t.id for t in tickets], [t.policy_index for t in tickets]))
        later = plant.status()
        assert later.waiting is not None and later.weights in ({0: 1.0}, first.waiting)
        plant.approve()
        assert plant.status().weights == later.waiting
        assert plant.verify().ok


@pytest.mark.parametrize("reason", ["", "x" * 201, "two\nlines", 3])
def test_a_senseless_reason_is_refused(plant: Deployment, reason: Any) -> None:
    with refused("SF-ARGUMENT-TEXT", "reason"):
        plant.pause(reason)


def test_missing_draws_of_one_policy_are_flagged(plant: Deployment, truth: Plant) -> None:
    while "flagged" not in kinds(plant):
        tickets = plant.ask(20)
        kept = [t for t in tickets if t.policy_index == 0]
        if kept:
            plant.tell(**truth.batch([t.id for t in kept], [t.policy_index for t in kept]))
        plant.lost([t.id for t in tickets if t.policy_index != 0])
    assert plant.status().episodes < 200
    assert any("go missing" in note for note in plant.status().notes)
    assert plant.verify().ok


# ------------------------------------------------------------------------------------------------------------------ open


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"trust": "data"}, "trust"),
        ({"delta": 0.1}, "delta"),
        ({"seed": 8}, "seed"),
        ({"evidence": "returns"}, "evidence"),
        ({"margin": 0.2}, "margin"),
        ({"cost_ceilings": [5.0]}, "cost_ceilings"),
        ({"p_max": 0.2}, "p_max"),
        ({"delta_coverage": 0.2}, "delta_coverage"),
        ({"losses": "independent"}, "losses"),
        ({"monitor_delta": 0.2}, "monitor_delta"),
        ({"approve": True}, "approve"),
    ],
)
def test_reopening_with_another_setting_is_refused_by_name(
    disk: Path, tiny_set: PolicySet, settings: dict[str, Any], field: str
) -> None:
    open_plant(disk / "plant.db", tiny_set).close()
    with refused("SF-SETTINGS-CHANGED", field):
        Deployment.open(disk / "plant.db", tiny_set, **settings)
    with Deployment.open(disk / "plant.db", tiny_set, trust="cells", delta=0.05) as plant:
        assert plant.settings.seed == 7


def test_another_policy_set_is_refused(disk: Path, tiny_set: PolicySet) -> None:
    open_plant(disk / "plant.db", tiny_set).close()
    with refused("SF-SETTINGS-POLICYSET", "policy_set"):
        Deployment.open(disk / "plant.db", small_set(name="another"))


def test_another_minor_version_is_refused(disk: Path, tiny_set: PolicySet, monkeypatch: pytest.MonkeyPatch) -> None:
    open_plant(disk / "plant.db", tiny_set).close()
    monkeypatch.setattr("surefoot.journal.settings.VERSION", "0.77.1")
    monkeypatch.setattr("surefoot.journal.settings.CONTINUED", ("0.77",))
    with refused("SF-SETTINGS-VERSION", "version"):
        Deployment.open(disk / "plant.db", tiny_set)


def test_what_does_not_exist_is_not_made_by_accident(disk: Path, tiny_set: PolicySet) -> None:
    with refused("SF-DEPLOYMENT-UNKNOWN"):
        Deployment.open(disk / "plant.db", tiny_set, create=False)
    with refused("SF-ARGUMENT-MISSING", "policy_set"):
        Deployment.open(disk / "plant.db")
    assert not (disk / "plant.db").exists()


def test_deployments_share_a_database(disk: Path, tiny_set: PolicySet, full_set: PolicySet) -> None:
    with (
        open_plant(disk / "plant.db", tiny_set, name="one") as one,
        open_plant(disk / "plant.db", full_set, name="two") as two,
    ):
        drive(one, Plant(tiny_set), 3)
        drive(two, Plant(full_set), 2)
        drive(one, Plant(tiny_set), 3)
        assert (one.status().episodes, two.status().episodes) == (6, 2)
        assert one.verify().ok and two.verify().ok


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 201])
def test_a_senseless_name_is_refused(disk: Path, tiny_set: PolicySet, name: str) -> None:
    with refused("SF-ARGUMENT-TEXT", "name"):
        open_plant(disk / "plant.db", tiny_set, name=name)


def test_refused_assumptions_leave_nothing_behind(disk: Path, tiny_set: PolicySet) -> None:
    with refused("SF-ASSUMPTION-COVERAGE", "p_max"):
        open_plant(disk / "plant.db", tiny_set, p_max=0.001)
    assert not (disk / "plant.db").exists()


def test_a_closed_deployment_says_so(disk: Path, tiny_set: PolicySet) -> None:
    plant = open_plant(disk / "plant.db", tiny_set)
    plant.close()
    plant.close()
    for act in (plant.status, plant.ask):
        with refused("SF-DEPLOYMENT-CLOSED"):
            act()


def test_a_fork_is_told_to_open_it_again(plant: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with refused("SF-JOURNAL-FORK"):
        plant.ask()


def test_threads_may_share_one(plant: Deployment, truth: Plant) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            drive(plant, truth, 10)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (plant.status().episodes, plant.status().pending) == (40, 0)
    assert plant.verify().ok


def test_whatever_fails_while_writing_costs_the_memory_not_the_journal(
    plant: Deployment, truth: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(plant, truth, 5)
    before = as_recorded(plant.events())

    def fail(*arguments: Any) -> str:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("surefoot.journal.transaction.Transaction.append", fail)
        with pytest.raises(MemoryError):
            plant.ask()
    assert plant._state is None
    assert as_recorded(plant.events()) == before
    ticket = plant.ask()
    assert ticket.id == 5


def test_an_unreachable_server_is_said_without_its_password(tiny_set: PolicySet) -> None:
    with pytest.raises(JournalUnavailable) as caught:
        open_plant("postgresql://me:secret@127.0.0.1:1/none", tiny_set)
    assert "secret" not in str(caught.value) and "try again" in str(caught.value)


@pytest.mark.parametrize("trust", ["cells", "envelope", "data"])
@pytest.mark.parametrize("before", [2, 60])
def test_an_absurd_cost_is_an_alarm_and_nothing_worse(
    trust: str, before: int, disk: Path, tiny_set: PolicySet, truth: Plant
) -> None:
    """A legal number whose square is none: the deployment stays usable, may be aborted and audited."""
    with open_plant(disk / "plant.db", tiny_set, trust=trust) as plant:
        drive(plant, truth, before)
        ticket = plant.ask()
        plant.tell(ticket.id, reward=3.0, costs=[1e200])
        drive(plant, truth, 30)
        assert plant.status().state == "alarm" and "declared ceiling" in plant.status().why
        plant.abort("a broken meter")
    with Deployment.open(disk / "plant.db", create=False) as again:
        drive(again, truth, 2)
        assert again.verify().first_disagreement is None
