"""The format of events: the golden journal keeps its digests for ever."""

from __future__ import annotations

import json
from pathlib import Path

from surefoot.journal.events import FORMAT, canonical, chained

GOLDEN = Path(__file__).parents[1] / "golden" / "journal-v1.jsonl"


def test_the_golden_journal_keeps_its_digests() -> None:
    """Written by format 1; whoever changes bodies or digests makes a new format and a new file."""
    lines = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
    digest = ""
    for seq, line in enumerate(lines, start=1):
        digest = chained(digest, seq, line["kind"], line["at"], canonical(line["body"]))
        assert (line["seq"], line["digest"]) == (seq, digest)
    assert lines[0]["body"]["format"] == FORMAT == 1
    assert digest == "17812636a58c4e9b0ca4372d22e1f96272538934257e02be65919979bc2399f0"
