"""Tokens: where they may come from, and that nothing but the token matches."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import surefoot as sf
from surefoot.service.token import VARIABLE, matches, read_token

GOOD = "0123456789abcdefghij"


def file_with(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setenv(VARIABLE, GOOD[::-1])
    assert read_token(file_with(tmp_path, GOOD + ending)) == GOOD
    assert read_token() == GOOD[::-1]
    monkeypatch.delenv(VARIABLE)
    assert read_token() is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o601])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(sf.InvalidInput, match=r"token file must be closed to others, got mode 6.* run: chmod 600"):
        read_token(file_with(tmp_path, GOOD, mode))


@pytest.mark.parametrize("text", ["", "short", GOOD + " x", GOOD + "\nx", GOOD + "\u00e9", GOOD + "\x7f", "x" * 5000])
def test_what_no_header_can_carry_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(sf.InvalidInput, match="must be 16 to 4096 printable ASCII characters") as error:
        read_token(file_with(tmp_path, text))
    assert GOOD not in str(error.value)


def test_a_token_in_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(sf.InvalidInput, match=f"the token in {VARIABLE} must be"):
        read_token()


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(sf.InvalidInput, match="token file must be readable"):
        read_token(tmp_path / "nowhere")


@given(header=st.none() | st.binary(max_size=60))
def test_no_other_header_matches(header: bytes | None) -> None:
    assert not matches(GOOD, header)


def test_the_token_matches() -> None:
    assert matches(GOOD, f"Bearer {GOOD}".encode())
    assert matches(GOOD, f"bearer  {GOOD} ".encode())
    assert not matches(GOOD, f"Bearer {GOOD}x".encode())
    assert not matches(GOOD, GOOD.encode())
