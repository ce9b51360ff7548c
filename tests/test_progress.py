"""Progress: nothing unless somebody waits, a bar on a terminal that leaves nothing behind, few lines elsewhere."""

from __future__ import annotations

import io

import pytest
import tqdm.std

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
    screen, now = Screen(terminal), [100.0]

    def slowly() -> object:
        for letter in "abcdef":
            yield letter
            now[0] += seconds

    monkeypatch.setattr(progress.sys, "stderr", screen)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    assert list(progress.track(slowly(), "solving", 6, show=show)) == list("abcdef")
    return screen.getvalue()


def test_a_long_loop_draws_a_bar_and_wipes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(monkeypatch)
    frames = [frame for frame in text.split("\r") if frame.strip()]
    assert frames and all(frame.startswith("solving: ") for frame in frames)
    assert not any(f" {done}/6 " in frame for done in (0, 1) for frame in frames), "two seconds pass in silence"
    assert any(" 3/6 " in frame for frame in frames) and "\n" not in text
    assert text.endswith("\r") and not text.split("\r")[-2].strip(), "the last frame is wiped"


def test_without_a_terminal_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(monkeypatch, terminal=False, seconds=4.0).splitlines()
    assert len(lines) == 1 and lines[0].startswith("solving: ") and " 3/6 " in lines[0]
    lines = drawn(monkeypatch, terminal=False, seconds=10.0).splitlines()
    assert [f" {k}/6 " in line for k, line in enumerate(lines, 1)] == [True] * 5


def test_short_loops_and_programs_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        assert drawn(monkeypatch, seconds=0.2, terminal=terminal) == ""
        assert drawn(monkeypatch, seconds=20.0, terminal=terminal, show=False) == ""
