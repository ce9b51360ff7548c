"""The policy-set file: round trips, damage, hostility, and the golden file of every version."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surefoot.criterion import Criterion
from surefoot.errors import PolicySetError
from surefoot.policy import TabularPolicy
from surefoot.policyset import file as policy_file
from surefoot.policyset.file import content_hash, describe, load, save
from surefoot.policyset.schema import (
    AssumptionReport,
    Cells,
    Certificate,
    ConditionalPredictions,
    EpisodeBounds,
    KernelBoxes,
    Look,
    OutsideTasks,
    PolicySet,
    Predictions,
    SignalPredictions,
    TrainingReport,
)
from surefoot.stats.ledger import Ledger
from tests.refusals import refused
from tests.strategies import policy_sets, random_policy_set

GOLDEN = Path(__file__).parents[1] / "golden" / "policyset-v1.sf"
GOLDEN_2 = GOLDEN.with_name("policyset-v2.sf")
GOLDEN_HASH = "fa5961078476ab621e70ad98467048f250c8c9809dec463e14f115587acdd4e3"
GOLDEN_HASH_2 = "fd837e0a18941644a9fb92574b711870985e910a273db77b6c48d38335b3ae81"
Members = list[tuple[str, bytes]]
LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


def same(first: Any, second: Any) -> bool:
    """Equality to the bit, by walking the objects; knows nothing of the file."""
    if is_dataclass(first):
        return type(first) is type(second) and all(
            same(getattr(first, f.name), getattr(second, f.name)) for f in fields(first)
        )
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return type(first) is type(second) and repr(first) == repr(second)


def golden_set() -> PolicySet:
    """Every optional part present, every number a short decimal: what ``policyset-v1.sf`` must hold for ever."""
    centers = np.array([[1.0, 2.0], [1.25, 3.0]])
    costs = np.array([[[0.5], [1.0]], [[0.25], [1.5]]])
    given_start = np.stack([centers, centers + 0.5], axis=-1)
    cost_start = np.stack([costs, costs + 0.5], axis=-1)
    kernel = np.array([[0.25, 0.75, 1.0, 1.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0, 0.125, 0.875]])
    cells = Cells(
        policy_index=[0, 1],
        optimal_center=[1.0, 3.0],
        optimal_upper=[1.5, 3.5],
        parameters=[[0.1], [0.3]],
        predictions=Predictions(centers - 0.5, centers + 0.5, costs - 0.25, costs + 0.25, centers, costs),
        conditional=ConditionalPredictions(
            [0, 1], given_start - 0.25, given_start + 0.25, cost_start, cost_start + 0.125
        ),
        signals=SignalPredictions(("steps",), [[0.0, 100.0]], np.full((2, 2, 1), 10.0), np.full((2, 2, 1), 20.0)),
        kernel=KernelBoxes(
            support=[[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]],
            lower=np.maximum(kernel - 0.125, 0.0),
            upper=np.minimum(kernel + 0.125, 1.0),
            center=kernel,
        ),
        outside=OutsideTasks(
            parameters=[[0.5]],
            reward=[[0.5, 4.0]],
            cost=[[[1.0], [2.0]]],
            reward_by_state=[[[0.5, 0.75], [4.0, 4.25]]],
            cost_by_state=[[[[1.0, 1.25]], [[2.0, 2.25]]]],
            kernel=[[0.0, 1.0, 1.0, 1.0, 0.875, 0.125]],
        ),
    )
    return PolicySet(
        criterion=Criterion(0.9, [1.5], (0.0, 1.0), [1.0], cost_names=("Überhitzung",)),
        policies=(TabularPolicy([[1.0, 0.0], [0.5, 0.5]]), TabularPolicy([[0.0, 1.0], [0.25, 0.75]])),
        cells=cells,
        bounds=EpisodeBounds(0.0, 10.0, (10.0,)),
        certificate=Certificate(200, 1, 0.03125, 0, 0.02, 0.05, 0.001),
        training=TrainingReport("golden", ("noise",), "distance", 0.125, 500, 1, 0.0, 0.0625),
        assumption=AssumptionReport(False, 0.25, ((0.45,),), ((1.75,),), "One task has no feasible policy."),
        ledger=Ledger(0.05).spend("coverage", 0.025, "hold-out").spend("margin", 0.025, "margin on the hold-out"),
        seed=7,
        version="0.1.0",
        extra={"note": "golden", "nested": [1, 2.5, None, True, {"a": []}]},
        lineage_known=False,
    )


def golden_set_2() -> PolicySet:
    """The same at a third look: what ``policyset-v2.sf`` must hold for ever."""
    looks = (Look("first cells", 4, 200, 12, 0, 0.025), Look("other cells", 2, 400, 9, 1, 0.0125))
    return replace(golden_set(), lineage_known=True, looks=looks)


@pytest.fixture
def small() -> PolicySet:
    return random_policy_set(np.random.default_rng(3), cells=1, policies=1, states=1, actions=1, parameters=0)


@pytest.fixture
def small_bytes(small: PolicySet, tmp_path: Path) -> bytes:
    save(small, tmp_path / "small.sf")
    return (tmp_path / "small.sf").read_bytes()


def load_bytes(folder: Path, content: bytes) -> PolicySet:
    path = folder / "case.sf"
    path.write_bytes(content)
    return load(path)


# -------------------------------------------------------------------------------------------------------- round trip


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy_set=policy_sets())
@pytest.mark.slow
def test_round_trip_keeps_every_bit(policy_set: PolicySet, tmp_path: Path) -> None:
    path = tmp_path / "set.sf"
    save(policy_set, path)
    first = path.read_bytes()
    loaded = load(path)
    save(loaded, path)
    assert same(loaded, policy_set)
    assert path.read_bytes() == first
    assert loaded.hash == policy_set.hash == hashlib.sha256(members_of(first)[0][1]).hexdigest()


def test_methods_of_the_policy_set_are_the_functions(small: PolicySet, tmp_path: Path) -> None:
    small.save(str(tmp_path / "a.sf"))
    assert same(PolicySet.load(tmp_path / "a.sf"), small)
    assert small.hash == content_hash(small)


def test_equal_sets_made_apart_have_equal_files(tmp_path: Path) -> None:
    for name in ("a.sf", "b.sf"):
        save(golden_set(), tmp_path / name)
    assert (tmp_path / "a.sf").read_bytes() == (tmp_path / "b.sf").read_bytes()


def test_type_of_a_number_does_not_change_the_hash(small: PolicySet) -> None:
    plain = replace(small, criterion=Criterion(1, [2], (0, 1), [1], 10), seed=5)
    numpy = replace(
        small,
        criterion=Criterion(np.float64(1.0), [2.0], (0.0, np.float32(1.0)), [1.0], np.int64(10)),
        seed=np.int32(5),
    )
    assert content_hash(plain) == content_hash(numpy)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"version": "0.1.1"},
        {"extra": {"a": 1}},
        {"certificate": None},
        {"ledger": Ledger(0.06)},
        {"bounds": EpisodeBounds(0.0, 10.5, (10.0,))},
        {"policies": (TabularPolicy([[1.0 - 1e-16]]),)},
        {"criterion": Criterion(0.9, [2.0], (0.0, 1.0), [1.0 + 2.0**-52])},
    ],
    ids=lambda change: next(iter(change)),
)
def test_hash_depends_on_every_part(small: PolicySet, change: dict[str, Any]) -> None:
    assert content_hash(replace(small, **change)) != content_hash(small)


def test_loaded_arrays_are_read_only(small_bytes: bytes, tmp_path: Path) -> None:
    loaded = load_bytes(tmp_path, small_bytes)
    with pytest.raises(ValueError, match="read-only"):
        loaded.cells.predictions.reward_lower[0, 0] = 0.0


def test_describe_is_plain_and_complete() -> None:
    told = describe(golden_set())
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["hash"] == GOLDEN_HASH
    assert told["sizes"] == {
        "cells": 2, "policies": 2, "constraints": 1, "states": 2, "actions": 2,
        "initial_states": 2, "signals": 1, "support": 6, "outside": 1,
    }  # fmt: skip
    assert (told["looks"], told["lineage_known"], told["attempt"]) == ([], False, 1)
    again = describe(golden_set_2())
    assert (again["schema"], again["lineage_known"], again["attempt"]) == (2, True, 3)
    assert [look["uncovered"] for look in again["looks"]] == [12, 9]
    assert told["training"]["proved_coverage"] == 0.625
    assert told["ledger"]["spent"] == 0.05
    assert told["cells"]["rows"][1] == {
        "policy": 1, "parameters": [0.3], "optimal_center": 3.0, "optimal_upper": 3.5,
        "reward": [2.5, 3.5], "costs": [[1.25, 1.75]],
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------- golden file


def test_golden_file_of_version_1_loads() -> None:
    loaded = load(GOLDEN)
    assert same(loaded, golden_set())
    assert loaded.hash == GOLDEN_HASH


def test_golden_file_of_version_2_loads() -> None:
    loaded = load(GOLDEN_2)
    assert same(loaded, golden_set_2())
    assert loaded.hash == GOLDEN_HASH_2


def test_a_set_from_version_1_is_written_as_it_was_found() -> None:
    """Its hash stays, and deployments that run on it go on; handed on as the previous look it is version 2."""
    old = load(GOLDEN)
    assert (old.lineage_known, old.looks, old.attempt) == (False, (), 1)
    assert describe(old)["schema"] == 1 and describe(replace(old, lineage_known=True))["schema"] == 2
    assert describe(replace(old, looks=golden_set_2().looks))["schema"] == 2


def test_reader_printed_in_the_documentation_reads_the_golden_file() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy-set-file.md").read_text(encoding="utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", program, str(GOLDEN)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [GOLDEN_HASH, *"2 policies; worst predicted cost of the safe one: 0.75".split()]


def test_golden_files_are_what_is_written_today(tmp_path: Path) -> None:
    for name, made, golden in (("1.sf", golden_set(), GOLDEN), ("2.sf", golden_set_2(), GOLDEN_2)):
        save(made, tmp_path / name)
        assert members_of((tmp_path / name).read_bytes()) == members_of(golden.read_bytes())


# ------------------------------------------------------------------------------------------------------------ damage


def test_every_truncation_is_caught(small_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.sf"
    path.write_bytes(small_bytes)
    for length in reversed(range(len(small_bytes))):
        os.truncate(path, length)
        with pytest.raises(PolicySetError):
            load(path)


@pytest.mark.slow
def test_every_flipped_byte_is_caught_or_means_nothing(small: PolicySet, small_bytes: bytes, tmp_path: Path) -> None:
    path, expected, harmless = tmp_path / "flipped.sf", content_hash(small), 0
    path.write_bytes(small_bytes)
    with path.open("r+b", buffering=0) as stream:
        for index, byte in enumerate(small_bytes):
            os.pwrite(stream.fileno(), bytes([byte ^ (1 << index % 8 if index % 2 else 0xFF)]), index)
            try:
                assert content_hash(load(path)) == expected
                harmless += 1
            except PolicySetError:
                pass
            os.pwrite(stream.fileno(), bytes([byte]), index)
    # What zip repeats or nobody needs: dates, versions, attributes, sizes in local headers.
    assert harmless < 0.12 * len(small_bytes)


def test_bytes_before_and_after_are_caught(small_bytes: bytes, tmp_path: Path) -> None:
    for content in (b"x" + small_bytes, small_bytes + b"x", small_bytes * 2, small_bytes + b"\0" * 22):
        with pytest.raises(PolicySetError):
            load_bytes(tmp_path, content)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(PolicySetError):
        load_bytes(tmp_path, content)


@pytest.mark.slow
def test_random_mutations_raise_nothing_else(tmp_path: Path) -> None:
    """Overwrite, delete, insert and copy runs of bytes anywhere; half of the time only in the table of contents."""
    rng = np.random.default_rng(11)
    original = GOLDEN.read_bytes()
    contents = original.index(b"PK\1\2")
    refused = 0
    for _ in range(600):
        mutant = bytearray(original)
        for _ in range(rng.integers(1, 4)):
            start = int(rng.integers(contents if rng.random() < 0.5 else 0, len(mutant)))
            source, length = int(rng.integers(0, len(mutant))), int(rng.integers(0, 9))
            patch = [rng.bytes(length), b"", bytes(mutant[source : source + length]), b"\xff" * length][
                rng.integers(0, 4)
            ]
            mutant[start : start + int(rng.choice([length, len(patch)]))] = patch
        try:
            assert content_hash(load_bytes(tmp_path, bytes(mutant))) == GOLDEN_HASH
        except PolicySetError:
            refused += 1
    assert refused > 400


def _random_json(rng: np.random.Generator) -> Any:
    values = [
        None,
        True,
        -1,
        0,
        2**70,
        10**400,
        1e308,
        0.5,
        "",
        "x",
        "\ud800",
        "\x1b[2J",
        [],
        [[]],
        {},
        {"a": 1},
        [0.5],
        "cells.x",
    ]
    return values[rng.integers(0, len(values))]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


@pytest.mark.slow
def test_random_manifests_with_valid_hashes_raise_nothing_else(tmp_path: Path) -> None:
    """Leaves and branches of the manifest replaced or removed, hashes recomputed: only the checks stand in the way."""
    rng = np.random.default_rng(12)
    original = members_of(GOLDEN.read_bytes())
    places = [place for place in _places(json.loads(original[0][1])) if place]
    for place in places:
        for _ in range(2):
            body = json.loads(original[0][1])
            parent = body
            for key in place[:-1]:
                parent = parent[key]
            if rng.random() < 0.2:
                del parent[place[-1]]
            else:
                parent[place[-1]] = _random_json(rng)
            try:
                content_hash(load_bytes(tmp_path, archive(with_manifest(original, dumps(body)))))
            except PolicySetError:
                continue


# ----------------------------------------------------------------------------------------------------- hostile files


def members_of(content: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return [(name, opened.read(name)) for name in opened.namelist()]


def archive(members: Members, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as opened:
        warnings.simplefilter("ignore")  # zipfile warns about duplicate names, which is what we are after
        for name, content in members:
            opened.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return stream.getvalue()


def dumps(body: Any) -> bytes:
    return json.dumps(body).encode()


def with_manifest(members: Members, manifest: bytes) -> Members:
    """The same archive with another manifest and the digest that belongs to it."""
    line = f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n".encode()
    return [("manifest.json", manifest), ("manifest.sha256", line), *members[2:]]


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Members], bytes]:
    def build(members: Members) -> bytes:
        body = json.loads(members[0][1])
        change(body)
        return archive(with_manifest(members, dumps(body)))

    return build


def raw_manifest(manifest: bytes) -> Callable[[Members], bytes]:
    return lambda members: archive(with_manifest(members, manifest))


def put(*path: Any, value: Any) -> Callable[[Members], bytes]:
    """The golden file with one value of the manifest replaced."""

    def change(body: Any) -> None:
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = value

    return edited(change)


def drop(*path: Any) -> Callable[[Members], bytes]:
    def change(body: Any) -> None:
        for key in path[:-1]:
            body = body[key]
        del body[path[-1]]

    return edited(change)


def new_array(name: str, array: np.ndarray[Any, Any]) -> Callable[[Members], bytes]:
    """The golden file with one array replaced and every hash recomputed."""

    def build(members: Members) -> bytes:
        body = json.loads(members[0][1])
        data = array.tobytes()
        entry = {"dtype": array.dtype.name, "shape": list(array.shape), "bytes": len(data)}
        body["arrays"][name] = {**entry, "sha256": hashlib.sha256(data).hexdigest()}
        swapped = [(n, data if n == f"arrays/{name}.bin" else content) for n, content in members]
        return archive(with_manifest(swapped, dumps(body)))

    return build


def patched(pattern: bytes, offset: int, new: bytes, last: bool = False) -> Callable[[Members], bytes]:
    """The golden archive with bytes overwritten behind the first or last header of a kind."""

    def build(members: Members) -> bytes:
        content = bytearray(archive(members))
        start = (content.rindex(pattern) if last else content.index(pattern)) + offset
        content[start : start + len(new)] = new
        return bytes(content)

    return build


def without(name: str) -> Callable[[Members], bytes]:
    return lambda members: archive([member for member in members if member[0] != name])


def plus(name: str, content: bytes) -> Callable[[Members], bytes]:
    return lambda members: archive([*members, (name, content)])


def hidden(members: Members, before: bytes = LOCAL) -> bytes:
    """A byte before the last member, or before the table of contents, offsets put right."""
    content = bytearray(archive(members))
    content.insert(content.rindex(LOCAL) if before == LOCAL else content.index(CENTRAL), 0)
    moved = [content.rindex(END) + 16] + [content.rindex(CENTRAL) + 42] * (before == LOCAL)
    for offset in moved:
        content[offset : offset + 4] = struct.pack("<L", struct.unpack("<L", content[offset : offset + 4])[0] + 1)
    return bytes(content)


def commented(members: Members) -> bytes:
    """Free text where zip allows it and the format does not."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.comment = b"hello" if name == "manifest.json" else b""
            opened.writestr(info, content)
    return stream.getvalue()


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


REWARD = "cells.predictions.reward_lower"
TABLE = "policies.1.table"

HOSTILE: dict[str, tuple[Callable[[Members], bytes], str]] = {
    # the container
    "empty": (lambda m: b"", ("SF-POLICYSET-LIMIT",)),
    "text": (lambda m: b"this is no policy set at all", ("SF-POLICYSET-END",)),
    "empty archive": (lambda m: archive([]), ("SF-POLICYSET-MEMBER-MISSING", "'manifest.json'")),
    "deflated": (lambda m: archive(m, zipfile.ZIP_DEFLATED), ("SF-POLICYSET-COMPRESSED", "'manifest.json'")),
    "bomb": (
        lambda m: archive(with_manifest(m, b" " * 10**7), zipfile.ZIP_DEFLATED),
        ("SF-POLICYSET-COMPRESSED", "method 8"),
    ),
    "encrypted": (
        patched(CENTRAL, 8, b"\1"),
        ("SF-POLICYSET-COMPRESSED", "method 0 and flags 0x1"),
    ),
    "declared huge": (
        patched(CENTRAL, 20, b"\xf0\xff\xff\x7f" * 2),
        ("SF-POLICYSET-LIMIT", "16777216", "2147483632"),
    ),
    "sizes disagree": (patched(CENTRAL, 24, b"\x01\0\0\0"), ("SF-POLICYSET-COMPRESSED", "'manifest.json'")),
    "member longer": (patched(CENTRAL, 20, b"\xff\x0f\0\0" * 2), ("SF-POLICYSET-ARCHIVE", "manifest.json'")),
    "two members share bytes": (patched(CENTRAL, 42, b"\0\0\0\0", last=True), ("SF-POLICYSET-LAYOUT",)),
    "too many members": (patched(END, 8, b"\xff\xff\xff\xff"), ("SF-POLICYSET-LIMIT", "65534")),
    "zip comment": (patched(END, 20, b"\1\0"), ("SF-POLICYSET-END",)),
    "two disks": (patched(END, 4, b"\1\0"), ("SF-POLICYSET-END",)),
    "64-bit records": (
        lambda m: archive(m)[:-22] + b"PK\6\7" + bytes(16) + archive(m)[-22:],
        ("SF-POLICYSET-END",),
    ),
    "directory elsewhere": (patched(END, 16, b"\0\0\0\0"), ("SF-POLICYSET-LIMIT", "65534")),
    "path traversal": (
        plus("../../evil.py", b"x"),
        ("SF-POLICYSET-MEMBER-EXTRA", "'../../evil.py'"),
    ),
    "absolute path": (
        plus("/etc/passwd", b"x"),
        ("SF-POLICYSET-MEMBER-EXTRA", "'/etc/passwd'"),
    ),
    "extra member": (plus("arrays/evil.bin", b"x"), ("SF-POLICYSET-MEMBER-EXTRA", "'arrays/evil.bin'")),
    "duplicate manifest": (plus("manifest.json", b"{}"), ("SF-POLICYSET-MEMBER-TWICE", "'manifest.json' twice")),
    "duplicate array": (
        plus(f"arrays/{TABLE}.bin", bytes(32)),
        ("SF-POLICYSET-MEMBER-TWICE", f"arrays/{TABLE}.bin"),
    ),
    "no manifest": (without("manifest.json"), ("SF-POLICYSET-MEMBER-MISSING", "'manifest.json'")),
    "no digest": (without("manifest.sha256"), ("SF-POLICYSET-MEMBER-MISSING", "'manifest.sha256'")),
    "no array": (without(f"arrays/{TABLE}.bin"), ("SF-POLICYSET-MEMBER-MISSING", f"arrays/{TABLE}.bin")),
    "byte in front": (lambda m: b"\0" + archive(m), ("SF-POLICYSET-LIMIT", "65534")),
    "hidden byte": (hidden, ("SF-POLICYSET-LAYOUT",)),
    "byte before the table of contents": (
        lambda m: hidden(m, CENTRAL),
        ("SF-POLICYSET-LAYOUT",),
    ),
    "comment on a member": (commented, ("SF-POLICYSET-LAYOUT",)),
    "long digest": (
        lambda m: archive([m[0], ("manifest.sha256", m[1][1] * 9), *m[2:]]),
        ("SF-POLICYSET-LIMIT", "'manifest.sha256'", "256"),
    ),
    # the manifest as text
    "wrong digest": (
        lambda m: archive([(m[0][0], m[0][1] + b" "), *m[1:]]),
        ("SF-POLICYSET-DIGEST", "manifest.json", "256"),
    ),
    "not UTF-8": (raw_manifest(b'{"format": "\xff"}'), ("SF-POLICYSET-JSON", "manifest.json", "UTF-8")),
    "UTF-16": (raw_manifest('{"format": 1}'.encode("utf-16")), ("SF-POLICYSET-JSON", "manifest.json", "UTF-8")),
    "byte order mark": (
        raw_manifest(b"\xef\xbb\xbf{}"),
        ("SF-POLICYSET-JSON", "manifest.json", "Unexpected UTF-8 BOM"),
    ),
    "not JSON": (raw_manifest(b"{'format': 1}"), ("SF-POLICYSET-JSON", "manifest.json")),
    "python": (raw_manifest(b"__import__('os').system('true')"), ("SF-POLICYSET-JSON", "manifest.json")),
    "pickle": (raw_manifest(b"\x80\x04]\x94."), ("SF-POLICYSET-JSON", "manifest.json", "UTF-8")),
    "empty manifest": (raw_manifest(b""), ("SF-POLICYSET-JSON", "manifest.json")),
    "deeply nested": (raw_manifest(b'{"a":' + b"[" * 200_000), ("SF-POLICYSET-JSON", "manifest.json")),
    "deep object": (raw_manifest(b'{"a":' * 200_000), ("SF-POLICYSET-JSON", "manifest.json")),
    "NaN": (raw_manifest(b'{"seed": NaN}'), ("SF-POLICYSET-JSON", "manifest.json", "NaN")),
    "infinity": (raw_manifest(b'{"seed": -Infinity}'), ("SF-POLICYSET-JSON", "-Infinity")),
    "key twice": (raw_manifest(b'{"seed": 1, "seed": 2}'), ("SF-POLICYSET-JSON", "'seed'")),
    "many digits": (raw_manifest(b'{"seed": ' + b"9" * 5000 + b"}"), ("SF-POLICYSET-JSON", "manifest.json")),
    "a list": (raw_manifest(b"[]"), ("SF-POLICYSET-JSON", "manifest.json", "list")),
    # format and version
    "other format": (
        put("format", value="zip of cats"),
        ("SF-POLICYSET-FORMAT", "format", "'surefoot policy set'", "'zip of cats'"),
    ),
    "no format": (drop("format"), ("SF-POLICYSET-FORMAT", "format", "'surefoot policy set'", "None")),
    "future": (
        put("schema", value=4),
        ("SF-POLICYSET-VERSION", "schema", "3", "4"),
    ),
    "version 3 without its fields": (put("schema", value=3), ("SF-POLICYSET-FIELD", "manifest", "'beliefs'")),
    "version 1 with beliefs": (put("beliefs", value={}), ("SF-POLICYSET-FORMAT", "beliefs", "1", "one")),
    "version 2 without its fields": (put("schema", value=2), ("SF-POLICYSET-FIELD", "manifest", "'lineage_known'")),
    "version 1 with looks": (put("looks", value=[]), ("SF-POLICYSET-FORMAT", "looks", "1", "one")),
    "schema 0": (put("schema", value=0), ("SF-POLICYSET-FORMAT", "schema", "1", "0")),
    "schema true": (put("schema", value=True), ("SF-POLICYSET-FORMAT", "schema", "1", "True")),
    "schema text": (put("schema", value="1"), ("SF-POLICYSET-FORMAT", "schema", "1", "'1'")),
    # the table of arrays
    "arrays a list": (put("arrays", value=[]), ("SF-POLICYSET-ARRAY", "arrays", "list")),
    "no arrays": (put("arrays", value={}), ("SF-POLICYSET-MEMBER-EXTRA",)),
    "traversal in table": (put("arrays", "../x", value={}), ("SF-POLICYSET-ARRAY", "arrays")),
    "entry a number": (put("arrays", TABLE, value=1), ("SF-POLICYSET-FIELD", f"arrays.{TABLE}", "int")),
    "entry lacks": (drop("arrays", TABLE, "sha256"), ("SF-POLICYSET-FIELD", f"arrays.{TABLE}", "'sha256'")),
    "entry has more": (put("arrays", TABLE, "pickle", value=1), ("SF-POLICYSET-FIELD", f"arrays.{TABLE}", "'pickle'")),
    "object dtype": (
        put("arrays", TABLE, "dtype", value="object"),
        ("SF-POLICYSET-ARRAY", f"arrays.{TABLE}.dtype", "float64"),
    ),
    "dtype a list": (
        put("arrays", TABLE, "dtype", value=[["f", "O"]]),
        ("SF-POLICYSET-ARRAY", "list"),
    ),
    "wrong dtype": (
        put("arrays", REWARD, "dtype", value="int64"),
        ("SF-POLICYSET-REFERENCE", f"{REWARD}", "float64", "int64"),
    ),
    "float indices": (
        put("arrays", "cells.policy_index", "dtype", value="float64"),
        ("SF-POLICYSET-REFERENCE", "float64"),
    ),
    "negative shape": (
        put("arrays", TABLE, "shape", value=[-2, -2]),
        ("SF-POLICYSET-ARRAY", f"arrays.{TABLE}.shape", "8"),
    ),
    "fractional shape": (put("arrays", TABLE, "shape", value=[2.0, 2]), ("SF-POLICYSET-ARRAY", "8", "0")),
    "boolean shape": (put("arrays", TABLE, "shape", value=[True, 4]), ("SF-POLICYSET-ARRAY", "8", "0")),
    "shape a number": (put("arrays", TABLE, "shape", value=4), ("SF-POLICYSET-ARRAY", "8", "0")),
    "many axes": (put("arrays", TABLE, "shape", value=[1] * 33), ("SF-POLICYSET-ARRAY", "8", "0")),
    "huge shape": (put("arrays", TABLE, "shape", value=[2**31, 2**31]), ("SF-POLICYSET-ARRAY", "2147483647")),
    "overflowing shape": (
        put("arrays", TABLE, "shape", value=[2**61 + 4]),
        ("SF-POLICYSET-ARRAY", "2147483647"),
    ),
    "empty huge shape": (
        put("arrays", TABLE, "shape", value=[0, 2**62]),
        ("SF-POLICYSET-ARRAY", "2147483647"),
    ),
    "smaller shape": (
        put("arrays", TABLE, "shape", value=[1, 2]),
        ("SF-POLICYSET-ARRAY", f"arrays.{TABLE}.bytes", "16"),
    ),
    "wrong bytes": (put("arrays", TABLE, "bytes", value=31), ("SF-POLICYSET-ARRAY", f"arrays.{TABLE}.bytes", "32")),
    "array too long": (
        lambda m: archive([(n, c * 2 if n == f"arrays/{TABLE}.bin" else c) for n, c in m]),
        ("SF-POLICYSET-LIMIT", f"arrays/{TABLE}.bin", "32", "64"),
    ),
    "array too short": (
        lambda m: archive([(n, c[:-1] if n == f"arrays/{TABLE}.bin" else c) for n, c in m]),
        ("SF-POLICYSET-DIGEST", f"arrays/{TABLE}.bin"),
    ),
    "wrong hash": (put("arrays", TABLE, "sha256", value="0" * 64), ("SF-POLICYSET-DIGEST", f"arrays/{TABLE}.bin")),
    "hash a number": (put("arrays", TABLE, "sha256", value=0), ("SF-POLICYSET-DIGEST", f"arrays/{TABLE}.bin")),
    "array used twice": (
        put("policies", 1, "array", value="policies.0.table"),
        ("SF-POLICYSET-REFERENCE", "policies.1"),
    ),
    "array unused": (
        put("cells", "signals", value=None),
        ("SF-POLICYSET-REFERENCE", "arrays", "'cells.signals.bounds' unused"),
    ),
    "unknown array": (
        put("policies", 1, "array", value="nothing"),
        ("SF-POLICYSET-REFERENCE", "policies.1", "'nothing'"),
    ),
    "array name a list": (
        put("policies", 1, "array", value=[TABLE]),
        ("SF-POLICYSET-REFERENCE", "list"),
    ),
    # policies
    "unknown kind": (
        put("policies", 1, "kind", value="torch"),
        ("SF-POLICY-UNREGISTERED", "policies.1.kind", "linear-map, mlp", "registered, table", "'torch'"),
    ),
    "module as kind": (
        put("policies", 1, "kind", value="os.system"),
        ("SF-POLICY-UNREGISTERED", "policies.1.kind", "linear-map, mlp", "registered, table", "'os.system'"),
    ),
    "kind a list": (put("policies", 1, "kind", value=["table"]), ("SF-POLICYSET-FIELD", "policies.1.kind", "list")),
    "no kind": (drop("policies", 1, "kind"), ("SF-POLICYSET-FIELD", "policies.1.kind", "NoneType")),
    "policy with code": (put("policies", 1, "code", value="x"), ("SF-POLICYSET-FIELD", "policy", "'code'")),
    "policy a string": (put("policies", 1, value="table"), ("SF-POLICYSET-FIELD", "policies.1", "str")),
    "policies an object": (put("policies", value={}), ("SF-POLICYSET-FIELD", "policies", "dict")),
    "policy rows": (
        new_array(TABLE, np.full((2, 2), 0.4)),
        ("SF-POLICYSET-FIELD", "policy[0]", "1", "1e-09", "0.8"),
    ),
    "policy shape": (
        new_array(TABLE, np.ones((3, 1))),
        ("SF-POLICYSET-FIELD", "policies", "(S, A)", "[(2, 2), (3, 1)]"),
    ),
    "policy NaN": (new_array(TABLE, np.full((2, 2), np.nan)), ("SF-POLICYSET-FIELD", "policy[0, 0]", "nan")),
    # values
    "array NaN": (
        new_array(REWARD, np.full((2, 2), np.nan)),
        ("SF-POLICYSET-FIELD", "reward_lower[0, 0]", "nan"),
    ),
    "array inf": (new_array(REWARD, np.full((2, 2), -np.inf)), ("SF-POLICYSET-FIELD", "reward_lower[0, 0]", "-inf")),
    "crossed": (
        new_array(REWARD, np.full((2, 2), 99.0)),
        ("SF-POLICYSET-FIELD", "reward_lower[0, 0]", "99 > 1.5"),
    ),
    "index out": (
        new_array("cells.policy_index", np.array([0, 2])),
        ("SF-POLICYSET-FIELD", "policy_index[1]", "[0, 2)", "2"),
    ),
    "index negative": (
        new_array("cells.policy_index", np.array([0, -1])),
        ("SF-POLICYSET-FIELD", "policy_index[1]", "[0, 2)", "-1"),
    ),
    "state out": (
        new_array("cells.conditional.initial_states", np.array([0, 2])),
        ("SF-POLICYSET-FIELD", "initial_states[1]", "[0, 2)"),
    ),
    "support unsorted": (
        new_array("cells.kernel.support", np.array([[0, 0, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]])),
        ("SF-POLICYSET-FIELD", "support[1]"),
    ),
    "impossible box": (new_array("cells.kernel.upper", np.full((2, 6), 0.9)), ("SF-POLICYSET-FIELD", "cell 0")),
    "discount": (put("criterion", "discount", value=1.5), ("SF-POLICYSET-FIELD", "discount", "(0, 1)", "1.5")),
    "discount text": (put("criterion", "discount", value="0.9"), ("SF-POLICYSET-FIELD", "criterion.discount", "str")),
    "discount true": (put("criterion", "discount", value=True), ("SF-POLICYSET-FIELD", "criterion.discount", "bool")),
    "overflowing number": (
        lambda m: archive(with_manifest(m, m[0][1].replace(b'"discount":0.9', b'"discount":1e999'))),
        ("SF-POLICYSET-FIELD", "criterion.discount", "inf"),
    ),
    "giant integer": (
        put("criterion", "discount", value=10**400),
        ("SF-POLICYSET-FIELD", "criterion.discount", "2", "128"),
    ),
    "giant seed": (put("seed", value=-(2**128)), ("SF-POLICYSET-FIELD", "seed", "2", "128")),
    "negative seed": (put("seed", value=-1), ("SF-POLICYSET-FIELD", "seed", "0", "-1")),
    "fractional seed": (put("seed", value=1.0), ("SF-POLICYSET-FIELD", "seed", "float")),
    "three bounds": (
        put("criterion", "reward_bounds", value=[0, 1, 2]),
        ("SF-POLICYSET-FIELD", "criterion.reward_bounds", "2", "3"),
    ),
    "limits": (
        put("criterion", "cost_limits", value=[1.0, 2.0]),
        ("SF-POLICYSET-FIELD", "cost_bounds", "(2)", "(1,)"),
    ),
    "limits nested": (
        put("criterion", "cost_limits", value=[[1.0]]),
        ("SF-POLICYSET-FIELD", "criterion.cost_limits.0", "list"),
    ),
    "ceilings": (put("bounds", "cost_ceilings", value=[]), ("SF-POLICYSET-FIELD", "cost_ceilings", "1", "0")),
    "certificate": (
        put("certificate", "uncovered", value=201),
        ("SF-POLICYSET-FIELD", "uncovered", "0", "200", "201"),
    ),
    "too good": (
        put("certificate", "uncovered_upper", value=0.004),
        ("SF-POLICYSET-FIELD", "uncovered_upper", "[0.005, 1]"),
    ),
    "certificate text": (put("certificate", value="fine"), ("SF-POLICYSET-FIELD", "certificate", "str")),
    "training lacks": (drop("training", "level"), ("SF-POLICYSET-FIELD", "training", "'level'")),
    "unknown key": (put("training", "seconds", value=1.0), ("SF-POLICYSET-FIELD", "training", "'seconds'")),
    "unknown part": (put("exec", value="x"), ("SF-POLICYSET-FIELD", "manifest", "'exec'")),
    "no cells": (drop("cells"), ("SF-POLICYSET-FIELD", "manifest", "'cells'")),
    "no predictions": (
        put("cells", "predictions", value=None),
        ("SF-POLICYSET-FIELD", "cells.predictions", "NoneType"),
    ),
    "names": (
        put("training", "parameter_names", value=["a", "a"]),
        ("SF-POLICYSET-FIELD", "parameter_names[1]", "'a'"),
    ),
    "offenders": (
        put("assumption", "minimum_costs", value=[]),
        ("SF-POLICYSET-FIELD", "minimum_costs", "(1)", "0"),
    ),
    "holds": (put("assumption", "holds", value=1), ("SF-POLICYSET-FIELD", "assumption.holds", "int")),
    "overspent": (put("ledger", "entries", 0, "delta", value=0.9), ("SF-POLICYSET-FIELD", "delta", "0.05", "0.925")),
    "spent twice": (
        put("ledger", "entries", 0, "name", value="margin"),
        ("SF-POLICYSET-FIELD", "entries[1].name"),
    ),
    "terminal escape": (
        put("training", "family", value="\x1b]0;x\7"),
        ("SF-POLICYSET-FIELD", "training.family", "'\\x1b' at 0"),
    ),
    "surrogate": (
        put("training", "family", value="\ud800"),
        ("SF-POLICYSET-FIELD", "training.family", "'\\ud800' at 0"),
    ),
    "escape in key": (put("extra", value={"\x1b": 1}), ("SF-POLICYSET-FIELD", "extra")),
    "extra a list": (put("extra", value=[]), ("SF-POLICYSET-FIELD", "extra", "list")),
    "extra deep": (put("extra", "deep", value=deep(100)), ("SF-POLICYSET-FIELD", "32")),
    "extra infinite": (
        lambda m: archive(with_manifest(m, m[0][1].replace(b'"note":"golden"', b'"note":-1e999'))),
        ("SF-POLICYSET-FIELD", "extra.note", "-inf"),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    build, refusal = HOSTILE[name]
    with refused(*refusal, error=PolicySetError) as caught:
        load_bytes(tmp_path, build(members_of(GOLDEN.read_bytes())))
    assert str(caught.value).startswith(str(tmp_path / "case.sf"))


def test_reading_executes_nothing(tmp_path: Path) -> None:
    """A pickle in place of an array is bytes of the wrong hash, and with the right hash it is numbers."""
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR."
    padded = bomb.ljust(-(-len(bomb) // 8) * 8, b"\0")
    build = new_array(REWARD, np.frombuffer(padded, dtype="<f8"))
    with refused("SF-POLICYSET-FIELD", "case.sf", "reward_lower", error=PolicySetError):
        load_bytes(tmp_path, build(members_of(GOLDEN.read_bytes())))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case.sf"]


def test_members_in_another_order_load(tmp_path: Path) -> None:
    members = members_of(GOLDEN.read_bytes())
    assert load_bytes(tmp_path, archive(members[::-1])).hash == GOLDEN_HASH


# -------------------------------------------------------------------------------------------- the operating system


def test_missing_file(tmp_path: Path) -> None:
    with refused("SF-POLICYSET-READ", "file", "'No such file or directory'"):
        load(tmp_path / "none.sf")


def test_stateers_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sf")
    for path in (tmp_path, tmp_path / "pipe.sf", os.devnull):
        with refused("SF-POLICYSET-FILE"):
            load(path)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_unreadable_file(error: OSError, small_bytes: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(policy_file, "open", refuse, raising=False)
    with refused("SF-POLICYSET-READ", "case.sf", f"'{error.strerror}'"):
        load_bytes(tmp_path, small_bytes)


def test_oversized_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.sf"
    path.touch()
    os.truncate(path, 2**31)
    with refused("SF-POLICYSET-LIMIT", "22", "2147483647", "2147483648"):
        load(path)


@pytest.mark.parametrize("path", [None, 3, b"a.sf", "a\0.sf", "\ud800.sf"])
def test_path_of_the_wrong_kind(path: Any, small: PolicySet) -> None:
    for action in (lambda: load(path), lambda: save(small, path)):
        with refused("SF-POLICYSET-PATH", "path"):
            action()


def test_save_replaces_a_file_and_keeps_a_link(small: PolicySet, tmp_path: Path) -> None:
    (tmp_path / "real.sf").write_bytes(b"old")
    (tmp_path / "link.sf").symlink_to(tmp_path / "real.sf")
    save(small, tmp_path / "link.sf")
    assert (tmp_path / "link.sf").is_symlink()
    assert same(load(tmp_path / "real.sf"), small)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_save_leaves_the_old_file_alone(
    step: str, small: PolicySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set.sf").write_bytes(b"old")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(policy_file.os, step, full)
    with refused("SF-POLICYSET-WRITE", "set.sf", "No space left on device"):
        save(small, tmp_path / "set.sf")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("set.sf", b"old")]


def test_interrupted_save_leaves_nothing(small: PolicySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(policy_file, "_write_archive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(small, tmp_path / "set.sf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing/set.sf", "."])
def test_save_where_no_file_can_be(name: str, small: PolicySet, tmp_path: Path) -> None:
    with refused("SF-POLICYSET-WRITE"):
        save(small, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit, refusal", [
    ("MAX_FILE", ("SF-POLICYSET-SIZE", "4")),
    ("MAX_MEMBERS", ("SF-POLICYSET-SIZE", "2", "11")),
    ("MAX_MANIFEST", ("SF-POLICYSET-SIZE", "4")),
])  # fmt: skip
def test_what_could_not_be_read_is_not_written(
    limit: str, refusal: tuple[str, ...], small: PolicySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_file, limit, 4100 if limit == "MAX_FILE" else 4)
    with refused(*refusal):
        save(small, tmp_path / "set.sf")


def test_end_record_is_read_as_the_format_says(small_bytes: bytes) -> None:
    """The layout that the documentation promises to other readers, by hand."""
    count, length, start = struct.unpack("<HLL", small_bytes[-12:-2])
    assert small_bytes[start : start + 4] == CENTRAL
    assert start + length + 22 == len(small_bytes)
    assert count == len(members_of(small_bytes)) == small_bytes.count(LOCAL)


def test_nothing_of_clock_user_or_system_is_written(small_bytes: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(small_bytes)) as opened:
        written = {(i.date_time, i.external_attr >> 16, i.create_system, i.compress_type) for i in opened.infolist()}
    assert written == {((1980, 1, 1, 0, 0, 0), 0o644, 3, zipfile.ZIP_STORED)}
