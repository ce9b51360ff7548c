"""The tidy tables of experiments as one data frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import pandas

__all__ = ["load"]

NAME = "results.csv"


def load(path: str | Path) -> pandas.DataFrame:
    """Every ``results.csv`` in a folder and in the folders inside it, one row per agent, task and checkpoint.

    Columns are those of docs/experiments.md, and ``folder``, where a row comes from. Parameters that a family does not have are missing values.
    What is loaded is an ordinary data frame: ``load(path).to_parquet(file)`` writes it elsewhere.

    Args:
        path: folder of one run, or of several.

    Raises:
        MissingExtra: pandas is not installed.
        InvalidInput: no such table there, or one that cannot be read.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("pandas", "data") from error
    folder = Path(path)
    # A run that is not finished has no table yet.
    found = sorted(folder.rglob(NAME))
    if not found:
        raise InvalidInput(
            f"path must be a folder of a finished run, got {folder}, which holds no {NAME}; run an experiment with --out there",
            code="SF-RECORD-MISSING",
        )
    frames = []
    for file in found:
        try:
            frame = pandas.read_csv(file)
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"path must hold tables, got {file}: {error}; run the experiment again", code="SF-RECORD-UNREADABLE"
            ) from error
        frame.insert(0, "folder", str(file.parent.relative_to(folder)))
        frames.append(frame)
    return pandas.concat(frames, ignore_index=True)
