"""The compiled sort orders as NumPy's stable one."""

from __future__ import annotations

import numpy as np

from surefoot.deploy.evidence.transitions import decreasing


def test_largest_first_and_equal_ones_as_they_stand() -> None:
    rng = np.random.default_rng(0)
    for n in range(40):
        for values in (rng.normal(size=n), rng.integers(0, 3, n).astype(float), np.full(n, np.inf)):
            assert decreasing(values).tolist() == np.argsort(-values, kind="stable").tolist()
