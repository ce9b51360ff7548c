"""The page over all plants of a fleet, from its plain data alone (``Fleet.data()``, or what ``surefoot deploy fleet --json`` printed)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surefoot.errors import InvalidInput
from surefoot.report.pages import render_template

__all__ = ["fleet_page"]


def fleet_page(data: Mapping[str, Any]) -> str:
    """One file that loads nothing and runs nothing.

    Raises:
        InvalidInput: not the data of a fleet.
    """
    try:
        plants = [_row(plant) for plant in data["plants"]]
        errors = sum(float(plant["delta"]) for plant in data["plants"])
        family, policy_set = str(data["family"]), str(data["policy_set"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"data must be those of a fleet, got something else ({error!r}); pass Fleet.data()", code="SF-ARGUMENT-TYPE"
        ) from error
    page = render_template(
        "fleet.html.j2",
        title=f"{len(plants)} plants of {family}",
        plants=plants,
        family=family,
        policy_set=policy_set,
        together=max(0.0, 1.0 - errors),
    )
    return str(page)


def _row(plant: Mapping[str, Any]) -> dict[str, Any]:
    weights = {int(j): float(w) for j, w in plant["weights"].items()}
    costs = [
        f"{name}: {_number(cost)} ({float(plant['cost_limits'][name]):.4g})"
        for name, cost in plant["mean_costs"].items()
    ]
    return {
        "name": str(plant["name"]),
        "stage": str(plant["stage"]),
        "episodes": int(plant["episodes"]),
        "off": f"{1.0 - weights.get(0, 0.0):.0%}",
        "costs": ", ".join(costs) or "-",
        "earned": _number(plant["mean_return"]),
        "state": str(plant["state"]),
        "alarm": "" if plant["alarm"] is None else str(plant["alarm"]),
        "next": str(plant["next"]),
    }


def _number(value: Any) -> str:
    return "-" if value is None else f"{float(value):.4g}"
