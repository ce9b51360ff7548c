"""The progress bar: nothing unless somebody is looking and waiting, and nothing left behind."""

from __future__ import annotations

import io

import pytest

from surefoot import progress


class Screen(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def drawn(monkeypatch: pytest.MonkeyPatch, *, terminal: bool = True, seconds: float = 1.0, show: bool = True) -> str:
    """What a loop of six steps, each this long, writes."""
    screen, clock = Screen(terminal), iter(range(1000))
    monkeypatch.setattr(progress.sys, "stderr", screen)
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds * next(clock))
    assert list(progress.track(iter("abcdef"), "solving", 6, show=show)) == list("abcdef")
    return screen.getvalue()


def test_a_long_loop_draws_a_bar_and_wipes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(monkeypatch)
    frames = text.split("\r")[1:]
    assert frames[0] == "solving [" + "#" * 10 + "." * 20 + "] 2/6", "the first two seconds pass in silence"
    assert frames[3].endswith("] 5/6")
    assert len(frames[-2]) >= len(frames[3]) and frames[-2].strip() == "" and frames[-1] == ""


def test_short_loops_other_outputs_and_programs_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, seconds=0.2) == ""
    assert drawn(monkeypatch, terminal=False) == ""
    assert drawn(monkeypatch, show=False) == ""
