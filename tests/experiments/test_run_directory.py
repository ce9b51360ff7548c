"""The folder of a run: an interrupted one goes on with the same result, a finished one is never written into, a refused one leaves nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.errors import InvalidInput, OutputExists
from surefoot.experiments.gridworld import run as gridworld
from surefoot.experiments.run_directory import RunDirectory, as_setting, packed, probe, unpacked
from surefoot.tasks import NoisyGridworld, SlipperyLake
from tests.refusals import refused

SETTINGS = {"seed": 1, "agents": ["a", "b"]}


@dataclass(frozen=True)
class Part:
    name: str
    weight: float


@dataclass(frozen=True, eq=False)
class Found:
    part: Part
    values: np.ndarray[Any, np.dtype[np.float64]]
    first: int | None
    parts: list[Part]
    by_name: dict[str, tuple[float, ...]]


def made(k: int) -> Found:
    values = np.array([0.1 * k, np.inf, np.nan])
    return Found(Part("é", 1 / 3), values, None if k else 7, [Part("x", float(k))], {"one": (1.0, float(k))})


class Stop(Exception):
    pass


class Work:
    """Counts its calls, and stops at one of them."""

    def __init__(self, stop_at: int | None = None, error: type[BaseException] = Stop) -> None:
        self.called: list[int] = []
        self._stop_at, self._error = stop_at, error

    def __call__(self, k: int) -> Found:
        if k == self._stop_at:
            raise self._error
        self.called.append(k)
        return made(k)


def go(out: Path, work: Work, settings: dict[str, Any] = SETTINGS) -> list[Found]:
    with RunDirectory(out, settings) as run:
        calls = [(k,) for k in range(5)]
        return run.map("some part: 1", work, calls, workers=1, label="", progress=False, returns=Found)


def test_what_is_kept_comes_back_as_it_was() -> None:
    text, arrays = packed(made(0))
    found = unpacked(Found, text, arrays)
    assert (found.part, found.first, found.parts, found.by_name) == (
        Part("é", 1 / 3),
        7,
        [Part("x", 0)],
        {"one": (1.0, 0.0)},
    )
    assert isinstance(found.parts[0].weight, float)
    np.testing.assert_array_equal(found.values, made(0).values)
    with refused("SF-ARGUMENT-TYPE"):
        packed({1: 2})
    with refused("SF-ARGUMENT-TYPE"):
        packed([object()])


@pytest.mark.parametrize(
    ("hint", "data"),
    [
        (Part, ["x"]),
        (Part, ["x", "y"]),
        (Part, "x"),
        (int, True and "1"),
        (tuple[int, int], [1]),
        (np.ndarray, [1]),
        (int | None, "x"),
    ],
)
def test_what_is_of_another_type_is_not_believed(hint: Any, data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        unpacked(hint, json.dumps(data), [])


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    out, first, second = tmp_path / "run", Work(stop_at=3), Work()
    with pytest.raises(Stop):
        go(out, first)
    found = go(out, second)
    assert (first.called, second.called) == ([0, 1, 2], [3, 4])
    for k, one in enumerate(found):
        assert packed(one)[0] == packed(made(k))[0]
        np.testing.assert_array_equal(one.values, made(k).values)
    assert list(out.iterdir()) == []  # nothing unfinished is left, and nothing was written by the experiment


def test_a_result_that_cannot_be_read_is_computed_again(tmp_path: Path) -> None:
    out, second = tmp_path / "run", Work()
    with pytest.raises(Stop):
        go(out, Work(stop_at=3))
    (kept,) = list(out.rglob("1.npz"))
    kept.write_bytes(kept.read_bytes()[:100])
    go(out, second)
    assert second.called == [1, 3, 4]


def test_a_finished_run_is_never_written_into(tmp_path: Path) -> None:
    go(tmp_path / "run", Work())
    with pytest.raises(OutputExists, match="which exists"):
        go(tmp_path / "run", Work())
    (tmp_path / "other").mkdir()
    with pytest.raises(OutputExists):
        go(tmp_path / "other", Work())


def test_another_command_does_not_go_on_with_it(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        go(tmp_path / "run", Work(stop_at=3))
    with pytest.raises(OutputExists, match="seed was 1 and is now 2"):
        go(tmp_path / "run", Work(), {**SETTINGS, "seed": 2})
    assert go(tmp_path / "run", Work())


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput), RunDirectory(tmp_path / "run", SETTINGS):
        raise InvalidInput("x must be y", code="SF-ARGUMENT-RANGE")
    assert not (tmp_path / "run").exists()


def test_who_interrupts_is_told_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", Work(stop_at=2, error=KeyboardInterrupt))
    assert "the same command goes on there" in capsys.readouterr().err


def test_a_probe_tells_families_apart() -> None:
    assert probe(NoisyGridworld()) == probe(NoisyGridworld())
    assert len({probe(NoisyGridworld()), probe(NoisyGridworld("published")), probe(SlipperyLake())}) == 3


def test_a_probe_sees_the_discount_and_the_safe_policy() -> None:
    class Other(SlipperyLake):
        def safe_policy(self) -> Any:
            return np.roll(np.asarray(super().safe_policy()), 1, axis=1)

    class Nearer(SlipperyLake):
        @property
        def criterion(self) -> Any:
            return replace(super().criterion, discount=0.5)

    assert len({probe(family()) for family in (SlipperyLake, Other, Nearer)}) == 3


def test_options_differ_where_they_do() -> None:
    one, two = (sf.train(NoisyGridworld(), tasks=12, holdout=0, cells=1, seed=k, progress=False) for k in range(2))
    assert repr(one) == repr(two)  # which is why a text would not do
    options = [one, two, np.zeros(2), np.ones(2), [1, None], [1, "x"], 0.5, object()]
    assert len({json.dumps(as_setting(value)) for value in options}) == len(options)
    assert as_setting(object()) == as_setting(object()) == "builtins.object"


def test_an_experiment_goes_on_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {
        "agents": ("always-safe", "certified:data"), "tasks": "fresh:2", "episodes": 200, "cells": 4, "policies": 4, "training_tasks": 20,
        "holdout": 0, "progress": False,
    }  # fmt: skip
    whole = gridworld.reproduce(tmp_path / "whole", **sizes)
    evaluated = gridworld.write_figure1

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gridworld, "write_figure1", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gridworld.reproduce(tmp_path / "parts", **sizes)
    monkeypatch.setattr(gridworld, "write_figure1", evaluated)
    monkeypatch.setattr(gridworld, "train", interrupted)  # what was trained and played is not done again
    monkeypatch.setattr("surefoot.experiments.comparison.play", interrupted)
    again = gridworld.reproduce(tmp_path / "parts", **sizes)
    assert again["agents"] == {
        name: {
            **row,
            "seconds": again["agents"][name]["seconds"],
            "agent_seconds": again["agents"][name]["agent_seconds"],
        }
        for name, row in whole["agents"].items()
    }
    for one in (tmp_path / "whole").rglob("*.npz"):
        with np.load(one) as a, np.load(tmp_path / "parts" / one.relative_to(tmp_path / "whole")) as b:
            for name in a.files:
                np.testing.assert_array_equal(a[name], b[name])
    assert sorted(p.name for p in (tmp_path / "whole").iterdir()) == sorted(
        p.name for p in (tmp_path / "parts").iterdir()
    )
