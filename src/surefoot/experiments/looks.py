"""How many cells a family allows: numbers are tried from the largest down, each is judged by a hold-out of its own and paid for as the next look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from surefoot.deploy.admission import check_certificate, check_margin
from surefoot.errors import AssumptionError
from surefoot.policyset.schema import PolicySet

__all__ = ["largest_accepted"]


def largest_accepted(
    train: Callable[[int, PolicySet | None], PolicySet], numbers: Sequence[int], *, p_max: float, delta: float, margin: float | None = None
) -> tuple[PolicySet | None, list[dict[str, Any]]]:  # fmt: skip
    """The policy set with the largest number of cells that ``trust="cells"`` accepts, ``None`` without one, and all looks.

    Args:
        train: ``train(cells, previous)`` -> a policy set with a hold-out; ``previous`` is the one that was looked at last.
        numbers: of cells, falling.
        p_max, delta: largest share of the family in no cell, and the error of all hold-outs together.
        margin: of the safe policy; by default what training verified.

    Returns:
        Per look ``cells``, ``refused`` (why, or ``None``) and, where there was a hold-out to look at, ``holdout``, ``uncovered`` and ``upper``.
    """
    looks: list[dict[str, Any]] = []
    previous: PolicySet | None = None
    for number in numbers:
        try:
            previous = train(number, previous)
        except AssumptionError as error:
            looks.append({"cells": number, "refused": str(error)})
            continue
        look: dict[str, Any] = {"cells": number, "refused": None}
        judged = previous.certificate
        if judged is not None:
            look |= {"holdout": judged.holdout, "uncovered": judged.uncovered, "upper": judged.uncovered_upper}
        looks.append(look)
        try:
            check_margin(previous, margin)
            check_certificate(previous, p_max, delta)
        except AssumptionError as error:
            look["refused"] = str(error)
        else:
            return previous, looks
    return None, looks
