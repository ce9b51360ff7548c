"""The catalogue: every family in it can be made, trained on, and keeps the method's assumption on its whole support."""

from __future__ import annotations

import numpy as np
import pytest

from surefoot import evaluate, train
from surefoot.tasks import FAMILIES, TabularFamily, check_families, make_family
from tests.refusals import refused


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_keeps_the_assumption_at_the_corners_of_its_support(name: str) -> None:
    family = make_family(name)
    assert isinstance(family, TabularFamily)
    safe = family.safe_policy()  # type: ignore[attr-defined]
    for corner in family.support[0]:
        task = family.cmdp([corner])
        assert (task.cost_limits - evaluate(task, safe).costs > 0.0).all()


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"gridworld"}))
def test_every_family_can_be_trained_on(name: str) -> None:
    family = make_family(name)
    found = train(family, tasks=60, holdout=20, cells=5, seed=1, progress=False)
    assert found.assumption.holds
    assert found.safe_margin > 0.0
    assert found.training.parameter_names == family.parameter_names
    assert found.certificate is not None
    assert found.certificate.uncovered <= 4, "a kernel that rounds past one leaves every box"


def test_names_of_families_are_distinct() -> None:
    assert len({make_family(name).name for name in FAMILIES}) == len(FAMILIES)


def test_families_survive_a_trip_to_another_process() -> None:
    import copy

    for name in FAMILIES:
        family = make_family(name)
        twin = copy.deepcopy(family)
        assert twin == family
        np.testing.assert_array_equal(twin.cmdp(family.support[0, :1]).dense, family.cmdp(family.support[0, :1]).dense)


@pytest.mark.parametrize(
    ("names", "refusal"),
    [
        (
            ("lake", "pond"),
            ("SF-ARGUMENT-CHOICE", "family", "admission, cliff, gridworld, inventory, lake, streaming", "'pond'"),
        ),
        ((), ("SF-ARGUMENT-DISTINCT", "families", "[]")),
        (("lake", "lake"), ("SF-ARGUMENT-DISTINCT", "families", "['lake', 'lake']")),
    ],
)
def test_unknown_and_repeated_names_are_refused(names: tuple[str, ...], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        check_families(names)
