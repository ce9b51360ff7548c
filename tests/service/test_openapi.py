"""The OpenAPI description: valid, complete, and what the service does, for every address, in success and error."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import surefoot as sf
from surefoot.controllers import LinearPolicy
from surefoot.policy import TabularPolicy
from surefoot.service import Limits, Token, make_app
from surefoot.service.errors import EVERYWHERE, STATUSES
from surefoot.service.live_page import OPEN
from surefoot.service.models import Body, Status
from surefoot.service.operations import OPERATIONS, Call
from surefoot.service.token import ROLES
from tests.experiments.validation_worlds import small_set
from tests.journal.plants import quick_folder
from tests.journal.plants import small_set as journal_set
from tests.service.client import Answer, call
from tests.service.described import Described

TOKENS = [Token(f"{role}-" * 8, role, "one") for role in ROLES]
BEARER = {token.role: f"Bearer {token.text}" for token in TOKENS}
MANY = Limits(rate=1e6, burst=10**6, stranger_rate=1e6, stranger_burst=10**6)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[sf.Deployment]:
    with sf.Deployment.open(tmp_path / "plant.db", small_set()) as deployment:
        yield deployment


def description(app: Any, **headers: str) -> dict[str, Any]:
    found: dict[str, Any] = call(app, "GET", "/openapi.json", **headers).json
    return found


class Client:
    """Asks, and checks every answer against the description."""

    def __init__(self, app: Any) -> None:
        self.app, self.described = app, Described(description(app, authorization=BEARER["owner"]))

    def __call__(self, method: str, path: str, body: Any = None, role: str = "owner", **options: Any) -> Answer:
        options = {"authorization": BEARER[role], **options}
        return self.described.check(method, path, call(self.app, method, path, body, **options))


def test_the_description_is_valid_openapi(plant: sf.Deployment) -> None:
    for app in (make_app(plant, TOKENS, MANY), make_app(plant, limits=MANY)):
        found = description(app, authorization=BEARER["owner"])
        assert found["openapi"].startswith("3.1.")
        OpenAPIV31SpecValidator(found).validate()


def test_every_body_is_typed(plant: sf.Deployment) -> None:
    found = Described(description(make_app(plant, TOKENS, MANY), authorization=BEARER["owner"]))
    paths = found.description["paths"]
    assert set(paths) == {op.path for op in OPERATIONS} | {"/report", "/openapi.json", "/live/state", "/metrics", *OPEN}
    error = {"$ref": "#/components/schemas/Error"}
    for op in OPERATIONS:
        said = paths[op.path][op.method.lower()]
        statuses = {str(status) for status in (*EVERYWHERE, *op.errors)}
        assert set(said["responses"]) == {"200", "default"} | statuses
        for status in statuses | {"default"}:
            assert said["responses"][status]["content"]["application/json"]["schema"] == error
        answer = said["responses"]["200"]["content"]["application/json"]["schema"]
        assert "$ref" in answer or all("$ref" in one for one in answer["anyOf"])
        assert ("requestBody" in said) == (op.method == "POST") == (op.body is not None)
        if op.body is not None:
            name = said["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            schema = found.description["components"]["schemas"][name]
            assert (set(schema["properties"]), schema["additionalProperties"]) == (set(op.body.model_fields), False)
            assert all("description" in part and "examples" in part for part in schema["properties"].values())
    assert "HTTPValidationError" not in found.description["components"]["schemas"]
    assert set(STATUSES) >= {status for op in OPERATIONS for status in op.errors} | EVERYWHERE


def test_roles_are_security_schemes(plant: sf.Deployment) -> None:
    found = description(make_app(plant, TOKENS, MANY), authorization=BEARER["owner"])
    schemes = found["components"]["securitySchemes"]
    assert set(schemes) == set(ROLES)
    assert all((scheme["type"], scheme["scheme"]) == ("http", "bearer") for scheme in schemes.values())
    for op in OPERATIONS:
        said = found["paths"][op.path][op.method.lower()]["security"]
        assert {role for one in said for role in one} == op.roles and all(len(one) == 1 for one in said)
    assert {role for one in found["paths"]["/report"]["get"]["security"] for role in one} == {
        "owner",
        "operator",
        "reader",
    }
    assert "security" not in json.dumps(description(make_app(plant)))


def test_examples_fit_what_they_are_examples_of(plant: sf.Deployment) -> None:
    found = Described(description(make_app(plant, TOKENS, MANY), authorization=BEARER["owner"]))
    checked = 0
    for schema in found.description["components"]["schemas"].values():
        for part in schema.get("properties", {}).values():
            for example in part.get("examples", ()):
                found.validator(part).validate(example)
                checked += 1
    for methods in found.description["paths"].values():
        for said in methods.values():
            for answer in said["responses"].values():
                for part in answer["content"].values():
                    if "example" in part:
                        found.validator(part["schema"]).validate(part["example"])
                        checked += 1
    assert checked > 100


LOG = {"reward": [30.0, 31.0], "costs": [[0.5], [0.0]], "initial_state": [0, 0]}


def good(ids: Any) -> dict[str, Any]:
    return {"ids": ids, "reward": 30.0, "costs": [0.5], "initial_state": 0}


@pytest.mark.slow
def test_every_answer_is_as_described(plant: sf.Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Client(make_app(plant, TOKENS, MANY))
    seen = ask.described.seen
    assert ask("POST", "/history", LOG, role="operator").status == 200
    assert ask("POST", "/history", {**LOG, "costs": [[-1.0], [0.0]]}).status == 422
    assert ask("POST", "/ask", {"n": 3}, idempotency_key="a", role="robot").status == 200
    ask("POST", "/ask", {"n": 2}, idempotency_key="a")
    pages = ("/report", "/live/state", "/metrics", *OPEN, "/openapi.json")
    for path in ("/episodes/0", "/episodes/99", "/policies/0", "/policies/99", "/status", *pages):
        ask("GET", path)
    ask("POST", "/tell", good(0))
    ask("POST", "/tell", {**good(0), "reward": 29.0})
    ask("POST", "/tell", {**good(1), "reward": "x"})
    assert ask("POST", "/history", LOG).status == 200  # the same again
    assert ask("POST", "/history", {**LOG, "reward": [29.0, 29.0]}).status == 409
    ask("POST", "/lost", {"ids": 1})
    ask("POST", "/lost", {"ids": 0})
    ask("POST", "/lost", {"ids": 99})
    ask("POST", "/cap", {"weight": 0.5})
    ask("POST", "/approve", {"plan": 1})
    ask("POST", "/pause", {"reason": "lunch"})
    ask("POST", "/ask", {"n": 1}, idempotency_key="b")
    ask("POST", "/resume", {})
    plans = ask("GET", "/status").json["plan"]
    monkeypatch.setattr(plant, "approve", lambda plan, by: None)
    assert ask("POST", "/approve", {"plan": plans}).status == 200
    with closing(sqlite3.connect(tmp_path / "plant.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert ask("POST", "/abort", {"reason": "fire"}).json["recorded"] is False
    assert ask("POST", "/abort", {"reason": "fire"}).json["recorded"] is True
    assert ask("POST", "/readapt", {"name": "second"}).json["recorded"] is True
    assert ask("POST", "/readapt", {"name": "third"}).status == 409
    everything = [(op.method, op.path.replace("{number}", "0")) for op in OPERATIONS]
    everything += [("GET", "/report"), ("GET", "/live/state"), ("GET", "/metrics"), ("GET", "/openapi.json")]
    slow = Client(make_app(plant, TOKENS, Limits(body_seconds=0.0)))
    tight = Client(make_app(plant, TOKENS, Limits(rate=1e-6, burst=1)))
    small = Client(make_app(plant, TOKENS, Limits(body_bytes=1)))
    for method, path in everything:
        body = {} if method == "POST" else None
        ask(method, path, body, authorization="")
        slow(method, path, raw=b"{", hang=True, content_type="application/json")
        tight(method, path, body, authorization=BEARER["reader"])
        small(method, path, raw=b"{ }", content_type="application/json")
        for role in ROLES:
            ask(method, path, body, role=role)
        if method == "POST":
            ask(method, path, raw=b"{}", content_type="text/plain", idempotency_key="c")
            ask(method, path, raw=b'{"x": 1, "x": 2}', content_type="application/json", idempotency_key="c")
        small.app._running = 10**6
        small(method, path, raw=b"", content_type="application/json")
        small.app._running = 0
    for name in (
        "ask",
        "tell",
        "lost",
        "recall",
        "pause",
        "resume",
        "cap",
        "approve",
        "abort",
        "readapt",
        "status",
        "status_at_once",
        "ticket",
        "events",
    ):
        monkeypatch.setattr(plant, name, lambda *arguments, **options: 1 / 0)
    monkeypatch.setattr(type(plant), "policy_set", property(lambda self: 1 / 0), raising=False)
    for method, path in everything[:-1]:
        bodies = {
            "/tell": good(0),
            "/readapt": {"name": "second"},
            "/lost": {"ids": 0},
            "/cap": {"weight": 1.0},
            "/approve": {"plan": 1},
            "/history": LOG,
        }
        answer = ask(method, path, bodies.get(path, {}) if method == "POST" else None, idempotency_key="d")
        assert (answer.status, answer.json["error"]) == (500, "InternalError")
    for op in OPERATIONS:
        name, urgent = f"{op.method} {op.path}", op.urgent
        shown = {
            status
            for one, status in seen | tight.described.seen | slow.described.seen | small.described.seen
            if one == name
        }
        wanted = {200, 401, 408, 413, 500, *op.errors} | (set() if urgent else {503})
        wanted |= {400} if op.method == "POST" else set()
        wanted |= {403} if op.roles < set(ROLES) else set()
        assert shown >= wanted, (name, wanted - shown)
    assert {status for _, status in tight.described.seen} >= {429}


def test_without_a_token_other_hosts_get_the_described_error(plant: sf.Deployment) -> None:
    app = make_app(plant, limits=MANY)
    described = Described(description(app))
    assert described.check("GET", "/status", call(app, "GET", "/status", host="plant.example")).status == 421


def test_a_method_that_is_not_taken_is_told_and_head_is(plant: sf.Deployment) -> None:
    app = make_app(plant, limits=MANY)
    assert (call(app, "GET", "/ask").status, call(app, "GET", "/ask").json["error"]) == (405, "MethodNotAllowed")
    allowed = call(app, "POST", "/status", {}).headers["allow"]
    assert set(allowed.split(", ")) == {"GET", "HEAD"}
    assert call(app, "HEAD", "/status").status == 200
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert call(app, "GET", path).status == 404


def test_policies_of_every_kind_are_as_described(plant: sf.Deployment) -> None:
    found = Described(description(make_app(plant)))
    work = next(op.work for op in OPERATIONS if op.path == "/policies/{number}")

    class Plant:
        class policy_set:
            policies = (
                LinearPolicy([[1.0, 2.0]], [0.5], low=[-1.0], high=[1.0]),
                TabularPolicy([[0.25, 0.75]]),
            )

    for k in range(2):
        body = json.dumps(work(Plant, Call(number=k))).encode()  # type: ignore[arg-type]
        found.check("GET", "/policies/0", Answer(200, {"content-type": "application/json"}, body))


def test_a_status_has_a_description_of_every_field(plant: sf.Deployment) -> None:
    assert set(Status.model_fields) == {*plant.status().as_dict(), "text"}
    assert all(field.description for field in Status.model_fields.values())


# ---------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/ask", {"n": 0}, 400, "n must be at least 1, got 0; send it like 1"),
        ("/ask", {"n": True}, 400, "n must be a whole number, got True; send it like 1"),
        ("/ask", {"n": 2.0}, 400, "n must be a whole number, got 2.0; send it like 1"),
        ("/ask", {"n": "2"}, 400, "n must be a whole number, got '2'; send it like 1"),
        ("/ask", {"n": None}, 400, "n must be a whole number, got None; send it like 1"),
        ("/ask", {"n": 100_001}, 400, "n must be at most 100000, got 100001; send it like 1"),
        ("/approve", {"plan": None}, 400, "plan must be a whole number, got None; send it like 42"),
        ("/cap", {"weight": 1.5}, 400, "weight must be at most 1.0, got 1.5; send it like 0.5"),
        ("/cap", {"weight": True}, 400, "weight must be a number, got True; send it like 0.5"),
        ("/pause", {"reason": ""}, 400, "reason must be text of at least 1 characters, got ''; send it like \"shift change\""),
        ("/abort", {"reason": ["x"] * 9}, 400, "reason must be text, got a list of 9; send it like \"noise in the gear\""),
        ("/lost", {"ids": []}, 422, "ids must be a list of at least 1, got a list of 0; send it like 17; the episodes stay pending"),
        ("/lost", {"ids": [0, False]}, 422, "ids[1] must be a whole number, got False; send it like 17; the episodes stay pending"),
        ("/lost", {"ids": -1}, 422, "ids must be at least 0, got -1; send it like 17; the episodes stay pending"),
        ("/tell", {**good(0), "costs": [[0.1], ["x"]]}, 422, "costs[1][0] must be a number, got 'x'; send it like [0.4]; the episodes stay pending"),
        ("/tell", {**good(0), "costs": [0.1, {}]}, 422, "costs[1] must be a number, got an object; send it like [0.4]; the episodes stay pending"),
        ("/tell", {**good(0), "initial_state": 0.0}, 422, "initial_state must be a whole number, got 0.0; send it like 0; the episodes stay pending"),
        ("/tell", {**good(0), "signals": "x"}, 422, "signals must be a number, got 'x'; send it like [[0.65], [0.7]]; the episodes stay pending"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_by_field_rule_value_and_remedy(
    plant: sf.Deployment, path: str, body: Any, status: int, message: str
) -> None:
    app = make_app(plant, limits=MANY)
    found = Described(description(app))
    answer = found.check("POST", path, call(app, "POST", path, body, idempotency_key="k"))
    assert (answer.status, answer.json["message"]) == (status, message)
    # Whoever checks by the description before sending comes to the same result, but that 2.0 is a whole number for JSON schema.
    assert found.accepts("POST", path, body) == (
        "a whole number, got 2.0" in message or "a whole number, got 0.0" in message
    )


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"weight": 1, "weight": 0.5}', "InvalidJSON"),
        (b'{"weight": NaN}', "InvalidJSON"),
        (b'{"weight": -Infinity}', "InvalidJSON"),
        (b'{"weight": 1e999}', "InvalidInput"),
        (b'{"weight": 1' + b"0" * 400 + b"}", "InvalidInput"),
        (b'{"weight": 1, "\\ud800": 1}', "UnknownField"),
        (b'{"weight": "\\ud800"}', "InvalidInput"),
        (b"[]", "InvalidBody"),
        (b"null", "InvalidBody"),
        (b"", "MissingField"),
    ],
)
def test_what_pydantic_would_take_is_refused_all_the_same(plant: sf.Deployment, raw: bytes, kind: str) -> None:
    app = make_app(plant, limits=MANY)
    answer = call(app, "POST", "/cap", raw=raw, content_type="application/json")
    assert (answer.status, answer.json["error"]) == (400, kind)
    assert plant.status().cap == 1.0


def test_a_number_beyond_every_double_is_told_with_its_place(plant: sf.Deployment) -> None:
    app = make_app(plant, limits=MANY)
    call(app, "POST", "/ask", {"n": 2}, idempotency_key="k")
    raw = b'{"ids": [0, 1], "reward": [1.0, 1e999], "costs": [[0.5], [0.5]], "initial_state": [0, 0]}'
    answer = call(app, "POST", "/tell", raw=raw, content_type="application/json")
    assert (answer.status, answer.json["error"]) == (422, "InvalidReport")
    assert answer.json["message"].startswith("reward[1] must be a finite number, got inf;")
    assert plant.status().pending == 2


def test_a_million_mistakes_make_one_short_message(plant: sf.Deployment) -> None:
    app = make_app(plant, limits=MANY)
    for body in ({"ids": ["x"] * 10**5}, {"ids": [[]] * 10**5}, {f"x{k}": 0 for k in range(10**5)}):
        answer = call(app, "POST", "/lost", body)
        assert answer.status in (400, 422)
        assert len(answer.body) < 300


def test_every_field_that_is_checked_names_its_remedy() -> None:
    def models(kind: type[Body]) -> Iterator[type[Body]]:
        for one in kind.__subclasses__():
            yield one
            yield from models(one)

    fields = [field for one in models(Body) for field in one.model_fields.values()]
    assert len(fields) >= 10
    assert all(field.examples and field.description for field in fields)


def test_parts_of_a_report_that_are_null_count_as_not_sent() -> None:
    folder = Path(quick_folder())
    with sf.Deployment.open(folder / "plant.db", journal_set(states=True, signals=True)) as plant:
        app = make_app(plant, limits=MANY)
        call(app, "POST", "/ask", {}, idempotency_key="k")
        report = {"ids": 0, "reward": 3, "costs": 0.5, "initial_state": 0, "transitions": None, "signals": None}
        told = call(app, "POST", "/tell", report)
        assert told.status == 200 and any("no signals" in warning for warning in told.json["warnings"])
    shutil.rmtree(folder)


@pytest.mark.process
def test_only_the_service_imports_what_it_is_built_on() -> None:
    code = "import sys, surefoot.cli, surefoot; print([m for m in ('fastapi', 'pydantic', 'starlette', 'uvicorn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------------------- the ramp


def test_what_a_client_sees_of_the_ramp(plant: sf.Deployment) -> None:
    ask = Client(make_app(plant, TOKENS, MANY))
    (episode,) = ask("POST", "/ask", {}, idempotency_key="a").json["episodes"]
    assert (episode["policy"], episode["reason"].startswith("the ramp")) == (0, True)
    status = ask("GET", "/status").json
    assert (status["state"], status["weights"]) == ("running", {"0": 1.0})
    assert any("the ramp: 0 of 50 episodes" in note for note in status["notes"])
    more = ask("POST", "/ask", {"n": 49}, idempotency_key="b").json["episodes"]
    ids = [one["id"] for one in (episode, *more)]
    # None of them is what simulation predicts.
    report = {"ids": ids, "reward": [30.0] * 50, "costs": [[0.5]] * 50, "initial_state": [0] * 50}
    assert ask("POST", "/tell", report).status == 200
    status = ask("GET", "/status").json
    assert (status["state"], status["certified"], status["weights"]) == ("alarm", False, {"0": 1.0})
    assert "simul" in status["why"] and not any("the ramp" in note for note in status["notes"])
    draw = ask("POST", "/ask", {}, idempotency_key="c")
    assert (draw.status, draw.json["episodes"][0]["policy"]) == (200, 0)
