"""The OpenAPI 3.1 description, made from the table of operations."""

from __future__ import annotations

from typing import Any

from surefoot.service.operations import KEY_HEADER, OPERATIONS, Operation
from surefoot.version import VERSION

__all__ = ["STATUSES", "describe"]

STATUSES = {
    400: "The body, the key or an argument breaks a rule; the message says which.",
    401: "The token is missing or wrong.",
    403: "The token's bearer may not do this.",
    404: "There is no such address, episode or policy.",
    405: "The address does not take this method.",
    408: "The body took too long.",
    409: "Contradicts what was recorded before; what was recorded stands.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    421: "Without a token only the loopback is served.",
    422: "The report cannot be true; nothing was recorded and the episodes stay pending.",
    423: "Paused: no episodes are handed out.",
    429: "Too many requests; Retry-After says how long to wait.",
    500: "The journal is damaged, or the service failed.",
    503: "The journal is out of reach, or too much is asked at once. Whether the request was recorded shows on the next try: repeat it as it was.",
}
"""Every status an error may have, and what it means."""


def describe(secured: bool) -> dict[str, Any]:
    """The description.

    Args:
        secured: whether a token is asked for.
    """
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    paths["/report"] = {"get": _page("The deployment as a self-contained page for people.", "text/html")}
    paths["/openapi.json"] = {"get": _page("This description.", "application/json")}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "surefoot deployment",
            "version": VERSION,
            "description": "Ask for an episode, run the policy drawn from its first step to its last, tell what it earned and cost. What is "
            "certified is the mixture that episodes are drawn from, not the single draw; discarding draws selectively voids it.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }
    if secured:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


_ERROR = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {"type": "string", "description": "Kind, for programs."},
        "message": {"type": "string", "description": "Name, rule, value, remedy, for people."},
    },
}


def _operation(operation: Operation) -> dict[str, Any]:
    name = operation.path.split("/")[1]
    found: dict[str, Any] = {
        "operationId": name,
        "summary": operation.summary,
        "description": f"For tokens of: {', '.join(sorted(operation.roles))}.",
        "responses": {"200": {"description": "Done.", "content": {"application/json": {"schema": {"type": "object"}}}}, **_errors()},
    }  # fmt: skip
    parameters = []
    if "{number}" in operation.path:
        parameters.append(
            {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
        )
    if operation.keyed:
        note = "New for every request, the same when a request is repeated: then the same episodes are returned."
        parameters.append(
            {
                "name": KEY_HEADER,
                "in": "header",
                "required": True,
                "description": note,
                "schema": {"type": "string", "maxLength": 200},
            }
        )
    if parameters:
        found["parameters"] = parameters
    if operation.method == "POST":
        found["requestBody"] = {"content": {"application/json": {"schema": _schema(operation)}}}
    return found


def _schema(operation: Operation) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: part.schema for name, part in operation.fields.items()},
        "required": [name for name, part in operation.fields.items() if part.required],
        "additionalProperties": False,
    }


def _page(summary: str, kind: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "Done.", "content": {kind: {}}}, **_errors()}}


def _errors() -> dict[str, Any]:
    schema = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": text, "content": schema} for status, text in STATUSES.items()}
