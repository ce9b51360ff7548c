"""Reports in ask order: whatever arrives when, complete prefixes leave once, whole groups stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from surefoot.deploy import reorder
from surefoot.deploy.reorder import ReorderBuffer
from surefoot.deploy.report import Report

GROUPS = st.integers(1, 4)


def group(ids: list[int]) -> Report:
    """A report of these episodes whose contents name them."""
    number = np.array(ids, dtype=np.int64)
    return Report(number, 1.0 * number, 2.0 * number[:, None], drawn=number % 3)


class Conversation(RuleBasedStateMachine):
    """Asks, reports and losses in any order, beside a model that keeps everything."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ReorderBuffer()
        self.asked = 0
        self.pending: list[int] = []
        self.waiting: list[list[int]] = []
        self.lost: set[int] = set()
        self.given_up: set[int] = set()
        self.released: list[int] = []

    def complete_prefix(self) -> int:
        """The model: the largest end such that everything before it is told or lost and no group crosses it."""
        inside = (self.lost | self.given_up).union(*self.waiting)
        candidates = range(self.asked, -1, -1)
        done = set(self.released)
        for end in candidates:
            whole = all(k in inside or k in done for k in range(end))
            if whole and not any(min(g) < end <= max(g) for g in self.waiting):
                return end
        return 0

    @rule(n=st.integers(1, 5))
    def ask(self, n: int) -> None:
        self.pending += range(self.asked, self.asked + n)
        self.asked += n

    @rule(data=st.data(), size=GROUPS)
    def tell(self, data: st.DataObject, size: int) -> None:
        if not self.pending:
            return
        ids = data.draw(st.lists(st.sampled_from(self.pending), min_size=1, max_size=size, unique=True))
        self.pending = [k for k in self.pending if k not in ids]
        self.queue.add(group(ids))
        settled = len(self.released)
        if min(ids) < settled:
            self.given_up |= {k for k in ids if k >= settled}
        else:
            self.waiting.append(ids)
            self.given_up -= set(ids)
        self.settle()

    @rule(data=st.data(), size=GROUPS)
    def lose(self, data: st.DataObject, size: int) -> None:
        if not self.pending:
            return
        ids = data.draw(st.lists(st.sampled_from(self.pending), min_size=1, max_size=size, unique=True))
        self.pending = [k for k in self.pending if k not in ids]
        self.queue.declare_lost(ids)
        self.lost |= {k for k in ids if k >= len(self.released)} - self.given_up
        self.settle()

    @rule(data=st.data(), size=GROUPS)
    def give_up(self, data: st.DataObject, size: int) -> None:
        """The library waits no longer; whoever runs the plant may not know, and tell or declare lost all the same."""
        if not self.pending:
            return
        ids = data.draw(st.lists(st.sampled_from(self.pending), min_size=1, max_size=size, unique=True))
        self.queue.give_up(ids)
        self.given_up |= {k for k in ids if k >= len(self.released)}
        self.settle()

    def settle(self) -> None:
        end = self.complete_prefix()
        found = self.queue.release()
        groups, lost = found.groups, found.lost
        told = [int(k) for g in groups for k in g.ids]
        gone = lost + found.given_up
        assert sorted(told + gone) == list(range(len(self.released), end)), "exactly the new part of the prefix"
        assert all(g.ids.tolist() in self.waiting for g in groups), "groups leave whole"
        assert [int(g.ids[0]) for g in groups] == sorted(int(g.ids[0]) for g in groups)
        for g in groups:
            np.testing.assert_array_equal(g.outcomes[:, 1], 2.0 * g.ids)
            self.waiting.remove(g.ids.tolist())
        assert set(lost) <= self.lost and set(found.given_up) <= self.given_up
        self.lost -= set(lost)
        self.given_up -= set(found.given_up)
        self.released += sorted(told + gone)
        assert self.queue.settled == end

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert self.queue.waiting == sum(len(g) for g in self.waiting) + len(self.lost) + len(self.given_up)
        assert not self.lost & self.given_up
        assert self.released == list(range(len(self.released)))


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_group_with_a_missing_neighbour_waits_whole() -> None:
    queue = ReorderBuffer()
    queue.add(group([0, 3]))
    queue.add(group([1]))
    assert not queue.release()
    queue.declare_lost([2])
    found = queue.release()
    assert [g.ids.tolist() for g in found.groups] == [[0, 3], [1]]
    assert (found.lost, found.given_up, queue.settled, queue.waiting) == ([2], [], 4, 0)


def test_chains_of_groups_hold_each_other_back() -> None:
    """[0, 2], [1, 4] and 3 missing: releasing 0..2 would split [1, 4], so nothing leaves."""
    queue = ReorderBuffer()
    queue.add(group([0, 2]))
    queue.add(group([1, 4]))
    assert not queue.release()
    queue.add(group([3]))
    assert len(queue.release().groups) == 3


def test_one_missing_report_is_given_up_when_too_many_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reorder, "PATIENCE", 10)
    held = ReorderBuffer()
    for k in [*range(1, 5), *range(6, 13)]:
        assert not held.release()
        held.add(group([k]))
    missing = held.overdue()
    assert missing == [0, 5]
    held.give_up(missing)
    found = held.release()
    assert [int(g.ids[0]) for g in found.groups] == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
    assert (found.lost, found.given_up) == ([], [0, 5])
    assert held.waiting == 0


def test_what_was_given_up_comes_too_late_and_takes_its_group_along() -> None:
    held = ReorderBuffer()
    held.give_up([0])
    assert held.release().given_up == [0]
    held.add(group([0, 1, 2]))
    found = held.release()
    assert (found.groups, found.lost, found.given_up, held.settled) == ([], [], [1, 2], 3)


def test_what_was_given_up_stays_so_whatever_is_declared_and_counts_if_it_comes_before_its_turn() -> None:
    held = ReorderBuffer()
    held.add(group([0, 3]))
    held.give_up([1, 2])
    held.declare_lost([1])
    held.add(group([2, 4]))  # 3 and 4 reach across: nothing was released yet
    found = held.release()
    assert [g.ids.tolist() for g in found.groups] == [[0, 3], [2, 4]] and found.given_up == [1]
    held.declare_lost([1])
    assert held.waiting == 0
