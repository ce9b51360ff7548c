"""``/metrics``: read by a parser of its own; the numbers against the status and a recount; who may read; work that does not grow."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

import surefoot as sf
from surefoot.criterion import CVaR, Exceeds
from surefoot.deploy.report import Report
from surefoot.journal import transaction
from surefoot.journal.tally import Tally
from surefoot.service import Token, make_app
from surefoot.service.metrics import CONTENT_TYPE, exposition
from tests.journal.plants import Plant, drive, open_plant, small_set
from tests.service.client import call
from tests.service.described import Described

SET = small_set()
LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\} (\S+)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Found = dict[str, dict[frozenset[tuple[str, str]], float]]


def parsed(text: str) -> Found:
    """Samples by name and labels. Strict: help and type once, before a family's samples; families together; no sample twice."""
    found: Found = {}
    helped, typed, current = set[str](), dict[str, str](), ""
    assert text.endswith("\n") and "\r" not in text
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert name not in helped and line.split(" ", 3)[3]
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helped and name not in typed and kind in ("counter", "gauge")
            assert (kind == "counter") is name.endswith("_total")
            typed[name] = kind
            current = name
        else:
            whole = LINE.fullmatch(line)
            assert whole is not None, line
            name, labels, value = whole.groups()
            assert name == current, line
            pairs = [(key, re.sub(r'\\["\\n]', lambda m: ESCAPES[m[0]], raw)) for key, raw in LABEL.findall(labels)]
            assert len({key for key, _ in pairs}) == len(pairs)
            samples = found.setdefault(name, {})
            assert frozenset(pairs) not in samples
            samples[frozenset(pairs)] = float(value)
            assert typed[name] != "counter" or float(value) >= 0.0
    return found


def value(found: Found, name: str, deployment: str = "default", **labels: str) -> float:
    return found[f"surefoot_{name}"][frozenset({"deployment": deployment, **labels}.items())]


def scrape(app: Any, **headers: str) -> Found:
    answer = call(app, "GET", "/metrics", **headers)
    assert (answer.status, answer.headers["content-type"]) == (200, CONTENT_TYPE)
    return parsed(answer.body.decode("utf-8"))


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[sf.Deployment]:
    with open_plant(tmp_path / "plant.db", SET, ramp=5) as deployment:
        yield deployment


def test_the_numbers_are_those_of_the_journal(plant: sf.Deployment) -> None:
    now = [0.0]
    app = make_app(plant, wall=lambda: now[0])
    began = datetime.fromisoformat(next(plant.events()).at).timestamp()
    now[0] = began + 7.0
    found = scrape(app)
    assert value(found, "seconds_since_last_report") == pytest.approx(7.0, abs=1e-3)
    assert "surefoot_mean_return" not in found and "surefoot_mean_cost" not in found
    assert value(found, "stage", stage="comparing") == 1.0
    drive(plant, Plant(SET), 100)
    plant.lost(plant.ask(3).ids[:1])
    plant.cap(0.25)
    told = [event for event in plant.events() if event.kind == "told"]
    now[0] = datetime.fromisoformat(told[-1].at).timestamp() + 90.0
    found, status = scrape(app), plant.status()
    assert value(found, "seconds_since_last_report") == pytest.approx(90.0, abs=1e-3)
    assert [value(found, name) for name in ("episodes_total", "reported_total", "lost_total", "pending")] == [
        103,
        100,
        1,
        2,
    ]
    assert value(found, "mean_return") == pytest.approx(np.mean([x for e in told for x in e.body["reward"]]))
    costs = [x for e in told for x in e.body["costs"]]
    assert value(found, "mean_cost", constraint="cost") == pytest.approx(np.mean(costs))
    assert value(found, "certified_cost", constraint="cost") == status.certified_costs["cost"]
    assert value(found, "cost_limit", constraint="cost") == 1.0 and value(found, "certified") == 1.0
    assert value(found, "weight_off_safe_policy") == pytest.approx(1.0 - status.weights[0]) == pytest.approx(0.25)
    assert value(found, "exposure_cap") == 0.25 and value(found, "cells_left") == status.cells_left
    assert {dict(k)["stage"]: v for k, v in found["surefoot_stage"].items()} == {
        "comparing": 0, "ramping": 0, "learned": 1, "drifted": 0, "stopped": 0,
    }  # fmt: skip
    assert [value(found, "alarm"), value(found, "state", state="running"), value(found, "hook_failures_total")] == [
        0,
        1,
        0,
    ]
    now[0] = began - 1000.0  # a clock that went backwards
    assert value(scrape(app), "seconds_since_last_report") == 0.0


def test_an_alarm_stays_one_after_an_abort_and_hooks_that_fail_are_counted(plant: sf.Deployment) -> None:
    def broken(notice: Any) -> None:
        raise ValueError("broken")

    plant.subscribe(broken)
    app = make_app(plant)
    plant.tell(plant.ask().id, 2.0, [4.5])
    plant.abort("enough")
    found = scrape(app)
    assert [value(found, "alarm"), value(found, "state", state="aborted"), value(found, "stage", stage="stopped")] == [
        1,
        1,
        1,
    ]
    assert value(found, "certified") == 0.0 and value(found, "weight_off_safe_policy") == 0.0
    assert value(found, "hook_failures_total") == len(plant.notices()) == 3


def test_means_survive_reopening_and_snapshots(tmp_path: Path) -> None:
    statuses = []
    for _ in range(3):
        with open_plant(tmp_path / "plant.db", SET) as plant:
            drive(plant, Plant(SET), 10)
            statuses.append(plant.status())
    assert [status.reported for status in statuses] == [10, 20, 30]
    with open_plant(tmp_path / "plant.db", SET) as plant:
        assert plant.status() == statuses[-1]
        assert statuses[-1].last_report == [event.at for event in plant.events() if event.kind == "told"][-1]


def test_what_is_limited_is_what_is_averaged() -> None:
    """Against the definitions, where limits are on more than means."""
    criterion = sf.Criterion(
        discount=0.9, cost_limits=[Exceeds(5.0, at_most=0.1), CVaR(0.1, at_most=8.0, threshold=4.0)], cost_bounds=(10.0,), reward_bounds=(0.0, 1.0)
    )  # fmt: skip
    tally, costs = Tally(criterion), np.array([[1.0], [6.0], [9.0], [4.0]])
    assert tally.mean_return is None and set(tally.mean_costs.values()) == {None}
    tally.report(Report.of(np.arange(4), [1.0, 2.0, 3.0, 4.0], costs, None, None, None, 1))
    assert tally.mean_return == 2.5
    assert list(tally.mean_costs.values()) == pytest.approx([0.5, np.mean(4.0 + np.maximum(costs - 4.0, 0.0) / 0.1)])


def test_names_with_anything_in_them_are_escaped(tmp_path: Path) -> None:
    with open_plant(tmp_path / "plant.db", SET) as plant:
        status = plant.status()
    name, cost = 'a "quoted" \\ back\\nslash {x="1"} 1\u20ac', 'wear, "cost"\\'
    found = parsed(
        exposition(replace(status, name=name, cost_limits={cost: 1e300, "b\nc": math.inf}, mean_return=-0.1), 0.0)
    )
    assert value(found, "cost_limit", name, constraint=cost) == 1e300
    assert value(found, "cost_limit", name, constraint="b\nc") == math.inf
    assert value(found, "mean_return", name) == -0.1 and value(found, "pending", name) == 0.0


def test_a_degraded_deployment_has_no_samples_of_what_is_not_known(tmp_path: Path) -> None:
    with open_plant(tmp_path / "plant.db", SET) as plant:
        status = plant.status()
    unknown = {"alarm": None, "reported": None, "lost": None, "mean_return": None, "mean_costs": {}, "last_report": ""}
    found = parsed(exposition(replace(status, degraded="event 4", state="degraded", stage="stopped", **unknown), 0.0))
    for name in ("alarm", "reported_total", "mean_return", "mean_cost", "seconds_since_last_report", "cells_left"):
        assert f"surefoot_{name}" not in found
    assert value(found, "state", state="degraded") == value(found, "stage", stage="stopped") == 1.0


def test_whoever_may_read_everything_may_read_it(plant: sf.Deployment) -> None:
    tokens = [
        Token(f"{role}-token-of-thirty-two-letters", role, role) for role in ("owner", "robot", "operator", "reader")
    ]
    app = make_app(plant, tokens)
    for token in tokens:
        status = call(app, "GET", "/metrics", authorization=f"Bearer {token.text}").status
        assert status == (403 if token.role == "robot" else 200), token.role
    assert call(app, "GET", "/metrics").status == 401
    assert call(app, "POST", "/metrics", {}, authorization=f"Bearer {tokens[0].text}").status == 405


def test_it_is_described(plant: sf.Deployment) -> None:
    app = make_app(plant)
    described = Described(call(app, "GET", "/openapi.json").json)
    described.check("GET", "/metrics", call(app, "GET", "/metrics"))
    _, operation = described.operation("GET", "/metrics")
    assert "Prometheus" in operation["summary"]


def test_a_scrape_reads_no_more_of_a_long_journal(plant: sf.Deployment) -> None:
    """As many statements, and as many rows, after a hundred episodes as after ten."""
    app = make_app(plant)

    def work() -> tuple[int, int]:
        statements, rows = 0, 0

        def ran(connection: Any, cursor: Any, *rest: Any) -> None:
            nonlocal statements
            statements += 1

        scrape(app)  # what happened since is read once
        read = transaction.read_rows

        def counted(found: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal rows
            listed = list(found)
            rows += len(listed)
            return read(listed, *arguments, **options)

        sa.event.listen(sa.Engine, "before_cursor_execute", ran)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(transaction, "read_rows", counted)
                scrape(app)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", ran)
        return statements, rows

    drive(plant, Plant(SET), 10)
    few = work()
    drive(plant, Plant(SET), 90)
    assert work() == few and few[1] == 0
