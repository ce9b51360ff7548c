"""Built-in families by the names that commands use for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from surefoot.errors import InvalidInput
from surefoot.tasks.admission import QueueAdmission
from surefoot.tasks.cliff import WindyCliff
from surefoot.tasks.family import TabularFamily
from surefoot.tasks.gridworld import NoisyGridworld
from surefoot.tasks.inventory import StorageInventory
from surefoot.tasks.lake import SlipperyLake
from surefoot.tasks.streaming import StreamingBuffer
from surefoot.tasks.zoned_gridworld import ZonedGridworld

__all__ = ["FAMILIES", "SIZED_FAMILIES", "check_families", "make_family"]

FAMILIES: dict[str, Callable[[], TabularFamily]] = {
    "admission": QueueAdmission,
    "cliff": WindyCliff,
    "gridworld": NoisyGridworld,
    "inventory": StorageInventory,
    "lake": SlipperyLake,
    "streaming": StreamingBuffer,
}
"""Key to factory; every one of them meets the method's assumption on its whole support."""


SIZED_FAMILIES: dict[str, Callable[[int], TabularFamily]] = {"zoned-gridworld": ZonedGridworld}
"""Key to factory of the families that come with any number p of unknown parameters, called ``key:p``."""


def make_family(name: str) -> TabularFamily:
    """The family called ``name``: a key of :data:`FAMILIES`, or ``key:p`` for one with p unknown parameters (``zoned-gridworld:4``).

    Raises:
        InvalidInput: unknown name, or a number that the family does not come with; the message lists what there is.
    """
    check_families((name,))
    return FAMILIES[name]() if name in FAMILIES else _sized(name)


def check_families(names: Sequence[str]) -> None:
    """Raise where a name is unknown or given twice, before anything expensive is done for the others.

    Raises:
        InvalidInput: names what is wrong and lists what there is.
    """
    if not names or len(set(names)) < len(names):
        raise InvalidInput(
            f"families must be distinct names, got {list(names)}; list every family once", code="SF-ARGUMENT-DISTINCT"
        )
    for name in names:
        if name not in FAMILIES:
            _sized(name)


def _sized(name: str) -> TabularFamily:
    """The family of a name ``key:p``."""
    key, _, number = name.partition(":")
    if key not in SIZED_FAMILIES or not (number.isascii() and number.isdigit()):
        known = ", ".join([*sorted(FAMILIES), *(f"{sized}:N" for sized in sorted(SIZED_FAMILIES))])
        raise InvalidInput(
            f"family must be one of {known} (N unknown parameters), got {name!r}; choose among them",
            code="SF-ARGUMENT-CHOICE",
        )
    return SIZED_FAMILIES[key](int(number))
