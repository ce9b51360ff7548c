"""An operation happens whole or not at all: threads take turns, Ctrl-C waits, and what broke off halfway is refused from then on."""

from __future__ import annotations

import copy
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from surefoot import AgentBroken, InvalidReport
from surefoot.deploy import CertifiedAgent, FixedAgent
from surefoot.deploy.turns import Turns
from tests.deploy.worlds import hand_made
from tests.refusals import refused


def agent() -> CertifiedAgent:
    reward, cost = np.array([[3.0, 5.0]] * 2), np.array([[[0.5], [1.0]], [[0.5], [2.0]]])
    return CertifiedAgent(hand_made(reward, cost, width=0.2, own=[1, 1]), evidence="returns", seed=1, p_max=0.9)


def told(one: CertifiedAgent, batch: Any) -> dict[str, Any]:
    return {"ids": batch.ids, "reward": np.full(len(batch), 3.2), "costs": np.full((len(batch), 1), 0.4)}


@pytest.fixture(autouse=True)
def as_in_a_notebook() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt; test runners ignore it in their workers."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
def test_threads_share_an_agent_and_every_episode_has_one_id() -> None:
    one, ids, errors = agent(), [], []

    def work() -> None:
        try:
            for _ in range(15):
                episode = one.ask()
                ids.append(episode.id)
                one.tell(episode.id, 3.0, [0.4])
                one.status()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and sorted(ids) == list(range(90))
    assert one.status().episodes == 90 and one.status().pending == 0


@pytest.mark.parametrize("where", ["_bounds.told", "_buffer.add", "_settle", "_review"])
def test_an_interrupt_in_the_middle_waits_for_the_end_and_nothing_is_told_in_part(where: str) -> None:
    """A signal that arrives anywhere in ``tell``: the report counts, once, and the run goes on like one that was never interrupted."""
    calm, disturbed = agent(), agent()
    for k in range(6):
        for one in (calm, disturbed):
            batch = one.ask(40)
            if one is calm or k != 3:
                one.tell(**told(one, batch))
                continue
            owner, name = one, where
            while "." in name:
                first, name = name.split(".", 1)
                owner = getattr(owner, first)
            original = getattr(owner, name)

            def interrupted(*args: Any, original: Any = original, **kwargs: Any) -> Any:
                signal.raise_signal(signal.SIGINT)
                return original(*args, **kwargs)

            setattr(owner, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                one.tell(**told(one, batch))
            setattr(owner, name, original)
            with refused("SF-REPORT-CLOSED"):
                one.tell(**told(one, batch))
    assert np.array_equal(calm.plan.weights, disturbed.plan.weights)
    np.testing.assert_array_equal(calm._evidence.log_wealth(), disturbed._evidence.log_wealth())
    np.testing.assert_array_equal(calm.bounds, disturbed.bounds)


def test_an_interrupted_ask_leaves_its_episodes_where_they_can_be_found() -> None:
    one = agent()
    original = one._bounds.asked
    one._bounds.asked = lambda *args: (signal.raise_signal(signal.SIGINT), original(*args))[1]  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        one.ask(3)
    one._bounds.asked = original  # type: ignore[method-assign]
    assert sorted(one.open_episodes) == [0, 1, 2]
    one.lost(list(one.open_episodes))
    assert one.status().pending == 0 and one.ask().id == 3


def test_the_handler_of_the_user_is_asked_and_put_back() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        mine, one = signal.getsignal(signal.SIGINT), agent()
        with one._tracker.turns:
            signal.raise_signal(signal.SIGINT)
            assert not seen
        assert seen == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_broke_off_halfway_is_refused_and_what_was_refused_before_is_not() -> None:
    one = agent()
    batch = one.ask(4)
    for wrong in ({"reward": np.nan}, {"ids": 77}):
        with pytest.raises(InvalidReport):
            one.tell(**({"ids": 0, "reward": 3.0, "costs": [0.4]} | wrong))
    with pytest.raises(TypeError):
        one.tell(0)  # type: ignore[call-arg]
    one._buffer.add = lambda group: (_ for _ in ()).throw(MemoryError("no room"))  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        one.tell(**told(one, batch))
    for act in (one.ask, one.status, lambda: one.lost(0)):
        with refused("SF-AGENT-BROKEN", "MemoryError: no room"):
            act()


def test_a_copy_is_free_and_agents_without_evidence_take_turns_too() -> None:
    turns = Turns()
    with turns:
        twin = copy.deepcopy(turns)
        with twin, pickle.loads(pickle.dumps(twin)):  # noqa: S301
            pass
    found = agent()
    fixed = FixedAgent(found.policies[0], found._set.criterion)
    free: list[bool] = []
    other = threading.Thread(target=lambda: free.append(fixed._tracker.turns._lock.acquire(blocking=False)))
    with fixed._tracker.turns:
        other.start()
        other.join()
    assert free == [False] and fixed.ask().id == 0


def test_an_operation_inside_another_is_a_part_of_it() -> None:
    """The turn ends with the outer one, and a change that the inner one made counts as the outer one's."""
    turns, order = Turns(), []

    def other() -> None:
        try:
            with turns:
                order.append("other")
        except AgentBroken:
            order.append("refused")

    thread = threading.Thread(target=other)
    with pytest.raises(RuntimeError), turns:
        with turns:
            turns.changes()
        thread.start()
        order.append("outer")
        raise RuntimeError("broke off")
    thread.join()
    assert order == ["outer", "refused"]  # the other thread waited for the outer operation
    assert turns.broken == "RuntimeError: broke off"
    with pytest.raises(AgentBroken), turns:
        order.append("never")


def test_the_interrupt_handler_is_given_back_by_the_outer_operation() -> None:
    turns, before = Turns(), signal.getsignal(signal.SIGINT)
    with turns:
        with turns:
            pass
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
