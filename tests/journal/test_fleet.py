"""Many plants in one database: each a deployment of its own, looked at together, and what they teach the next one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surefoot import Deployment, Fleet, PolicySet, SettingsMismatch
from surefoot.report.fleet import fleet_page
from tests.cli.running import run
from tests.journal.plants import Plant, drive, open_plant, small_set
from tests.refusals import refused


@pytest.fixture
def placed(tiny_set: PolicySet) -> PolicySet:
    """Its three cells lie at .1, .2 and .3."""
    return replace(tiny_set, cells=replace(tiny_set.cells, parameters=np.array([[0.1], [0.2], [0.3]])))


class Line:
    """Tasks between 0 and .4."""

    name, parameter_names, support = "plant", ("rate",), np.array([[0.0, 0.4]])

    def sample(self, n: int, rng: np.random.Generator) -> Any:
        return rng.uniform(0.0, 0.4, (n, 1))


def test_every_plant_is_a_deployment_of_its_own(disk: Path, placed: PolicySet, truth: Plant) -> None:
    url = disk / "plants.db"
    with Fleet.open(url, placed, trust="data", ramp=0) as fleet:
        assert fleet.names == ()
        first, second = fleet.plant("north"), fleet.plant("south", delta=0.01)
        assert fleet.plant("north") is first
        drive(first, truth, 30)
        assert fleet.names == ("north", "south")
        found = fleet.status()
        assert (found["north"].episodes, found["south"].episodes) == (30, 0)
        assert (found["north"].delta, found["south"].delta) == (0.05, 0.01)
        opened = [next(iter(plant.events())).body["settings"] for plant in (first, second)]
        assert opened[0]["seed"] != opened[1]["seed"], "plants draw independently"
        assert all(plant.verify().ok for plant in (first, second))
    with Deployment.open(url, name="north", create=False) as plant:
        assert plant.status().episodes == 30
    with Fleet.open(url) as again:  # the database knows whose plants they are
        assert again.names == ("north", "south") and again.plant("south").status().delta == 0.01


def test_plants_with_other_policy_sets_are_none_of_the_fleet(disk: Path, placed: PolicySet) -> None:
    url, other = disk / "plants.db", small_set(states=True)
    open_plant(url, other, name="stranger").close()
    with Fleet.open(url, placed) as fleet:
        fleet.plant("mine")
        assert fleet.names == ("mine",)
        with pytest.raises(SettingsMismatch):
            fleet.plant("stranger")
    with refused("SF-ARGUMENT-MISSING", "policy_set", "2"):
        Fleet.open(url)
    with refused("SF-ARGUMENT-MISSING", "policy_set", "0"):
        Fleet.open(disk / "none.db")


def test_what_plants_reported_makes_their_tasks_likelier(disk: Path, placed: PolicySet) -> None:
    with Fleet.open(disk / "plants.db", placed, trust="data", ramp=0) as fleet:
        with refused("SF-ARGUMENT-MISMATCH", "plants", "none"):
            fleet.prior(Line())
        for name in ("one", "two"):
            drive(fleet.plant(name), Plant(placed, seed=len(name)), 150)
        fleet.plant("idle")
        # The truth is the last cell; whoever reported nothing knows nothing.
        assert fleet.learned("one")[2] > 0.9
        np.testing.assert_allclose(fleet.learned("idle"), 1.0 / 3.0)
        for plants in (
            ["one"],
            ["one", "two"],
            None,
        ):  # without the prior 3/8 of the tasks are nearest to the last cell
            taught = np.mean([fleet.learned(name)[2] for name in plants or fleet.names])
            drawn = fleet.prior(Line(), plants=plants, share=0.8).sample(6000, np.random.default_rng(0))
            assert (drawn > 0.25).mean() == pytest.approx(0.2 * 0.375 + 0.8 * taught, abs=0.03)
        wrong = Line()
        wrong.name = "lines"  # type: ignore[misc]
        with refused("SF-ARGUMENT-MISMATCH", "family", "lines"):
            fleet.prior(wrong)


def test_reports_that_are_not_finite_teach_nothing(disk: Path, placed: PolicySet) -> None:
    with Fleet.open(disk / "plants.db", placed, trust="data", ramp=0) as fleet:
        plant = fleet.plant("one")
        drive(plant, Plant(placed), 60)
        before = fleet.learned("one")
        plant.lost([plant.ask().id])
        np.testing.assert_array_equal(fleet.learned("one"), before)


def test_the_command_prints_and_writes_what_there_is(
    disk: Path, placed: PolicySet, truth: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    url = disk / "plants.db"
    with Fleet.open(url, placed, trust="data", ramp=0) as fleet:
        drive(fleet.plant("north"), truth, 12)
        fleet.plant("<b>south</b>")
    page = disk / "fleet.html"
    said = run(["deploy", "fleet", str(url), "--page", str(page)], capsys)
    assert said.status == 0 and "north" in said.out and "12" in said.out
    text = page.read_text()
    assert "&lt;b&gt;south&lt;/b&gt;" in text and "<b>south" not in text and "<script" not in text
    assert "at least 0.9" in text
    data = json.loads(run(["deploy", "fleet", str(url), "--json"], capsys).out)
    assert [plant["name"] for plant in data["plants"]] == ["<b>south</b>", "north"]
    assert fleet_page(data) == text
    missing = run(["deploy", "fleet", str(disk / "none.db")], capsys)
    assert missing.status == 2 and "policy_set" in missing.err


def test_the_page_of_something_else_is_refused() -> None:
    for data in ({}, {"plants": [{}], "family": "f", "policy_set": "p"}, {"plants": 3}):
        with refused("SF-ARGUMENT-TYPE", "fleet"):
            fleet_page(data)
