r"""Looks at hold-outs: which stream a hold-out comes from, and what each look costs.

A hold-out judges cells only if it is independent of them. Whoever trains again because the last hold-out said too little chooses the next
cells by what it said, so two things are needed. Let ``a = 1, 2, ...`` count the hold-outs looked at, this one included.

* *Fresh tasks.* The stream is derived from ``(seed, f, a)`` with f a fingerprint of what was frozen (:func:`fingerprint`): other cells meet
  other tasks, and so do the same cells at another look.
* *A share of its own.* Look a pays ``delta_cov / 2^a``. Given everything before it, look a is wrong with probability at most its share, so
  some look is wrong with probability at most ``sum_a delta_cov / 2^a = delta_cov``, however many there are and whatever makes somebody look
  again.

Nobody can count looks that are not reported: ``previous=`` hands the count on, and a file keeps it. Where it is left out although something
was seen, k looks are wrong with probability up to ``k delta_cov / 2``.

The fingerprint rounds every array to a part in :data:`DIGITS` of its largest entry, so that machines whose arithmetic differs in the last
bits draw the same hold-out.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.errors import InvalidInput
from surefoot.policy import TabularPolicy
from surefoot.stats.ledger import Ledger

if TYPE_CHECKING:
    from surefoot.policyset.schema import Look, PolicySet

__all__ = ["DIGITS", "fingerprint", "holdout_stream", "look_share", "looks_after", "looks_paid"]

DIGITS = 10_000
"""Steps between zero and an array's largest entry."""


def look_share(attempt: int) -> float:
    """``2^-a``, the part of ``delta_cov`` that look ``a`` pays.

    >>> sum(look_share(a) for a in range(1, 60))
    1.0
    """
    return float(2.0**-attempt)


def looks_paid(delta: float, attempt: int) -> Ledger:
    """The ledger of look ``attempt`` before it pays: the looks before it have spent ``delta (1 - 2^(1 - attempt))``.

    >>> round(looks_paid(0.05, 3).left, 12)
    0.0125
    """
    ledger = Ledger(delta)
    if attempt == 1:
        return ledger
    number = "an earlier hold-out" if attempt == 2 else f"{attempt - 1} earlier hold-outs"
    return ledger.spend("looks", delta * (1.0 - 2.0 * look_share(attempt)), f"looked at: {number}")


def looks_after(previous: PolicySet | None, family: str) -> tuple[tuple[Look, ...], bool]:
    """The looks that a new training starts from, oldest first, and whether the lineage is known from its first look on.

    Args:
        previous: the set whose hold-out was seen last, or ``None``.
        family: name of the family to be trained on.

    Raises:
        InvalidInput: ``previous`` is no policy set, or one of another family.
    """
    from surefoot.policyset.schema import Look, PolicySet

    if previous is None:
        return (), True
    if not isinstance(previous, PolicySet):
        raise InvalidInput(
            f"previous must be a PolicySet, got {type(previous).__name__}; load a file with PolicySet.load",
            code="SF-ARGUMENT-TYPE",
        )
    if previous.training.family != family:
        raise InvalidInput(
            f"previous must be a policy set for {family}, got one for {previous.training.family}; looks are counted family by family",
            code="SF-ARGUMENT-MISMATCH",
        )
    found = previous.certificate
    if found is None:
        return previous.looks, previous.lineage_known
    last = Look(
        judged=fingerprint(previous),
        cells=len(previous.cells),
        holdout=found.holdout,
        uncovered=found.uncovered,
        margin_failures=found.margin_failures,
        delta_coverage=found.delta_coverage,
    )
    return (*previous.looks, last), previous.lineage_known


def fingerprint(policy_set: PolicySet) -> str:
    """SHA-256 of what a hold-out judges: criterion, policies, cells, ranges and margin; nothing that was learned from a hold-out.

    Policies that are no tables enter by the values that the cells predict for them.
    """
    digest = hashlib.sha256()
    tables = [p.table if isinstance(p, TabularPolicy) else type(p).__name__ for p in policy_set.policies]
    parts = {
        "criterion": policy_set.criterion,
        "policies": tables,
        "cells": policy_set.cells,
        "bounds": policy_set.bounds,
        "margin": policy_set.safe_margin,
    }
    for name, value in parts.items():
        _feed(digest, name, value)
    return digest.hexdigest()


def _feed(digest: Any, name: str, value: Any) -> None:
    """One value, with where it stands."""
    if is_dataclass(value):
        # Limits on means alone are fingerprinted as before there were others, so that the same cells meet the same hold-out.
        later = () if getattr(value, "functionals", ()) else ("functionals", "signal_names")
        for field in (f for f in fields(value) if f.name not in later):
            _feed(digest, f"{name}.{field.name}", getattr(value, field.name))
    elif isinstance(value, list | tuple):
        digest.update(f"{name}[{len(value)}]\n".encode())
        for k, item in enumerate(value):
            _feed(digest, f"{name}[{k}]", item)
    elif isinstance(value, np.ndarray):
        largest = float(np.abs(value).max(initial=0.0))
        steps = np.rint(value * (DIGITS / largest)) if largest > 0.0 else np.zeros(value.shape)
        digest.update(f"{name} {value.shape} {largest:.3e}\n".encode())
        digest.update(np.ascontiguousarray(steps, dtype="<i8").tobytes())
    else:
        text = f"{value:.3e}" if isinstance(value, float) else repr(value)
        digest.update(f"{name} {text}\n".encode())


def holdout_stream(seed: int, judged: str, attempt: int) -> np.random.Generator:
    """The random stream of one look.

    Args:
        seed: of the training.
        judged: :func:`fingerprint` of what is frozen.
        attempt: ``a``.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, int(judged, 16), attempt], spawn_key=(1,)))
