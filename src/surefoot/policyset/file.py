"""The policy-set file ``*.sf``: one zip archive that holds data and nothing else.

    manifest.json        everything that is no array; each array by name with dtype, shape, bytes and SHA-256
    manifest.sha256      SHA-256 of manifest.json, in the format of ``sha256sum``
    arrays/<name>.bin    raw little-endian numbers in C order

The hash ``h(set) = SHA-256(manifest)`` binds every array through its own SHA-256, so a file with one changed byte of
meaning is refused, and two equal sets have equal hashes and equal files: keys are sorted, timestamps fixed, and members
*stored*, never compressed, since compressed bytes differ between versions of zlib. Storing also means that a file can
never unpack to more than its own size. Hashes detect accidents; they are no signature, so the reader treats every byte
as hostile: sizes are compared with reality before anything is allocated, no member is unpacked to disk, and each value
passes the constructors of :mod:`surefoot.policyset.schema`. Arrays are kept raw rather than as ``.npy``, whose header
would state dtype and shape a second time in a language of its own.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import secrets
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from surefoot.errors import InvalidInput, PolicySetError
from surefoot.json_reading import parse_strictly
from surefoot.policy import TabularPolicy
from surefoot.policyset.codec import DTYPES, SCHEMA, check_keys, field_code
from surefoot.policyset.hashes import Remembered
from surefoot.policyset.schema import PolicySet, provide_files

__all__ = ["FORMAT", "SCHEMA_VERSION", "content_hash", "describe", "load", "save"]

FORMAT = "surefoot policy set"
SCHEMA_VERSION = 3
SINCE_3: dict[str, Any] = {"beliefs": {}, "rehearsed": None, "rehearsal_looks": []}
"""Fields that schema version 2 lacks, with what they are in sets that were never rehearsed: those are written as version 2."""
SINCE_2: dict[str, Any] = {"looks": [], "lineage_known": False}
"""Fields that schema version 1 lacks, with what they are where nobody kept count."""
SINCE = {2: SINCE_2, 3: SINCE_3}
MANIFEST, DIGEST = "manifest.json", "manifest.sha256"

MAX_FILE = 2**31 - 1
"""Bytes of a file: what a zip archive without 64-bit extensions addresses everywhere."""
MAX_MANIFEST = 2**24
MAX_MEMBERS = 2**16 - 2
MAX_AXES = 8

ARRAY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
LOCAL, CENTRAL, END = 30, 46, 22
"""Bytes of a zip local header, a central header and the end record, names not counted."""

DAMAGED = "the file is damaged: copy it again from its source or train again"
REBUILD = "the file was not written by surefoot: write it with PolicySet.save"

# What zipfile is known to raise on archives that only look like archives.
ARCHIVE_ERRORS = (zipfile.BadZipFile, EOFError, ValueError, struct.error, RuntimeError, OverflowError, LookupError)


# ---------------------------------------------------------------------------------------------------------- writing


def save(policy_set: PolicySet, path: str | os.PathLike[str]) -> None:
    """Write ``policy_set`` to one file, all of it or nothing; an existing file is replaced.

    Raises:
        InvalidInput: the set holds something that no file can: an unregistered kind of policy, data that is not plain.
        PolicySetError: the operating system refused; whatever was at ``path`` is still there.
    """
    target = os.path.realpath(_path(path))
    manifest, arrays = _encode(policy_set)
    _check_limits(manifest, arrays)
    try:
        _replace(target, manifest, arrays)
    except (OSError, ValueError) as error:
        raise PolicySetError(
            f"{_show(path)}: the policy set must be written to a folder that exists and is writeable, got {error}; "
            "choose another place",
            code="SF-POLICYSET-WRITE",
        ) from error


def _check_limits(manifest: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    """What is written can be read: the reader's limits, less some room for headers."""
    size = len(manifest) + sum(array.nbytes + 2 * len(name) + 256 for name, array in arrays.items())
    amounts = (("bytes", size, MAX_FILE - 4096), ("arrays", len(arrays), MAX_MEMBERS - 2))
    for name, got, limit in (*amounts, ("bytes of manifest", len(manifest), MAX_MANIFEST)):
        if got > limit:
            raise InvalidInput(
                f"a policy-set file must have at most {limit} {name}, got {got}; "
                "train with fewer cells, policies or initial states",
                code="SF-POLICYSET-SIZE",
            )


def _replace(target: str, manifest: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    """A temporary file beside ``target``, forced to the disk, then renamed: readers see the old file or the new one."""
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.sf.tmp")
    stream = open(temporary, "xb")
    try:
        with stream:
            _write_archive(stream, manifest, arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(target))


def _sync_folder(folder: str) -> None:
    """Make the new name durable too; systems that refuse have a complete file under one of the two names anyway."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_archive(stream: IO[bytes], manifest: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    with zipfile.ZipFile(stream, "w", compression=zipfile.ZIP_STORED, allowZip64=False) as archive:
        archive.writestr(_info(MANIFEST), manifest)
        archive.writestr(_info(DIGEST), _digest_line(manifest))
        for name, array in arrays.items():
            archive.writestr(_info(_member(name)), array.tobytes())


def _info(name: str) -> zipfile.ZipInfo:
    """Metadata without clock, user or system."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return info


def _encode(policy_set: PolicySet) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """Canonical manifest and the arrays it names, in the order of their names."""
    arrays: dict[str, NDArray[Any]] = {}

    def put(name: str, array: NDArray[Any]) -> str:
        if not ARRAY_NAME.fullmatch(name) or name in arrays or array.dtype.name not in DTYPES:
            raise InvalidInput(
                f"array {name!r} must have a new name of letters, digits, '_', '.', '-' and a dtype among "
                f"{', '.join(DTYPES)}, got {array.dtype}; rename or convert it",
                code="SF-POLICYSET-FIELD",
            )
        arrays[name] = np.ascontiguousarray(array, dtype=DTYPES[array.dtype.name])
        return name

    body = SCHEMA.write("", policy_set, put)
    arrays = dict(sorted(arrays.items()))
    schema = SCHEMA_VERSION
    while schema > 1 and all(body[name] == value for name, value in SINCE[schema].items()):
        # Written as it was found: a set from a file of an earlier version keeps its hash, and deployments that run on it go on.
        body = {name: value for name, value in body.items() if name not in SINCE[schema]}
        schema -= 1
    head = {"format": FORMAT, "schema": schema, "arrays": {n: _array_entry(a) for n, a in arrays.items()}}
    text = json.dumps({**head, **body}, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8"), arrays


def _array_entry(array: NDArray[Any]) -> dict[str, Any]:
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "bytes": array.nbytes, "sha256": digest}


def _member(name: str) -> str:
    return f"arrays/{name}.bin"


def _digest_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode("ascii")


def content_hash(policy_set: PolicySet) -> str:
    """SHA-256 of the canonical manifest: a function of the set alone, not of files, clocks or machines.

    Raises:
        InvalidInput: the set holds something that a file cannot.
    """
    return hashlib.sha256(_encode(policy_set)[0]).hexdigest()


# ---------------------------------------------------------------------------------------------------------- reading


def load(path: str | os.PathLike[str]) -> PolicySet:
    """The policy set in a file, every byte of which was checked.

    Raises:
        PolicySetError: missing, unreadable, damaged, truncated, hostile, or written by a later version.
    """
    try:
        with _opened(_path(path)) as stream, _archive(stream) as archive:
            return _decode(_Members(archive, stream))
    except (PolicySetError, InvalidInput) as error:
        raise PolicySetError(f"{_show(path)}: {str(error)[:1000]}", code=field_code(error)) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PolicySetError(
            f"{_show(path)}: the file must be readable, got {reason!r}; check its name and rights",
            code="SF-POLICYSET-READ",
        ) from error


def _path(path: Any) -> str:
    if not isinstance(path, str | os.PathLike):
        raise InvalidInput(
            f"path must be a string or a Path, got {type(path).__name__}; convert it with os.fsdecode",
            code="SF-POLICYSET-PATH",
        )
    text = os.fspath(path)
    try:
        valid = isinstance(text, str) and b"\0" not in os.fsencode(text)
    except UnicodeError:
        valid = False
    if not valid:
        raise InvalidInput(
            f"path must be a string that can name a file, got {text!r}; convert it with os.fsdecode",
            code="SF-POLICYSET-PATH",
        )
    return str(text)


def _show(path: Any) -> str:
    """A path for messages, whatever it is."""
    return repr(str(path))[1:-1][:300]


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """The file, if it is one: opening a pipe would wait for ever, reading a device would never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise PolicySetError(
            "must be a regular file, got a folder or a device; name the .sf file itself", code="SF-POLICYSET-FILE"
        )
    with open(path, "rb") as stream:
        yield stream


@contextmanager
def _archive(stream: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """The zip archive, opened only after its end record promised few members in a plain archive."""
    _check_end(stream)
    try:
        archive = zipfile.ZipFile(stream)
    except ARCHIVE_ERRORS as error:
        raise PolicySetError(f"must be a zip archive, got {error}; {DAMAGED}", code="SF-POLICYSET-ARCHIVE") from error
    with archive:
        yield archive


def _check_end(stream: IO[bytes]) -> None:
    """The last 22 bytes say how many members there are; ``zipfile`` would allocate them all before asking."""
    size = os.fstat(stream.fileno()).st_size
    if not END <= size <= MAX_FILE:
        what = "an empty file" if size == 0 else f"{size} bytes"
        raise PolicySetError(
            f"must be a zip archive of {END} to {MAX_FILE} bytes, got {what}; {DAMAGED}", code="SF-POLICYSET-LIMIT"
        )
    stream.seek(max(0, size - END - 20))
    tail = stream.read(END + 20)
    signature, disk, first_disk, here, total, length, start, comment = struct.unpack("<4s4H2LH", tail[-END:])
    if signature != b"PK\5\6" or disk or first_disk or here != total or comment or tail.startswith(b"PK\6\7"):
        raise PolicySetError(
            f"must end with the record of a plain zip archive, got other bytes; {DAMAGED}", code="SF-POLICYSET-END"
        )
    if total > MAX_MEMBERS or start + length + END != size:
        raise PolicySetError(
            f"must hold at most {MAX_MEMBERS} members before its end, got {total}; {DAMAGED}", code="SF-POLICYSET-LIMIT"
        )


@dataclass
class _Members:
    """Members of the archive by name; reading one checks that it is stored as plainly as it claims."""

    archive: zipfile.ZipFile
    stream: IO[bytes]
    infos: dict[str, zipfile.ZipInfo] = field(init=False)

    def __post_init__(self) -> None:
        self.infos = {}
        for info in self.archive.infolist():
            if info.filename in self.infos:
                raise PolicySetError(
                    f"must hold each member once, got {info.filename[:80]!r} twice; {REBUILD}",
                    code="SF-POLICYSET-MEMBER-TWICE",
                )
            self.infos[info.filename] = info

    def read(self, name: str, limit: int) -> bytes:
        info = self.infos.get(name)
        if info is None:
            raise PolicySetError(
                f"must hold the member {name[:240]!r}, got none; {DAMAGED}", code="SF-POLICYSET-MEMBER-MISSING"
            )
        self._check_stored(info)
        if info.file_size > limit:
            raise PolicySetError(
                f"member {name[:240]!r} must have at most {limit} bytes, got {info.file_size}; {DAMAGED}",
                code="SF-POLICYSET-LIMIT",
            )
        try:
            with self.archive.open(info) as stream:
                data = stream.read(limit + 1)
        except ARCHIVE_ERRORS as error:
            raise PolicySetError(
                f"member {name[:240]!r} must be readable, got {error}; {DAMAGED}", code="SF-POLICYSET-ARCHIVE"
            ) from error
        if len(data) != info.file_size:
            raise PolicySetError(
                f"member {name[:240]!r} must have {info.file_size} bytes, got {len(data)}; {DAMAGED}",
                code="SF-POLICYSET-LAYOUT",
            )
        return data

    @staticmethod
    def _check_stored(info: zipfile.ZipInfo) -> None:
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits:
            raise PolicySetError(
                f"member {info.filename[:240]!r} must be stored without compression or encryption, got method "
                f"{info.compress_type} and flags {info.flag_bits:#x}; {REBUILD}",
                code="SF-POLICYSET-COMPRESSED",
            )

    def check_layout(self, wanted: set[str]) -> None:
        """No member but those wanted, one directly after the other: nothing hidden between them, nothing shared."""
        extra = sorted(set(self.infos) - wanted)
        if extra:
            raise PolicySetError(
                f"must hold no member that the manifest does not name, got {extra[0][:80]!r}; {REBUILD}",
                code="SF-POLICYSET-MEMBER-EXTRA",
            )
        position = 0
        for info in sorted(self.infos.values(), key=lambda info: info.header_offset):
            self._check_stored(info)
            if info.header_offset != position:
                raise PolicySetError(f"member {info.filename[:240]!r} must start at byte {position}, got "
                                     f"{info.header_offset}; {DAMAGED}", code="SF-POLICYSET-LAYOUT")  # fmt: skip
            position += LOCAL + len(info.filename) + info.file_size
        position += sum(CENTRAL + len(name) for name in self.infos) + END
        size = os.fstat(self.stream.fileno()).st_size
        if position != size:
            raise PolicySetError(
                f"must have {position} bytes by its table of contents, got {size}; {DAMAGED}",
                code="SF-POLICYSET-LAYOUT",
            )


def _decode(members: _Members) -> PolicySet:
    manifest = members.read(MANIFEST, MAX_MANIFEST)
    if members.read(DIGEST, 256) != _digest_line(manifest):
        raise PolicySetError(
            f"{MANIFEST} must match the SHA-256 in {DIGEST}, got another; {DAMAGED}", code="SF-POLICYSET-DIGEST"
        )
    body = _parse(manifest)
    _migrate(body, _check_version(body))
    entries = body.pop("arrays", None)
    _check_entries(entries)
    members.check_layout({MANIFEST, DIGEST, *map(_member, entries)})
    shelf = _Shelf(members, entries)
    policy_set: PolicySet = SCHEMA.read("", body, shelf.take)
    if shelf.left:
        raise PolicySetError(
            f"arrays must each be used once, got {min(shelf.left)!r} unused; {REBUILD}", code="SF-POLICYSET-REFERENCE"
        )
    return policy_set


def _parse(manifest: bytes) -> dict[str, Any]:
    """The manifest as plain values: UTF-8, no key twice, no NaN or infinity however spelt, no absurd nesting."""
    try:
        body = parse_strictly(manifest.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise PolicySetError(f"{MANIFEST} must be UTF-8, got {error}; {REBUILD}", code="SF-POLICYSET-JSON") from error
    except ValueError as error:
        raise PolicySetError(f"{MANIFEST} must be JSON, got {error}; {REBUILD}", code="SF-POLICYSET-JSON") from error
    if not isinstance(body, dict):
        raise PolicySetError(
            f"{MANIFEST} must hold one object, got {type(body).__name__}; {REBUILD}", code="SF-POLICYSET-JSON"
        )
    return body


def _migrate(body: dict[str, Any], schema: int) -> None:
    """From an earlier schema version: version 1 kept no count of looks, so its hold-out is the first that is known; version 2 no rehearsals."""
    for version in range(schema + 1, SCHEMA_VERSION + 1):
        for name, value in SINCE[version].items():
            if name in body:
                raise PolicySetError(
                    f"{name} must not be in a manifest of schema {schema}, got one; {REBUILD}",
                    code="SF-POLICYSET-FORMAT",
                )
            body[name] = copy.copy(value)


def _check_version(body: dict[str, Any]) -> int:
    """The schema version, which is known. Format and schema version come first, so that a later version is told apart from a broken file."""
    name, schema = body.pop("format", None), body.pop("schema", None)
    if name != FORMAT:
        raise PolicySetError(
            f"format must be {FORMAT!r}, got {ascii(name)[:80]}; {REBUILD}", code="SF-POLICYSET-FORMAT"
        )
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise PolicySetError(
            f"schema must be a whole number >= 1, got {ascii(schema)[:80]}; {REBUILD}", code="SF-POLICYSET-FORMAT"
        )
    if schema > SCHEMA_VERSION:
        raise PolicySetError(
            f"schema must be at most {SCHEMA_VERSION}, got {ascii(schema)[:80]}: a later surefoot wrote this file; "
            "upgrade with pip install --upgrade surefoot",
            code="SF-POLICYSET-VERSION",
        )
    return schema


def _check_entries(entries: Any) -> None:
    """The table of arrays agrees with itself: names, dtypes, ``bytes = itemsize * prod(shape)`` in exact integers."""
    if not isinstance(entries, dict):
        raise PolicySetError(
            f"arrays must be an object, got {type(entries).__name__}; {REBUILD}", code="SF-POLICYSET-ARRAY"
        )
    for name, entry in entries.items():
        if not ARRAY_NAME.fullmatch(name):
            raise PolicySetError(
                f"arrays must have names of letters, digits, '_', '.', '-', got {name[:80]!r}; {REBUILD}",
                code="SF-POLICYSET-ARRAY",
            )
        check_keys(f"arrays.{name}", entry, {"dtype", "shape", "bytes", "sha256"})
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
            got = ascii(entry["dtype"])[:80] if isinstance(entry["dtype"], str) else type(entry["dtype"]).__name__
            raise PolicySetError(
                f"arrays.{name}.dtype must be among {', '.join(DTYPES)}, got {got}; {REBUILD}",
                code="SF-POLICYSET-ARRAY",
            )
        _check_shape(f"arrays.{name}", entry)


def _check_shape(path: str, entry: Mapping[str, Any]) -> None:
    shape, size = entry["shape"], np.dtype(DTYPES[entry["dtype"]]).itemsize
    plain = isinstance(shape, list) and len(shape) <= MAX_AXES and all(type(n) is int and n >= 0 for n in shape)
    if not plain:
        raise PolicySetError(
            f"{path}.shape must hold at most {MAX_AXES} whole numbers >= 0, got another; {REBUILD}",
            code="SF-POLICYSET-ARRAY",
        )
    extent = size
    for length in shape:
        # Counting empty axes as one keeps shapes such as (0, 2**62) out, which numpy cannot represent either.
        extent *= max(length, 1)
        if extent > MAX_FILE:
            raise PolicySetError(
                f"{path}.shape must describe at most {MAX_FILE} bytes, got more; {REBUILD}", code="SF-POLICYSET-ARRAY"
            )
    total = 0 if 0 in shape else extent
    if type(entry["bytes"]) is not int or entry["bytes"] != total:
        raise PolicySetError(
            f"{path}.bytes must be {total} for its shape and dtype, got another; {REBUILD}", code="SF-POLICYSET-ARRAY"
        )


class _Shelf:
    """Arrays by name, each handed out once."""

    def __init__(self, members: _Members, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self.members = members
        self.left = dict(entries)

    def take(self, path: str, name: Any, dtype: str) -> NDArray[Any]:
        if not isinstance(name, str) or name not in self.left:
            got = ascii(name)[:80] if isinstance(name, str) else type(name).__name__
            raise PolicySetError(
                f"{path} must name an array not used elsewhere, got {got}; {REBUILD}", code="SF-POLICYSET-REFERENCE"
            )
        entry = self.left.pop(name)
        if entry["dtype"] != dtype:
            raise PolicySetError(
                f"{path} must be an array of {dtype}, got {entry['dtype']}; {REBUILD}", code="SF-POLICYSET-REFERENCE"
            )
        data = self.members.read(_member(name), entry["bytes"])
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise PolicySetError(
                f"{_member(name)} must match bytes and SHA-256 in the manifest, got others; {DAMAGED}",
                code="SF-POLICYSET-DIGEST",
            )
        return np.frombuffer(data, dtype=DTYPES[dtype]).reshape(entry["shape"])


# ------------------------------------------------------------------------------------------------------- describing


def describe(policy_set: PolicySet) -> dict[str, Any]:
    """The manifest with hash, sizes and one row per cell: plain values that JSON can hold.

    Raises:
        InvalidInput: the set holds something that a file cannot.
    """
    manifest = _encode(policy_set)[0]
    body: dict[str, Any] = json.loads(manifest)
    body["hash"] = hashlib.sha256(manifest).hexdigest()
    body |= {"looks": body.get("looks", []), "lineage_known": policy_set.lineage_known, "attempt": policy_set.attempt}
    body["sizes"] = _sizes(policy_set)
    body["training"]["proved_coverage"] = policy_set.training.proved_coverage
    body["ledger"] |= {"spent": policy_set.ledger.spent, "left": policy_set.ledger.left}
    body["cells"]["rows"] = [_cell_row(policy_set, cell) for cell in range(len(policy_set.cells))]
    return body


def _sizes(policy_set: PolicySet) -> dict[str, int]:
    """Lengths of the axes that exist: of a set without a kernel there is nothing to say about supports."""
    cells = policy_set.cells
    sizes = {
        "cells": len(cells),
        "policies": len(policy_set.policies),
        "constraints": policy_set.criterion.n_constraints,
    }
    if isinstance(policy_set.safe_policy, TabularPolicy):
        sizes |= {"states": policy_set.safe_policy.n_states, "actions": policy_set.safe_policy.n_actions}
    if cells.conditional is not None:
        sizes["initial_states"] = int(cells.conditional.initial_states.size)
    if cells.signals is not None:
        sizes["signals"] = len(cells.signals.names)
    if cells.kernel is not None:
        sizes["support"] = cells.kernel.support.shape[0]
    if cells.outside is not None:
        sizes["outside"] = cells.outside.parameters.shape[0]
    return sizes


def _cell_row(policy_set: PolicySet, cell: int) -> dict[str, Any]:
    """What one cell says about the policy trained for it."""
    cells, seen = policy_set.cells, policy_set.cells.predictions
    policy = int(cells.policy_index[cell])
    return {
        "policy": policy,
        "parameters": cells.parameters[cell].tolist(),
        "optimal_center": float(cells.optimal_center[cell]),
        "optimal_upper": float(cells.optimal_upper[cell]),
        "reward": [float(seen.reward_lower[cell, policy]), float(seen.reward_upper[cell, policy])],
        "costs": np.stack([seen.cost_lower[cell, policy], seen.cost_upper[cell, policy]], axis=-1).tolist(),
    }


provide_files(content_hash=Remembered(content_hash), save=save, load=load)
