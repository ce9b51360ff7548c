"""Old names work, warn, and say what to write instead."""

from __future__ import annotations

import pytest

import surefoot as sf
import surefoot.gym
from surefoot.deprecation import deprecated, renamed_arguments
from tests.refusals import refused


@renamed_arguments(width="num_envs")
def doubled(num_envs: int = 1) -> int:
    return 2 * num_envs


def test_an_argument_under_its_old_name_is_taken_and_warned_about() -> None:
    assert doubled(num_envs=3) == 6
    with pytest.warns(DeprecationWarning, match="the argument width is now called num_envs"):
        assert doubled(width=4) == 8  # type: ignore[call-arg]


@renamed_arguments(percent=("share", lambda percent: percent / 100.0))
def halved(share: float = 1.0) -> float:
    return share / 2.0


def test_an_argument_that_changed_its_unit_is_converted() -> None:
    with pytest.warns(DeprecationWarning, match="the argument percent is now called share"):
        assert halved(percent=50.0) == 0.25  # type: ignore[call-arg]


def test_an_argument_under_both_names_is_refused() -> None:
    with refused("SF-ARGUMENT-COMBINATION", "num_envs"):
        doubled(num_envs=3, width=4)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("old", "new"), [("Bank", "EpisodeCache"), ("SixTuple", "SafetyGymnasiumAdapter"), ("judge", "evaluate_policy")]
)
def test_old_names_of_the_gym_package_warn(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"surefoot\.gym\.{old} is now called surefoot\.gym\.{new}"):
        found = getattr(sf.gym, old)
    assert found is getattr(surefoot.gym, new)


def test_what_will_go_away_warns_its_caller_and_still_works() -> None:
    @deprecated(since="0.2", gone="0.4", use="new()")
    def old(x: int) -> int:
        return 2 * x

    with pytest.warns(
        DeprecationWarning, match="old is deprecated since 0.2 and goes away in 0.4 at the earliest; use new"
    ) as caught:
        assert old(3) == 6
    assert caught[0].filename == __file__
