"""How a plant will be used: what a rehearsal has to imitate for its certificate to speak about the real deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import check_integer, check_real
from surefoot.errors import InvalidInput

__all__ = ["Protocol"]


@dataclass(frozen=True)
class Protocol:
    """How a deployment asks and is told.

    Attributes:
        batch: episodes that are asked at once.
        delay: how many further episodes are asked before an episode is told: one number, or pairs ``(episodes, probability)``.
        lost: share of the reports that never come, whatever happened in the episode.
        lost_if_costly: ``(threshold, probability)``: an episode in which what the first limit is on is above the threshold is lost with
            this probability besides.
        history: logged episodes of the safe policy on the plant, told before the first ask.
        exposure: most weight that is ever off the safe policy.

    Raises:
        InvalidInput: numbers that make no sense.
    """

    batch: int = 1
    delay: Any = 0
    lost: float = 0.0
    lost_if_costly: tuple[float, float] | None = None
    history: int = 0
    exposure: float = 1.0

    def __post_init__(self) -> None:
        for name, low in (("batch", 1), ("history", 0)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=low))
        object.__setattr__(self, "lost", check_real("lost", self.lost, low=0.0, high=1.0, open_high=True))
        object.__setattr__(self, "exposure", check_real("exposure", self.exposure, low=0.0, high=1.0))
        if self.lost_if_costly is not None:
            threshold, chance = self.lost_if_costly
            chance = check_real("lost_if_costly[1]", chance, low=0.0, high=1.0)
            object.__setattr__(self, "lost_if_costly", (check_real("lost_if_costly[0]", threshold), chance))
        object.__setattr__(self, "delay", _delays(self.delay))

    @property
    def longest_delay(self) -> int:
        """Most episodes that are asked before an episode is told."""
        return int(max(episodes for episodes, _ in self.delay))

    @property
    def largest_loss(self) -> float:
        """Largest share of reports that may be missing in the long run."""
        extra = 0.0 if self.lost_if_costly is None else self.lost_if_costly[1]
        return 1.0 - (1.0 - self.lost) * (1.0 - extra)

    def delays(self, n: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(n,) delays of as many episodes."""
        values, chances = (np.array(part) for part in zip(*self.delay, strict=True))
        found: np.ndarray[Any, np.dtype[np.int64]] = rng.choice(values, size=n, p=chances / chances.sum()).astype(
            np.int64
        )
        return found

    def data(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "batch": self.batch,
            "delay": [list(pair) for pair in self.delay],
            "lost": self.lost,
            "lost_if_costly": None if self.lost_if_costly is None else list(self.lost_if_costly),
            "history": self.history,
            "exposure": self.exposure,
        }

    @staticmethod
    def of(data: Any) -> Protocol:
        """From plain values that :meth:`data` gave.

        Raises:
            InvalidInput: others.
        """
        if not isinstance(data, dict) or set(data) != set(Protocol().data()):
            raise InvalidInput(
                f"protocol must hold {', '.join(Protocol().data())}, got {ascii(data)[:80]}; write it with Protocol.data",
                code="SF-ARGUMENT-MISSING",
            )
        extra = data["lost_if_costly"]
        if extra is not None and (not isinstance(extra, list | tuple) or len(extra) != 2):
            raise InvalidInput(
                f"lost_if_costly must be a threshold and a probability, got {ascii(extra)[:80]}; give both",
                code="SF-ARGUMENT-SHAPE",
            )
        return Protocol(**{**data, "lost_if_costly": None if extra is None else (extra[0], extra[1])})

    @property
    def text(self) -> str:
        """One line for people."""
        parts = ["one episode at a time" if self.batch == 1 else f"{self.batch} episodes at a time"]
        longest = self.longest_delay
        parts.append("told before the next is asked" if longest == 0 else f"told at most {longest} episodes later")
        if self.largest_loss:
            parts.append(f"up to {self.largest_loss:.0%} of the reports lost")
        if self.history:
            parts.append(f"after {self.history} logged episodes of the safe policy")
        if self.exposure < 1.0:
            parts.append(f"at most {self.exposure:g} of the weight off the safe policy")
        return ", ".join(parts)


def _delays(delay: Any) -> tuple[tuple[int, float], ...]:
    """Pairs of episodes and probability."""
    if np.ndim(delay) == 0:
        return ((check_integer("delay", delay, low=0), 1.0),)
    try:
        pairs = [tuple(pair) for pair in delay]
    except TypeError:
        pairs = []
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise InvalidInput(
            f"delay must be a number of episodes, or pairs of episodes and probability, got {delay!r}; e.g. delay=[(0, .9), (20, .1)]",
            code="SF-ARGUMENT-TYPE",
        )
    found = tuple(
        (check_integer(f"delay[{k}][0]", pair[0], low=0), check_real(f"delay[{k}][1]", pair[1], low=0.0, high=1.0))
        for k, pair in enumerate(pairs)
    )
    total = sum(chance for _, chance in found)
    if abs(total - 1.0) > 1e-9:
        raise InvalidInput(
            f"delay must have probabilities that sum to 1, got {total:g}; scale them", code="SF-ARGUMENT-SIMPLEX"
        )
    return found
