"""Tables in plain text: columns as wide as their widest entry, two spaces between them.

Every table that a command prints is made here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["text_table"]

GAP = "  "


def text_table(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,), rule: bool = False) -> list[str]:
    """The rows as lines of text, without spaces at their ends.

    Args:
        rows: of equally many entries; the first one holds the titles.
        left: columns that begin where their titles begin; others end where their titles end, as numbers should.
        rule: draw a line under the titles.

    Raises:
        ValueError: rows of different lengths.

    >>> for line in text_table([["agent", "regret"], ["safe", "95"], ["pce", "-13"]]):
    ...     print(line)
    agent  regret
    safe       95
    pce       -13
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [GAP.join(_entry(text, widths[k], k in left) for k, text in enumerate(row)).rstrip() for row in rows]
    if rule:
        lines.insert(1, "-" * (sum(widths) + len(GAP) * (len(widths) - 1)))
    return lines


def _entry(text: str, width: int, left: bool) -> str:
    return text.ljust(width) if left else text.rjust(width)
