"""The HTTP service: operations, errors, guards. No network: the application is called as a server would call it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import surefoot as sf
from surefoot.controllers import LinearPolicy, MLPPolicy
from surefoot.policy import TabularPolicy
from surefoot.policyset import codec, register_controller
from surefoot.service import Limits, Token, make_app
from surefoot.service.errors import STATUSES
from surefoot.service.operations import OPERATIONS, Call
from surefoot.service.token import ROLES
from tests.experiments.validation_worlds import small_set
from tests.journal.plants import quick_folder
from tests.journal.plants import small_set as journal_set
from tests.refusals import missing, refused
from tests.service.client import Answer, call

TOKEN = "a-token-of-thirty-two-characters"
BEARER = f"Bearer {TOKEN}"
MANY = Limits(rate=1e6, burst=10**6, stranger_rate=1e6, stranger_burst=10**6)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[sf.Deployment]:
    with sf.Deployment.open(tmp_path / "plant.db", small_set()) as deployment:
        yield deployment


@pytest.fixture
def app(plant: sf.Deployment) -> Any:
    return make_app(plant, limits=MANY)


def ask(app: Any, n: int = 1, key: str = "k1") -> Answer:
    return call(app, "POST", "/ask", {"n": n}, idempotency_key=key)


def good(ids: Any) -> dict[str, Any]:
    n = len(ids) if isinstance(ids, list) else None
    reward, costs = (30.0, [0.5]) if n is None else ([30.0] * n, [[0.5]] * n)
    return {"ids": ids, "reward": reward, "costs": costs, "initial_state": 0 if n is None else [0] * n}


# ------------------------------------------------------------------------------------------------- operations


def test_logged_episodes_are_given_before_the_first_ask(app: Any, plant: sf.Deployment) -> None:
    log = {"reward": [30.0, 31.0], "costs": [[0.5], [0.0]]}
    for _ in range(2):
        answer = call(app, "POST", "/history", log)
        assert (answer.status, answer.json["recorded"], answer.json["pending"]) == (200, True, 0)
    assert call(app, "GET", "/status").json["logged"] == 2
    answer = call(app, "POST", "/history", {"reward": [30.0], "costs": [[0.5], [0.0]]})
    assert (answer.status, answer.json["code"]) == (422, "SF-REPORT-SHAPE")
    ask(app)
    answer = call(app, "POST", "/history", {"reward": [1.0], "costs": [[0.5]]})
    assert (answer.status, answer.json["code"]) == (409, "SF-CONFLICT-HISTORY")
    assert [event.kind for event in plant.events()].count("recalled") == 1 and plant.verify().ok


@pytest.mark.slow
def test_an_episode_from_asking_to_telling(app: Any, plant: sf.Deployment) -> None:
    answer = ask(app, 3)
    assert answer.status == 200
    assert [e["id"] for e in answer.json["episodes"]] == [0, 1, 2]
    assert sum(answer.json["weights"].values()) == pytest.approx(1.0)
    assert "the mixture" in answer.json["certified"] and "discarding draws" in answer.json["certified"]
    told = call(app, "POST", "/tell", good([2, 0]))
    assert (told.status, told.json["pending"]) == (200, 1)
    lost = call(app, "POST", "/lost", {"ids": 1})
    assert (lost.status, lost.json["pending"]) == (200, 0)
    assert [e.kind for e in plant.events() if e.kind in ("asked", "told", "lost")] == ["asked", "told", "lost"]


def test_a_request_that_is_repeated_gets_the_same_episodes(app: Any) -> None:
    first, again, other = ask(app, 2), ask(app, 2), ask(app, 2, key="k2")
    assert first.json == again.json
    assert [e["id"] for e in other.json["episodes"]] == [2, 3]
    assert ask(app, 3).status == 409
    draw = call(app, "GET", "/episodes/1")
    assert draw.json["episodes"] == [first.json["episodes"][1]]


def test_a_report_that_is_repeated_changes_nothing_and_another_is_a_conflict(app: Any, plant: sf.Deployment) -> None:
    ask(app)
    seqs = [call(app, "POST", "/tell", good(0)).json["seq"] for _ in range(2)]
    assert seqs[0] == seqs[1]
    contrary = call(app, "POST", "/tell", {**good(0), "reward": 29.0})
    assert (contrary.status, contrary.json["error"]) == (409, "ConflictError")
    assert plant.status().pending == 0


def test_a_policy_can_be_run_from_what_is_sent(app: Any, plant: sf.Deployment) -> None:
    policy = ask(app).json["episodes"][0]["policy"]
    answer = call(app, "GET", f"/policies/{policy}")
    wanted = plant.policy_set.policies[policy]
    assert isinstance(wanted, sf.TabularPolicy)
    assert answer.json == {"policy": policy, "kind": "table", "table": wanted.table.tolist()}
    assert call(app, "GET", "/policies/7").status == 404
    assert call(app, "GET", "/policies/-1").status == 404


@dataclass(frozen=True)
class Thermostat:
    """A user's own controller."""

    target: float
    gains: Any

    def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, None]:
        return self.gains * (self.target - observation), None


def test_policies_of_every_kind_are_sent_as_the_numbers_they_consist_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_KINDS", dict(codec._KINDS))
    register_controller("thermostat of a test", Thermostat, ["target", "gains"])
    box = {"low": np.array([-1.0]), "high": np.array([1.0])}
    linear = LinearPolicy(np.array([[1.0, 2.0]]), np.array([0.5]), **box)
    network = MLPPolicy((np.array([[1.0, 2.0]]), np.array([[3.0]])), (np.array([0.5]), np.array([0.25])), **box)
    policies = (linear, network, Thermostat(21.0, np.array([0.1, 0.2])), TabularPolicy(np.array([[0.25, 0.75]])))
    plant = SimpleNamespace(policy_set=SimpleNamespace(policies=policies))
    work = next(op.work for op in OPERATIONS if op.path == "/policies/{number}")
    sent = [json.loads(json.dumps(work(plant, Call({}, number=k)), allow_nan=False)) for k in range(4)]  # type: ignore[arg-type]
    assert [answer["kind"] for answer in sent] == ["linear-map", "mlp", "thermostat of a test", "table"]
    assert sent[0]["parameters"] == {"weight": [[1.0, 2.0]], "bias": [0.5], "low": [-1.0], "high": [1.0]}
    assert sent[1]["parameters"]["weights"] == [[[1.0, 2.0]], [[3.0]]] and sent[1]["parameters"]["biases"] == [
        [0.5],
        [0.25],
    ]
    assert sent[2]["parameters"] == {"target": 21.0, "gains": [0.1, 0.2]}
    assert sent[3] == {"policy": 3, "kind": "table", "table": [[0.25, 0.75]]}


def test_a_key_is_the_same_whichever_way_it_comes(app: Any, plant: sf.Deployment) -> None:
    for k, key in enumerate(["Schicht-\u00e4", "\u20ac5", "\u690d\u7269", "plain"]):
        sent = key.encode("utf-8").decode("latin-1")  # how a header carries it
        (episode,) = ask(app, 1, key=sent).json["episodes"]
        assert episode["id"] == k == plant.ask(1, request=key)[0].id
    refused = ask(app, 1, key="\xe9")
    assert (refused.status, refused.json["error"], refused.json["code"]) == (400, "InvalidKey", "SF-HTTP-KEY")


def test_a_report_that_leaves_something_out_is_told_at_once() -> None:
    policy_set = journal_set(states=True, signals=True)
    folder = Path(quick_folder())
    with sf.Deployment.open(folder / "plant.db", policy_set) as plant:
        app = make_app(plant, limits=MANY)
        ask(app, 2)
        report = {"ids": [0, 1], "reward": [3.0, 3.0], "costs": [[0.5], [0.5]], "initial_state": [0, 0]}
        warnings = call(app, "POST", "/tell", report).json["warnings"]
        assert len(warnings) == 1 and "no signals" in warnings[0] and "cannot be added later" in warnings[0]
        assert any("2 episodes were told without signals" in note for note in call(app, "GET", "/status").json["notes"])
        ask(app, 1, key="k2")
        assert (
            call(
                app, "POST", "/tell", {"ids": 2, "reward": 3.0, "costs": [0.5], "initial_state": 0, "signals": [[0.65]]}
            ).json["warnings"]
            == []
        )
    with sf.Deployment.open(folder / "plant.db") as plant:
        assert any("2 episodes were told without signals" in note for note in plant.status().notes)
    shutil.rmtree(folder)


def test_pause_resume_abort(app: Any) -> None:
    assert call(app, "POST", "/pause", {"reason": "lunch"}).json["state"] == "paused"
    refused = ask(app)
    assert (refused.status, refused.json["error"], refused.json["code"]) == (423, "PausedError", "SF-DEPLOYMENT-PAUSED")
    assert "lunch" in refused.json["message"]
    assert call(app, "POST", "/resume", {}).json["state"] == "running"
    for _ in range(2):
        assert call(app, "POST", "/abort", {"reason": "fire"}).json["state"] == "aborted"
    assert call(app, "GET", "/status").json["why"] == "fire"
    assert {e["policy"] for e in ask(app, 20).json["episodes"]} == {0}


def test_another_deployment_goes_on_after_this_one(app: Any, plant: sf.Deployment) -> None:
    wanted = {"name": "second", "reason": "new pump", "delta": 0.01}
    for _ in range(2):
        answer = call(app, "POST", "/readapt", wanted)
        assert (answer.status, answer.json["name"], answer.json["seq"]) == (200, "second", 2)
        assert "new pump" in answer.json["text"]
    assert call(app, "POST", "/readapt", {"name": "third"}).status == 409
    gone = ask(app)
    assert (gone.status, gone.json["code"]) == (423, "SF-DEPLOYMENT-SUCCEEDED")
    assert call(app, "GET", "/status").json["state"] == "aborted"
    with sf.Deployment.open(plant._store.url.render_as_string(hide_password=False), name="second") as new:
        assert new.settings.delta == 0.01 and new.settings.seed == plant.settings.seed + 1
        assert new.verify().ok


def test_the_status_is_that_of_the_library(app: Any, plant: sf.Deployment) -> None:
    found, wanted = call(app, "GET", "/status").json, plant.status()
    assert found == {**json.loads(json.dumps(wanted.as_dict())), "text": wanted.text}


def test_the_page_is_served_and_made_anew_when_something_happened(
    app: Any, plant: sf.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = call(app, "GET", "/report")
    assert (first.status, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "frame-ancestors 'none'" in first.headers["content-security-policy"]
    reads: list[int] = []
    events = plant.events
    monkeypatch.setattr(plant, "events", lambda since=0: reads.append(since) or events(since))
    assert call(app, "GET", "/report").body == first.body
    assert reads == []
    ask(app, 7)
    assert b"<b>7</b>" in call(app, "GET", "/report").body
    assert reads == [2]  # what was read before is not read again


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("body", "status", "kind", "refusal"),
    [
        ({"ids": 0, "reward": 1.0, "costs": [0.1], "colour": 3}, 400, "UnknownField", ("SF-HTTP-UNKNOWN", "'colour'")),
        ({"ids": 0, "reward": 1.0}, 400, "MissingField", ("SF-HTTP-MISSING", "costs")),
        ([1], 400, "InvalidBody", ("SF-HTTP-BODY", "list")),
        (good(99), 422, "InvalidReport", ("SF-REPORT-UNKNOWN", "99")),
        ({**good(0), "costs": [-1.0]}, 422, "InvalidReport", ("SF-REPORT-RANGE", "costs[0, 0]", "-1")),
        ({**good(0), "costs": [0.1, 0.2]}, 422, "InvalidReport", ("SF-REPORT-SHAPE", "costs")),
        ({**good(0), "reward": "30"}, 422, "InvalidReport", ("SF-REPORT-TYPE", "reward", "'30'")),
        ({**good(0), "transitions": [[0, 0, 0]]}, 422, "InvalidReport", ("SF-REPORT-SHAPE", "transitions[0]", "4")),
        ({**good(0), "reward": True}, 422, "InvalidReport", ("SF-REPORT-TYPE", "reward", "True")),
        ({**good(0), "ids": None}, 422, "InvalidReport", ("SF-REPORT-TYPE", "ids")),
    ],
)
def test_a_refused_report_says_why_and_leaves_the_episode_pending(
    app: Any, plant: sf.Deployment, body: Any, status: int, kind: str, refusal: tuple[str, ...]
) -> None:
    ask(app)
    answer = call(app, "POST", "/tell", body)
    assert (answer.status, answer.json["error"], answer.json["code"]) == (status, kind, refusal[0]), answer.json
    assert missing(answer.json["message"], refusal[1:]) is None, answer.json
    assert plant.status().pending == 1


@pytest.mark.parametrize(
    "raw",
    [
        b'{"ids": [0], "ids": [1]}', b"{", b"\xff", b"[" * 100_000, b'{"ids": NaN}', b'{"ids": ' + b"9" * 5000 + b"}", b'{"ids": 1e999}',
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(app: Any, raw: bytes) -> None:
    answer = call(app, "POST", "/lost", raw=raw, content_type="application/json")
    assert answer.status in (400, 422)
    assert answer.json["error"] in ("InvalidJSON", "InvalidReport")


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "kind", "code"),
    [
        ("GET", "/nothing", {}, 404, "NotFound", "SF-HTTP-ADDRESS"),
        ("GET", "/ask/", {}, 404, "NotFound", "SF-HTTP-ADDRESS"),
        ("GET", "/ask", {}, 405, "MethodNotAllowed", "SF-HTTP-METHOD"),
        ("GET", "/episodes/0", {}, 404, "NoSuchEpisode", "SF-REPORT-UNKNOWN"),
        ("GET", "/episodes/x", {}, 404, "NotFound", "SF-HTTP-ADDRESS"),
        ("POST", "/ask", {"body": {}}, 400, "MissingKey", "SF-HTTP-KEY"),
        ("POST", "/ask", {"body": {}, "idempotency_key": "\x01"}, 400, "InvalidInput", "SF-ARGUMENT-TEXT"),
        ("POST", "/ask", {"body": {"n": 0}, "idempotency_key": "a"}, 400, "InvalidInput", "SF-ARGUMENT-RANGE"),
        ("POST", "/ask", {"body": {"n": 1.5}, "idempotency_key": "a"}, 400, "InvalidInput", "SF-ARGUMENT-TYPE"),
        ("POST", "/ask", {"body": {"n": 10**9}, "idempotency_key": "a"}, 400, "InvalidInput", "SF-ARGUMENT-RANGE"),
        (
            "POST",
            "/pause",
            {"raw": b"reason=x", "content_type": "application/x-www-form-urlencoded"},
            415,
            "NotJSON",
            "SF-HTTP-TYPE",
        ),
        ("POST", "/pause", {"raw": b"{}"}, 415, "NotJSON", "SF-HTTP-TYPE"),
        ("POST", "/pause", {"body": {"reason": ""}}, 400, "InvalidInput", "SF-ARGUMENT-TEXT"),
        ("POST", "/resume", {"body": {"reason": "x"}}, 400, "UnknownField", "SF-HTTP-UNKNOWN"),
    ],
)
def test_other_mistakes_are_told_in_json(
    app: Any, method: str, path: str, options: dict[str, Any], status: int, kind: str, code: str
) -> None:
    answer = call(app, method, path, options.pop("body", None), **options)
    assert (answer.status, answer.json["error"], answer.json["code"]) == (status, kind, code), answer.json
    assert answer.headers["content-type"] == "application/json"


def test_a_journal_out_of_reach_asks_to_try_again(
    app: Any, plant: sf.Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*arguments: Any, **options: Any) -> None:
        raise sf.JournalUnavailable("the database must be reachable, got nothing; try again")

    monkeypatch.setattr(plant, "tell", gone)
    answer = call(app, "POST", "/tell", good(0))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_a_mistake_of_the_service_is_logged_and_hidden(
    app: Any, plant: sf.Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plant, "lost", lambda ids, by: 1 / 0)
    answer = call(app, "POST", "/lost", {"ids": 0})
    assert (answer.status, answer.json["error"], answer.json["code"]) == (500, "InternalError", "SF-HTTP-INTERNAL")
    assert b"ZeroDivision" not in answer.body
    assert "ZeroDivisionError" in caplog.text


# ------------------------------------------------------------------------------------------------------ guards


def test_without_the_token_nothing_is_served(plant: sf.Deployment) -> None:
    app = make_app(plant, TOKEN, MANY)
    paths = [(op.method, op.path.replace("{number}", "0")) for op in OPERATIONS]
    pages = ("/report", "/live/state", "/live/", "/metrics", "/openapi.json", "/nothing")
    for method, path in [*paths, *(("GET", page) for page in pages), ("POST", "/live")]:
        for header in (
            {},
            {"authorization": TOKEN},
            {"authorization": BEARER + "x"},
            {"authorization": f"Basic {TOKEN}"},
        ):
            answer = call(app, method, path, {} if method == "POST" else None, **header)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN.encode() not in answer.body
    assert call(app, "GET", "/status", authorization=BEARER).status == 200
    assert call(app, "GET", "/status", authorization=f"bearer {TOKEN}", host="plant.example").status == 200


def test_without_a_token_only_names_of_this_machine_are_served(app: Any) -> None:
    for host in ("localhost:1", "127.0.0.1", "127.8.9.1:80", "[::1]:8321", "[::1]"):
        assert call(app, "GET", "/status", host=host).status == 200
    for host in (
        "plant.example:80", "", "127.0.0.1.evil.example", "[::2]", "0.0.0.0", "[::1].evil.example", "[::1]x:80", "[[::1]]", "localhost:", "::1"
    ):  # fmt: skip
        assert call(app, "GET", "/status", host=host).status == 421


def test_a_body_too_large_is_refused_before_it_is_read(plant: sf.Deployment) -> None:
    app = make_app(plant, limits=Limits(body_bytes=100))
    announced = call(app, "POST", "/tell", raw=[], content_type="application/json", content_length="101")
    in_parts = call(app, "POST", "/tell", raw=[b" " * 60, b" " * 60, b""], content_type="application/json")
    for answer in (announced, in_parts):
        assert (answer.status, answer.json["error"], answer.json["code"]) == (413, "TooLarge", "SF-HTTP-LARGE")
    fits = call(app, "POST", "/resume", raw=[b"{", b" " * 90, b"}"], content_type="application/json")
    assert fits.status == 200


def test_a_body_that_never_ends_is_given_up(plant: sf.Deployment) -> None:
    app = make_app(plant, limits=Limits(body_seconds=0.0))
    answer = call(app, "POST", "/tell", raw=b"{", hang=True, content_type="application/json")
    assert (answer.status, answer.json["error"], answer.json["code"]) == (408, "TooSlow", "SF-HTTP-SLOW")


def test_a_token_allows_what_its_bearer_may_do_and_the_journal_says_who_did_it(plant: sf.Deployment) -> None:
    tokens = [Token(f"{role}-" * 8, role, "one") for role in ROLES]
    app = make_app(plant, tokens, MANY)
    allowed: dict[str, set[str]] = {role: set() for role in ROLES}
    for op in OPERATIONS:
        for token in tokens:
            body = {} if op.method == "POST" else None
            answer = call(app, op.method, op.path.replace("{number}", "0"), body, authorization=f"Bearer {token.text}")
            assert (answer.status == 403) == (token.role not in op.roles)
            if answer.status != 403:
                allowed[token.role].add(op.path)
            else:
                assert f"got that of {token.role} one" in answer.json["message"]
    looking = {"/status", "/policies/{number}", "/episodes/{number}"}
    assert allowed == {
        "owner": {op.path for op in OPERATIONS},
        "robot": looking | {"/ask", "/tell", "/lost"},
        "operator": looking | {"/pause", "/resume", "/cap", "/approve", "/abort", "/history", "/readapt"},
        "reader": looking,
    }
    plant.resume()
    robot, operator = (f"Bearer {token.text}" for token in tokens[1:3])
    call(app, "POST", "/ask", {"n": 2}, idempotency_key="k", authorization=robot)
    call(app, "POST", "/tell", good(0), authorization=robot)
    call(app, "POST", "/lost", {"ids": 1}, authorization=robot)
    call(app, "POST", "/cap", {"weight": 0.5}, authorization=operator)
    by = {event.kind: event.body.get("by") for event in plant.events()}
    assert {kind: by[kind] for kind in ("asked", "told", "lost")} == dict.fromkeys(
        ("asked", "told", "lost"), "robot one"
    )
    assert by["capped"] == "operator one"
    assert call(app, "GET", "/report", authorization=robot).status == 403
    assert plant.verify().ok


def test_a_stop_passes_whatever_others_do(plant: sf.Deployment) -> None:
    tokens = [Token("r" * 20, "robot", "line-3"), Token("o" * 20, "operator", "anna")]
    app = make_app(plant, tokens, Limits(rate=1e-6, burst=1, running=1), clock=lambda: 0.0)
    robot, operator = (f"Bearer {token.text}" for token in tokens)
    assert [call(app, "GET", "/status", authorization=robot).status for _ in range(3)] == [200, 429, 429]
    # One bearer's flood is not another's, and no flood keeps a stop out: not even one's own.
    assert [call(app, "GET", "/status", authorization=operator).status for _ in range(2)] == [200, 429]
    app._running = 1  # somebody is being served
    assert call(app, "POST", "/pause", {}, authorization=operator).json["state"] == "paused"
    assert call(app, "POST", "/abort", {"reason": "fire"}, authorization=operator).json["state"] == "aborted"
    assert call(app, "POST", "/abort", {}, authorization="Bearer " + "x" * 20).status == 401


def test_no_more_is_held_at_once_than_there_is_room_for(plant: sf.Deployment) -> None:
    app = make_app(plant, limits=Limits(body_bytes=100, bytes_at_once=100, running=1))
    app._bytes = 60
    crowded = call(app, "POST", "/resume", raw=[b"{", b" " * 60, b"}"], content_type="application/json")
    assert (crowded.status, crowded.json["error"], crowded.headers["retry-after"]) == (503, "TooBusy", "1")
    app._bytes, app._running = 0, 1
    busy = call(app, "GET", "/status")
    assert (busy.status, busy.json["error"]) == (503, "TooBusy")
    app._running = 0
    assert call(app, "POST", "/resume", raw=[b"{", b" " * 60, b"}"], content_type="application/json").status == 200
    assert (app._bytes, app._running) == (0, 0)


def test_a_stop_that_cannot_be_recorded_yet_is_answered_nevertheless(
    app: Any, plant: sf.Deployment, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "plant.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        answer = call(app, "POST", "/abort", {"reason": "fire"}).json
        assert (answer["state"], answer["why"], answer["in_effect"], answer["recorded"]) == (
            "aborted",
            "fire",
            True,
            False,
        )
        assert call(app, "GET", "/status").json["state"] == "aborted"
    answer = call(app, "POST", "/abort", {"reason": "fire"}).json
    assert (answer["in_effect"], answer["recorded"]) == (True, True)
    assert {e["policy"] for e in ask(app, 20).json["episodes"]} == {0}


def test_requests_that_come_too_fast_are_told_when_to_come_again(plant: sf.Deployment) -> None:
    now = [100.0]
    limits = Limits(rate=2.0, burst=3, stranger_rate=0.5, stranger_burst=1)
    app = make_app(plant, TOKEN, limits, clock=lambda: now[0])

    def status(header: str) -> int:
        return call(app, "GET", "/openapi.json", authorization=header).status

    assert [status(BEARER) for _ in range(4)] == [200, 200, 200, 429]
    assert [status("Bearer wrong") for _ in range(3)] == [401, 429, 429]
    assert int(call(app, "GET", "/status", authorization="x").headers["retry-after"]) == 2
    now[0] += 1.0
    assert [status(BEARER) for _ in range(3)] == [200, 200, 429]
    now[0] -= 50.0
    assert status(BEARER) == 429
    now[0] += 1.0
    assert [status(BEARER) for _ in range(3)] == [200, 200, 429]
    now[0] += 1e6
    assert [status(BEARER) for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"body_bytes": 0}, ("SF-ARGUMENT-RANGE", "body_bytes", "1")),
        ({"rate": 0.0}, ("SF-ARGUMENT-RANGE", "rate")),
        ({"burst": 1.5}, ("SF-ARGUMENT-TYPE", "burst")),
    ],
)
def test_limits_out_of_range_are_refused(change: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        Limits(**change)


# ----------------------------------------------------------------------------------------------------- fuzzing

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.integers(0, 3)
    | st.floats(0.0, 2.0),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({name for op in OPERATIONS if op.body for name in op.body.model_fields} | {"colour"})
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6).map(lambda b: json.dumps(b).encode()) | st.binary(
    max_size=40
)
REPORTS = st.fixed_dictionaries(
    {"ids": JSON | st.just(0), "reward": JSON | st.just(1.0), "costs": JSON | st.just([0.1])},
    optional={"initial_state": JSON, "transitions": JSON | st.lists(st.lists(st.integers(-1, 50), min_size=4, max_size=4)), "signals": JSON},
).map(lambda b: json.dumps(b).encode())  # fmt: skip
PATHS = st.sampled_from(
    [op.path.replace("{number}", "0") for op in OPERATIONS]
    + ["/report", "/live", "/live.js", "/live/state", "/", "/episodes/%00"]
) | st.text(max_size=12).map(lambda text: "/" + text.replace("?", ""))
KEYS = st.text(alphabet=st.characters(max_codepoint=255), max_size=12)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "X"]),
    path=PATHS,
    raw=BODIES,
    key=KEYS,
    kind=st.sampled_from(["application/json", "text/plain", "\xff"]),
)
@pytest.mark.slow
def test_no_request_makes_the_service_fail(app: Any, method: str, path: str, raw: bytes, key: str, kind: str) -> None:
    if b"n" in raw and path == "/ask":
        raw = raw.replace(b'"n": ', b'"n": -')
    answer = call(app, method, path, raw=raw, content_type=kind, idempotency_key=key)
    assert answer.status == 200 or answer.status in set(STATUSES) - {500, 503}
    if answer.status != 200:
        assert set(answer.json) == {"error", "code", "message"}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=REPORTS)
@pytest.mark.slow
def test_no_report_makes_the_service_fail(app: Any, plant: sf.Deployment, raw: bytes) -> None:
    ask(app)
    answer = call(app, "POST", "/tell", raw=raw, content_type="application/json")
    assert answer.status in (200, 400, 409, 422)
    assert call(app, "GET", "/status").status == 200
