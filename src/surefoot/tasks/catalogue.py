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

__all__ = ["FAMILIES", "check_families", "make_family"]

FAMILIES: dict[str, Callable[[], TabularFamily]] = {
    "admission": QueueAdmission,
    "cliff": WindyCliff,
    "gridworld": NoisyGridworld,
    "inventory": StorageInventory,
    "lake": SlipperyLake,
    "streaming": StreamingBuffer,
}
"""Key to factory; every one of them meets the method's assumption on its whole support."""


def make_family(name: str) -> TabularFamily:
    """The family called ``name``.

    Raises:
        InvalidInput: unknown name; the message lists what there is.
    """
    check_families((name,))
    return FAMILIES[name]()


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
            raise InvalidInput(
                f"family must be one of {', '.join(sorted(FAMILIES))}, got {name!r}; choose among them",
                code="SF-ARGUMENT-CHOICE",
            )
