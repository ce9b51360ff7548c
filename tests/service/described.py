"""Whether an answer is what the OpenAPI description says."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from jsonschema import Draft202012Validator

from surefoot.error_codes import CATALOGUE
from tests.service.client import Answer

__all__ = ["Described"]


class Described:
    """Checks answers against a description.

    Args:
        description: of OpenAPI 3.1, whose schemas are JSON schemas.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        self.description = description
        self.seen: set[tuple[str, int]] = set()
        self._parts = deepcopy(description["components"])
        for schema in self._parts["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False  # clients may ignore what they do not know; a test may not

    def operation(self, method: str, path: str) -> tuple[str, dict[str, Any]]:
        """Name and description of what answers at an address."""
        for pattern, methods in self.description["paths"].items():
            if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(pattern)), path) and method.lower() in methods:
                return f"{method} {pattern}", methods[method.lower()]
        raise AssertionError(f"{method} {path} is not described")

    def check(self, method: str, path: str, answer: Answer) -> Answer:
        """The answer, if its status is described and its body is as described."""
        name, operation = self.operation(method, path)
        assert str(answer.status) in operation["responses"], (name, answer.status, answer.body)
        kind = answer.headers["content-type"].partition(";")[0]
        schema = operation["responses"][str(answer.status)]["content"][kind]["schema"]
        if kind == "application/json":
            self.validator(schema).validate(answer.json)
        if answer.status != 200:
            said = operation["responses"][str(answer.status)]["description"]
            assert answer.json["error"] in said, (name, answer.status, answer.json)
            assert answer.json["code"] in CATALOGUE, (name, answer.status, answer.json)
        for header in operation["responses"][str(answer.status)].get("headers", ()):
            assert header.lower() in answer.headers
        self.seen.add((name, answer.status))
        return answer

    def accepts(self, method: str, path: str, body: Any) -> bool:
        """Whether a request body is as described."""
        schema = self.operation(method, path)[1]["requestBody"]["content"]["application/json"]["schema"]
        return self.validator(schema).is_valid(body)

    def validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        """Of one schema, with those that it refers to."""
        return Draft202012Validator({**schema, "components": self._parts})
