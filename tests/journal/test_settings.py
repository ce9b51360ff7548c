"""Settings: what is recorded reads back, and nothing senseless is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from surefoot import InvalidInput
from surefoot.journal import Settings
from tests.refusals import refused


def test_they_read_back() -> None:
    settings = Settings.given(trust="data", delta=0.01, seed=np.int64(3), cost_ceilings=np.array([4, 5]), approve=True)
    body = json.loads(json.dumps({"settings": settings.as_dict()}))
    assert Settings.recorded(body) == settings
    settings.agree(trust="data", delta=0.01, seed=3, cost_ceilings=[4.0, 5.0], margin=None)
    with refused("SF-SETTINGS-CHANGED", "cost_ceilings"):
        settings.agree(cost_ceilings=[4.0])


@pytest.mark.parametrize(
    "body",
    [{}, {"settings": None}, {"settings": {}}, {"settings": {**Settings().as_dict(), "more": 1}}]
    + [
        {"settings": {**Settings().as_dict(), **part}}
        for part in (
            {"delta": "x"},
            {"seed": -1},
            {"approve": 1},
            {"cost_ceilings": "x"},
            {"cost_ceilings": [[1.0], [1.0, 2.0]]},
        )
    ],
)
def test_a_journal_with_other_settings_is_refused(body: dict[str, Any]) -> None:
    with refused("SF-JOURNAL-SETTINGS", "1"):
        Settings.recorded(body)


@pytest.mark.parametrize(
    "part", [{"delta": 2}, {"p_max": float("nan")}, {"seed": 1.5}, {"approve": "yes"}, {"margin": "x"}]
)
def test_what_is_senseless_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Settings.given(**part)


def test_without_the_database_library_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "import surefoot\n"
        "try:\n    surefoot.Deployment\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        done.stdout
        == 'MissingExtra sqlalchemy is not installed; it comes with an extra: pip install "surefoot[serve]"\n'
    )
