"""Results of simulations kept in a folder as they come, so that an interrupted training goes on where it stopped.

    FOLDER/training.json     what decides the results: settings, family, policies, and a probe of what they do
    FOLDER/<digest>.npz      one task (or one policy, where tasks share their episodes); the digest is of everything that decides it

Every result is a function of what is written down, so a training that goes on gives the same policy set, bit for bit, as one that was never
interrupted. Files are written beside their place and moved there at once: a kill leaves the old state or the new one. What cannot be read is
simulated again. Nothing is executed when a file is read. Code cannot be compared, so a probe is: one short run of every policy, whose outcomes
must be the ones that they were.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.errors import InvalidInput
from surefoot.gym.values import Estimated
from surefoot.json_reading import read_object
from surefoot.kept_files import UNREADABLE, read_arrays, write_arrays, write_bytes

__all__ = ["Checkpoint"]

FORMAT = 1
ARRAYS = ("mean", "lower", "upper", "deviation")


class Checkpoint:
    """A folder of results.

    Args:
        folder: an empty or new folder, or one that the same training made.
        settings: what decides the results: plain data.

    Attributes:
        found: results that were there already and were used.

    Raises:
        InvalidInput: the folder belongs to another training, or holds something else.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        self.folder, self.found = Path(folder), 0
        self._index = self.folder / "training.json"
        wanted = json.loads(json.dumps({"format": FORMAT, **settings}))
        if self._index.exists():
            self._compare(wanted)
            return
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise InvalidInput(
                f"checkpoint must be a new or empty folder, or one that this training made, got {self.folder}, which holds something else; name "
                "another",
                code="SF-TRAINING-FOLDER",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._index, (json.dumps(wanted, indent=1) + "\n").encode())

    def _compare(self, wanted: dict[str, Any]) -> None:
        there = read_object(self._index, remedy="name another checkpoint folder")
        for name in dict.fromkeys([*wanted, *there]):
            if there.get(name) != wanted.get(name):
                raise InvalidInput(
                    f"checkpoint {self.folder} belongs to a training with {name} {_short(there.get(name))}, got {_short(wanted.get(name))}; call it "
                    "as it was called, or name another folder",
                    code="SF-TRAINING-RESUMED",
                )

    def get(self, key: dict[str, Any]) -> list[Estimated] | None:
        """The result with this key, or ``None``."""
        arrays = read_arrays(self._path(key))
        if arrays is None:
            return None
        try:
            about = json.loads(arrays["about"].tobytes())
            if about["key"] != json.loads(json.dumps(key)):
                return None
            found = [_read(arrays, k, one) for k, one in enumerate(about["policies"])]
        except UNREADABLE:
            return None
        self.found += 1
        return found

    def put(self, key: dict[str, Any], result: list[Estimated]) -> None:
        """Keep a result."""
        about = [{"episodes": r.episodes, "narrow": r.narrow, "failed": r.failed, "failure": r.failure} for r in result]
        text = json.dumps({"key": key, "policies": about}).encode()
        arrays = {f"{name}{k}": getattr(one, name) for k, one in enumerate(result) for name in ARRAYS}
        write_arrays(self._path(key), {"about": np.frombuffer(text, dtype=np.uint8), **arrays})

    def _path(self, key: dict[str, Any]) -> Path:
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def _read(arrays: Any, k: int, one: dict[str, Any]) -> Estimated:
    values = {name: np.asarray(arrays[f"{name}{k}"], dtype=np.float64) for name in ARRAYS}
    if any(
        value.ndim != 2 or value.shape != values["mean"].shape or not np.isfinite(value).all()
        for value in values.values()
    ):
        raise ValueError("arrays of another shape")
    return Estimated(
        **values, episodes=int(one["episodes"]), narrow=bool(one["narrow"]), failed=int(one["failed"]), failure=one["failure"]
    )  # fmt: skip


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
