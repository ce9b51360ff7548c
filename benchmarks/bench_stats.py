"""Widths and speed of the betting bounds beside the published ones; run from the repository's root.

    python benchmarks/bench_stats.py

Widths are ``bound - mean`` of one-sided upper bounds, averaged over seeds: ours (:func:`mean_upper`), the same bets as
``c / H`` instead of ``c / (H - m)``, the best single bet in hindsight (not a valid bound: what no method of this form
can beat), the upper side of the hedged capital and the predictable plug-in empirical Bernstein and Hoeffding bounds of
Waudby-Smith & Ramdas (2024).
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from surefoot.stats.betting import IntervalWealth, MeanUpperBounds, bet_grid, empirical_bernstein_upper, mean_upper
from surefoot.text_table import text_table
from tests.stats import wsr_reference as reference

SIZES, SEEDS = (3, 10, 30, 100, 300, 1000, 4000, 10_000, 40_000), 5


def gridworld_costs(rng: np.random.Generator, n: int) -> Any:
    return np.where(rng.random(n) < 0.65, 0.0, np.minimum(100.0, rng.exponential(4.0, n)))


LAWS: dict[str, tuple[Callable[[np.random.Generator, int], Any], float, float]] = {
    "costs, ceiling 100, sd 3": (gridworld_costs, 100.0, 1.4),
    "Bernoulli(.1)": (lambda rng, n: (rng.random(n) < 0.1).astype(float), 1.0, 0.1),
    "Bernoulli(.5)": (lambda rng, n: (rng.random(n) < 0.5).astype(float), 1.0, 0.5),
    "Beta(2, 5)": (lambda rng, n: rng.beta(2, 5, n), 1.0, 2 / 7),
    "Beta(10, 30)": (lambda rng, n: rng.beta(10, 30, n), 1.0, 0.25),
}


def hindsight(x: Any, delta: float) -> float:
    one = np.ones(1)
    return min(reference.fixed_bets_upper(x, delta, np.array([f]), one) for f in np.geomspace(0.005, 0.995, 12))


def unscaled(x: Any, delta: float) -> float:
    bets = bet_grid()
    return reference.fixed_bets_upper(x, delta, bets.fractions, bets.weights, scaled=False)


def methods(ceiling: float, mean: float, delta: float) -> dict[str, Callable[[Any], float]]:
    return {
        "ours": lambda x: mean_upper(x, ceiling, delta, focus=mean),
        "bets c / H": lambda x: ceiling * unscaled(x / ceiling, delta),
        "hindsight": lambda x: ceiling * hindsight(x / ceiling, delta),
        "hedged .5": lambda x: ceiling * reference.hedged_upper(x / ceiling, delta, 0.5),
        "hedged .75": lambda x: ceiling * reference.hedged_upper(x / ceiling, delta, 0.75),
        "hedged .99": lambda x: ceiling * reference.hedged_upper(x / ceiling, delta, 0.99),
        "emp. Bernstein": lambda x: float(empirical_bernstein_upper(x, ceiling, delta)[-1]),
        "Hoeffding": lambda x: ceiling * reference.hoeffding_upper(x / ceiling, delta),
    }


def widths() -> Iterator[str]:
    for delta, (name, (draw, ceiling, mean)) in itertools.product((0.05, 0.025 / 60), LAWS.items()):
        samples = [draw(np.random.default_rng(seed), max(SIZES)) for seed in range(SEEDS)]
        rows = [[f"{name}, delta = {delta:.2g}: width at n =", *map(str, SIZES)]]
        for method, bound in methods(ceiling, mean, delta).items():
            widths = (np.mean([bound(x[:n]) - mean for x in samples]) for n in SIZES)
            rows.append([method, *(f"{width:.4f}" for width in widths)])
        yield from ("", *text_table(rows))


def microseconds(call: Callable[[], object], observations: int, repeats: int = 20) -> float:
    call()
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 1e6 * best / observations


def bound_speeds(x: Any) -> str:
    bounds, one = MeanUpperBounds(np.full(60, 90.0), focus=1.5), x[:1].copy()
    figures = {
        "batch of 1000": microseconds(lambda: bounds.update(0, x), 1000),
        "single": microseconds(lambda: [bounds.update(1, one) for _ in range(1000)], 1000),
        "reading one bound": microseconds(lambda: [bounds.bound(0, 7.8) for _ in range(1000)], 1000),
    }
    return "  upper bounds (64 means x 10 bets): " + ", ".join(f"{k} {v:.3g}" for k, v in figures.items())


def interval_speeds(x: Any, cells: int) -> str:
    wealth, minus, plus = IntervalWealth(cells, 60, 0.0, 90.0), np.full(cells, 1.3), np.full(cells, 1.5)
    conditional = np.tile(minus, (1000, 1)), np.tile(plus, (1000, 1))
    few, one = np.arange(cells) < 10, x[:1].copy()
    figures = {
        "batch of 1000": microseconds(lambda: wealth.update(0, x, minus, plus), 1000),
        "with conditional predictions": microseconds(lambda: wealth.update(0, x, *conditional), 1000),
        "single": microseconds(lambda: [wealth.update(1, one, minus, plus) for _ in range(200)], 200),
        "single, 10 cells alive": microseconds(
            lambda: [wealth.update(2, one, minus, plus, few) for _ in range(200)], 200
        ),
        "log_mean": microseconds(lambda: [wealth.log_mean() for _ in range(200)], 200),
    }
    return f"  intervals ({cells} cells x 8 bets): " + ", ".join(f"{k} {v:.3g}" for k, v in figures.items())


def speeds() -> Iterator[str]:
    x = gridworld_costs(np.random.default_rng(0), 1000)
    yield "microseconds per observation, best of 20"
    yield bound_speeds(x)
    for cells in (60, 240, 500):
        yield interval_speeds(x, cells)


if __name__ == "__main__":
    for line in itertools.chain(speeds(), widths()):
        sys.stdout.write(line + "\n")
