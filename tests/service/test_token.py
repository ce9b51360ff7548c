"""Tokens: where they may come from, and that nothing but the token matches."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import surefoot as sf
from surefoot.service.token import VARIABLE, Token, bearer, read_tokens
from tests.refusals import refused

GOOD = "0123456789abcdefghij"
ALL = (Token(GOOD), Token("k" * 30, "operator", "anna"))


def file_with(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setenv(VARIABLE, GOOD[::-1])
    assert read_tokens(file_with(tmp_path, GOOD + ending)) == (Token(GOOD),)
    assert read_tokens() == (Token(GOOD[::-1]),)
    monkeypatch.delenv(VARIABLE)
    assert read_tokens() == ()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o601])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with refused("SF-SERVICE-TOKEN-RIGHTS", "token file", f"mode {mode:o}", "chmod 600"):
        read_tokens(file_with(tmp_path, GOOD, mode))


@pytest.mark.parametrize("text", ["", "short", GOOD + " x", GOOD + "\nx", GOOD + "\u00e9", GOOD + "\x7f", "x" * 5000])
def test_what_no_header_can_carry_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(sf.InvalidInput) as error:
        read_tokens(file_with(tmp_path, text))
    assert error.value.code in ("SF-SERVICE-TOKEN", "SF-SERVICE-TOKEN-LINE")
    assert GOOD not in str(error.value)


def test_a_token_in_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with refused("SF-SERVICE-TOKEN", f"the token in {VARIABLE}"):
        read_tokens()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with refused("SF-SERVICE-TOKEN-READ", "file"):
        read_tokens(tmp_path / "nowhere")


@given(header=st.none() | st.binary(max_size=60))
def test_no_other_header_matches(header: bytes | None) -> None:
    assert bearer(ALL, header) is None


def test_a_token_names_its_bearer_and_nothing_else_does() -> None:
    for token in ALL:
        assert bearer(ALL, f"Bearer {token.text}".encode()) is token
        assert bearer(ALL, f"bearer  {token.text} ".encode()) is token
        assert bearer(ALL, f"Bearer {token.text}x".encode()) is None
        assert bearer(ALL, token.text.encode()) is None
    assert bearer((), b"Bearer ") is None
    assert [token.by for token in ALL] == [None, "operator anna"]


def test_a_file_may_hold_a_line_for_each_bearer(tmp_path: Path) -> None:
    text = f"# shift of march\nrobot line-3 {GOOD}\n\noperator anna {GOOD[::-1]}\n"
    found = read_tokens(file_with(tmp_path, text))
    assert found == (Token(GOOD, "robot", "line-3"), Token(GOOD[::-1], "operator", "anna"))
    assert GOOD not in repr(found)
    assert read_tokens(file_with(tmp_path, f"reader wall {GOOD}")) == (Token(GOOD, "reader", "wall"),)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (f"robot a {GOOD}\nking b {GOOD[::-1]}", ("SF-SERVICE-TOKEN-LINE", "line 2")),
        (f"robot a {GOOD}\n{GOOD[::-1]}", ("SF-SERVICE-TOKEN-LINE", "line 2")),
        (f"robot a {GOOD}\noperator b {GOOD}", ("SF-ARGUMENT-DISTINCT", "token")),
        (f"robot a {GOOD}\noperator a {GOOD[::-1]}", ("SF-ARGUMENT-DISTINCT", "name")),
        (f"robot {'a' * 41} {GOOD}", ("SF-SERVICE-TOKEN-LINE", "name", "line 1")),
        (f"robot a short\nrobot b {GOOD}", ("SF-SERVICE-TOKEN", "token", "line 1", "16", "4096")),
    ],
)
def test_a_line_that_says_something_else_is_refused(tmp_path: Path, text: str, refusal: tuple[str, ...]) -> None:
    with refused(*refusal) as error:
        read_tokens(file_with(tmp_path, text))
    assert GOOD not in str(error.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token", 0o600)
    with refused("SF-SERVICE-TOKEN-FILE", "file"):
        read_tokens(tmp_path / "token")


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file_with(tmp_path, GOOD)
    monkeypatch.setattr(
        os, "fstat", lambda descriptor: os.stat_result((stat.S_IFREG | 0o600, 0, 0, 1, 4711, 0, 20, 0, 0, 0))
    )
    with refused("SF-SERVICE-TOKEN-RIGHTS", "file", "user 4711"):
        read_tokens(path)
