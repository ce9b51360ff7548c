"""Presets: what an argument means, and that the committed multipliers are what the rule chose."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from surefoot.baselines.presets import Choice, choose, multiplier, parse
from surefoot.experiments.calibrate import choose_multiplier
from tests.refusals import refused

TABLE = json.loads(files("surefoot.baselines").joinpath("calibrated.json").read_text(encoding="utf-8"))
ENTRIES = [(family, agent, entry) for family, agents in TABLE["families"].items() for agent, entry in agents.items()]


@pytest.mark.parametrize(
    ("argument", "choice"),
    [
        ("", Choice("theory")),
        ("theory", Choice("theory")),
        ("published", Choice("published")),
        ("calibrated=1e-3", Choice("calibrated", 1e-3)),
        ("calibrated=2", Choice("calibrated", 2.0)),
        ("calibrated", None),
    ],
)
def test_an_argument_names_a_preset(argument: str, choice: Choice | None) -> None:
    assert parse("dope", argument, ("theory", "calibrated", "published")) == choice


@pytest.mark.parametrize(
    ("argument", "refusal"),
    [
        ("tuned", ("SF-ARGUMENT-CHOICE", "preset of dope", "theory, calibrated, calibrated=NUMBER", "'tuned'")),
        ("published", ("SF-ARGUMENT-CHOICE", "preset of dope", "theory, calibrated", "'published'")),
        ("theory=1", ("SF-ARGUMENT-CHOICE", "preset of dope", "'theory=1'")),
        ("calibrated=", ("SF-ARGUMENT-RANGE", "multiplier of dope", "0", "''")),
        ("calibrated=0", ("SF-ARGUMENT-RANGE", "multiplier of dope", "0", "'0'")),
        ("calibrated=-1", ("SF-ARGUMENT-RANGE", "multiplier of dope", "0", "'-1'")),
        ("calibrated=nan", ("SF-ARGUMENT-RANGE", "multiplier of dope", "0", "'nan'")),
        ("calibrated=inf", ("SF-ARGUMENT-RANGE", "multiplier of dope", "0", "'inf'")),
        ("calibrated=low", ("SF-ARGUMENT-RANGE", "multiplier of dope", "0", "'low'")),
    ],
)
def test_other_arguments_are_refused(argument: str, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        parse("dope", argument)


def test_a_family_without_a_multiplier_names_the_command() -> None:
    with refused("SF-AGENT-UNCALIBRATED", "1e-3"):
        choose("dope", "calibrated", "a family of my own")
    assert choose("dope", "calibrated=0.5", "a family of my own") == Choice("calibrated", 0.5)
    assert choose("dope", "theory", "a family of my own") == Choice("theory")


def test_notes_say_what_is_outside_the_proof() -> None:
    assert Choice("theory").notes == Choice("published").notes == ()
    assert Choice("calibrated", 1e-3).notes == (
        "all confidence radii are multiplied by 0.001, which is outside the proof",
    )
    assert Choice("calibrated", 1.0).notes == ("the multiplier is 1: calibrated is theory here",)


@pytest.mark.parametrize("agent", ["optpess-lp", "dope", "dope-plus"])
def test_the_gridworld_has_multipliers(agent: str) -> None:
    entry = TABLE["families"]["gridworld (truncated)"][agent]
    assert multiplier("gridworld (truncated)", agent) == entry["multiplier"]
    assert choose(agent, "calibrated", "gridworld (truncated)") == Choice("calibrated", entry["multiplier"])


@pytest.mark.parametrize(("family", "agent", "entry"), ENTRIES, ids=[f"{f}: {a}" for f, a, _ in ENTRIES])
def test_committed_multipliers_are_what_the_rule_chose(family: str, agent: str, entry: dict) -> None:
    assert entry["multiplier"] == choose_multiplier(entry["table"])
    assert [row["multiplier"] for row in entry["table"]] == entry["settings"]["multipliers"]
    runs = {len(row[key]) for row in entry["table"] for key in ("regret", "violating_episodes", "largest_excess")}
    assert runs == {entry["settings"]["tasks"]} == {len(entry["training_tasks"])}


@pytest.mark.parametrize("family", sorted(TABLE["families"]))
def test_every_method_had_the_same_budget(family: str) -> None:
    settings = [entry["settings"] for entry in TABLE["families"][family].values()]
    tasks = [entry["training_tasks"] for entry in TABLE["families"][family].values()]
    assert all(s == settings[0] for s in settings) and all(t == tasks[0] for t in tasks)
