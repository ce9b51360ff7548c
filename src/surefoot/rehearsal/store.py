"""Finished runs kept in a folder, so that an interrupted rehearsal goes on with the same result. Nothing is executed when a file is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.errors import InvalidInput
from surefoot.json_reading import read_object
from surefoot.kept_files import read_arrays, write_arrays, write_bytes

__all__ = ["RunStore"]

NAMES = ("numbers", "costs", "regrets")


class RunStore:
    """A folder of arrays.

    Args:
        folder: a new or empty folder, or one that the same rehearsal made.
        settings: what decides the results, as plain data.

    Raises:
        InvalidInput: the folder holds something else.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.folder = Path(folder)
        index = self.folder / "rehearsal.json"
        wanted = json.loads(json.dumps(settings))
        if index.exists():
            if read_object(index, remedy="name another checkpoint folder") != wanted:
                raise InvalidInput(
                    f"checkpoint {self.folder} belongs to another rehearsal, got other settings; call it as it was called, or name another folder",
                    code="SF-TRAINING-RESUMED",
                )
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise InvalidInput(
                f"checkpoint must be a new or empty folder, or one that this rehearsal made, got {self.folder}, which holds something else; name "
                "another",
                code="SF-TRAINING-FOLDER",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(index, (json.dumps(wanted) + "\n").encode())

    def get(self, key: str) -> dict[str, FloatArray] | None:
        """Arrays by name, or ``None``; what cannot be read is played again."""
        found = read_arrays(self.folder / f"{key}.npz")
        if found is None or not set(NAMES) <= set(found):
            return None
        return {name: np.asarray(found[name], dtype=np.float64) for name in NAMES}

    def put(self, key: str, **arrays: FloatArray) -> None:
        """Keep arrays; a kill leaves all of them or none."""
        write_arrays(self.folder / f"{key}.npz", arrays)
