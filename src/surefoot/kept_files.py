"""Files of results that may be interrupted at any moment: all of a file is there, or none of it."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNREADABLE", "read_arrays", "write_arrays", "write_bytes"]

UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, EOFError, RuntimeError, OverflowError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What reading a file raises that is damaged, cut short or something else."""


def write_bytes(path: Path, data: bytes) -> None:
    """Put a file there at once; one that is there is replaced."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """The same for arrays of numbers, by name."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """What :func:`write_arrays` wrote, or ``None`` where nothing is there that can be read. Nothing is executed."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except UNREADABLE:
        return None
