"""Step curves: thinning never hides the largest value, and pixels are where they belong."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.report.deployment.chart import Mark, Point, band_chart, share_chart, step_chart
from surefoot.report.deployment.curve import STRETCHES, TRAIL, MixtureTrail, StepCurve


def curve_of(pairs: list[tuple[int, float]]) -> StepCurve:
    curve = StepCurve()
    for at, value in pairs:
        curve.add(at, value)
    return curve


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(-10, 10)), min_size=1, max_size=200))
def test_thinning_keeps_the_largest_and_the_last_value(pairs: list[tuple[int, float]]) -> None:
    pairs.sort(key=lambda pair: pair[0])
    points = curve_of(pairs).points
    assert max(value for _, value in points) == max(value for _, value in pairs)
    assert points[-1] == pairs[-1]
    assert [at for at, _ in points] == sorted(at for at, _ in points)
    assert set(points) <= set(pairs)


def test_memory_is_bounded_and_every_excess_is_kept() -> None:
    curve = StepCurve()
    for at in range(100_000):
        curve.add(at, 2.0 if at == 34_567 else 1.0)
    assert len(curve.points) <= 2 * STRETCHES
    assert (34_567, 2.0) in curve.points


@pytest.mark.parametrize(("at", "value"), [(0, float("nan")), (0, float("inf")), (-1, 0.0)])
def test_what_cannot_be_drawn_is_refused(at: int, value: float) -> None:
    with pytest.raises(ValueError, match="finite values"):
        StepCurve().add(at, value)


def paths(svg: str) -> list[str]:
    return re.findall(r'<path d="([^"]*)"', svg)


def test_a_step_is_drawn_where_it_happens() -> None:
    svg = step_chart("cost", curve_of([(0, 1.0), (50, 0.5)]), 100, width=366, height=162, limit=1.0)
    # 300 pixels for 100 episodes from 52 on, 100 pixels for values from 0 to 1 above 122.
    assert "M52.0 22.0H202.0V72.0H352.0" in paths(svg)
    assert "M52 22.0H352" in paths(svg)
    assert ">limit 1</text>" in svg


def test_the_description_holds_the_numbers() -> None:
    svg = step_chart("cost", curve_of([(0, 1.0), (50, 0.5)]), 100, width=366, limit=1.5)
    assert 'aria-label="cost over 100 episodes: from 1 to 0.5, between 0.5 and 1, limit 1.5"' in svg
    assert "cost: nothing yet" in step_chart("cost", StepCurve(), 1, width=366)


def test_marks_are_labelled_unless_labels_would_overlap() -> None:
    svg = step_chart(
        "cost", curve_of([(0, 1.0)]), 100, width=366, marks=[Mark(10, "<a>"), Mark(11, "b"), Mark(100, "c")]
    )
    assert [t for t in ("&lt;a&gt;", ">b<", ">c<") if t in svg] == ["&lt;a&gt;", ">c<"]
    assert svg.count('class="mark"') == 3


def test_shares_are_labelled_in_percent() -> None:
    svg = step_chart("weight", curve_of([(0, 0.2)]), 10, width=366, top=1.0, percent=True)
    assert ">100%</text>" in svg
    assert ">1</text>" not in svg


def layers(svg: str) -> dict[str, str]:
    return {look: path for path, look in re.findall(r'<path d="([^"]*)" class="([a-z0-9]+)"', svg)}


def test_a_band_lies_between_its_ends_and_what_leaves_the_picture_is_at_its_edge() -> None:
    points = [Point(10, 1.0, 0.0, 99.0, (("proved", 2.0),)), Point(100, 1.0, 0.5, 2.0, (("proved", 2.0),))]
    svg = band_chart("cost", points, 100, width=366, height=162, limit=2.0, floor=0.0)
    found = layers(svg)
    top = max(float(label) for label in re.findall(r'text-anchor="end">([\d.]+)</text>', svg) if float(label) < 50)
    assert 2.0 < top <= 3.0  # 99 was before anything was known

    def y(value: float) -> str:
        return f"{122.0 - 100.0 * min(value, top) / top:.1f}"

    assert found["curve"] == f"M82.0 {y(1.0)}L352.0 {y(1.0)}"
    assert found["band"] == f"M82.0 {y(99.0)}L352.0 {y(2.0)}L352.0 {y(0.5)}L82.0 {y(0.0)}Z"
    assert found["proved"] == f"M82.0 {y(2.0)}L352.0 {y(2.0)}"
    assert 'aria-label="cost over 100 episodes: 1, between 0.5 and 2 with 95% confidence, limit 2"' in svg


def test_a_mean_without_an_interval_is_a_line() -> None:
    svg = band_chart(
        "return", [Point(5, -3.0, None, None), Point(10, -2.0, None, None)], 10, width=366, zone=(-4.0, -1.0)
    )
    assert set(layers(svg)) >= {"curve", "zone"} and "band" not in layers(svg)
    assert 'aria-label="return over 10 episodes: -2"' in svg
    assert "return: nothing yet" in band_chart("return", [], 1, width=366)


def test_shares_are_stacked() -> None:
    svg = share_chart("shares", [(0, (1.0, 0.0)), (50, (0.25, 0.75))], 100, ("shade0", "shade1"), width=366, height=162)
    found = layers(svg)
    # The safe policy fills all, then a quarter; the other what is above.
    assert found["shade0"] == "M52.0 22.0H202.0V97.0H352.0V122.0H202.0V122.0H52.0Z"
    assert found["shade1"] == "M52.0 22.0H202.0V22.0H352.0V97.0H202.0V22.0H52.0Z"


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200))
def test_the_last_mixture_is_kept_and_memory_is_bounded(places: list[int]) -> None:
    trail, places = MixtureTrail(), sorted(places)
    for k, at in enumerate(places):
        trail.add(at, {0: 1.0 / (k + 1)})
    points = trail.points
    assert points[-1] == (places[-1], {0: 1.0 / len(places)})
    assert len(points) <= TRAIL and [at for at, _ in points] == sorted(at for at, _ in points)
