"""From the bytes of a request to a checked body, or to an error that names field, rule, value and remedy.

    bytes -> JSON, every key once (InvalidJSON) -> object (InvalidBody) -> known (UnknownField), complete (MissingField) -> types and ranges

The last step is pydantic's; its errors are translated here. Names come first and are compared as sets, so that a body of a million unknown fields
costs one message and not a million.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from surefoot.json_reading import parse_strictly
from surefoot.service.guard import Refusal
from surefoot.service.models import Body, Resume

__all__ = ["checked", "parsed"]

RULES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_unicode": "text in Unicode",
    "list_type": "a list",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}
"""Pydantic's kinds of errors that the models of requests can lead to, as rules."""

REPORT_CODES = {
    "SF-REPORT-FINITE": ("finite_number",),
    "SF-REPORT-RANGE": ("greater_than_equal", "less_than_equal"),
    "SF-REPORT-SHAPE": ("too_short", "too_long"),
}
"""Codes of rules about reports; every other rule is about types."""
ARGUMENT_CODES = {
    "SF-ARGUMENT-FINITE": ("finite_number",),
    "SF-ARGUMENT-RANGE": ("greater_than_equal", "less_than_equal"),
    "SF-ARGUMENT-TEXT": ("string_unicode", "string_too_short", "string_too_long"),
    "SF-ARGUMENT-LENGTH": ("too_short", "too_long"),
}
"""The same for other requests."""


def parsed(body: bytes) -> Any:
    """The JSON in a body; an empty one is an empty object.

    Raises:
        Refusal: no JSON, or a key that stands twice.
    """
    try:
        return parse_strictly(body.decode("utf-8") or "{}")
    except ValueError as error:
        raise Refusal(400, "InvalidJSON", f"a body must hold JSON, got: {ascii(str(error))[:200]}; mend it") from error


def checked(model: type[Body] | None, value: Any) -> Body:
    """The body of a request; one without a model must be empty.

    Raises:
        Refusal: it breaks a rule of the model.
    """
    model = Resume if model is None else model
    _check_names(model, value)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        raise _refusal(model, found["loc"], found["type"], found["input"], found.get("ctx", {}), found["msg"]) from None


def _check_names(model: type[Body], value: Any) -> None:
    fields = model.model_fields
    names = ", ".join(fields) or "nothing"
    if not isinstance(value, dict):
        raise Refusal(
            400, "InvalidBody", f"a body must be an object with {names}, got {type(value).__name__}; put it in braces"
        )
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise Refusal(
            400, "UnknownField", f"a body must hold only {names}, got {ascii(unknown[0])[:80]}; check the spelling"
        )
    missing = [name for name, field in fields.items() if field.is_required() and name not in value]
    if missing:
        raise Refusal(
            400, "MissingField", f"a body must hold {missing[0]}, got {', '.join(value) or 'nothing'}; add it"
        )


def _refusal(
    model: type[Body], where: tuple[int | str, ...], kind: str, value: Any, context: Mapping[str, Any], message: str
) -> Refusal:
    """One error of pydantic's in our words. Its location names fields and positions, and alternatives of a type, which mean nothing to a client."""
    name = str(where[0])
    path = name + "".join(f"[{step}]" for step in where[1:] if isinstance(step, int))
    # What is not in the table is still an error, in pydantic's words.
    rule = RULES[kind].format(**context) if kind in RULES else message
    examples = model.model_fields[name].examples
    remedy = f"send it like {json.dumps(examples[0])}" if examples else "mend it"
    status, error = model.refusal
    stays = "; the episodes stay pending" if error == "InvalidReport" else ""
    codes, usual = (REPORT_CODES, "SF-REPORT-TYPE") if stays else (ARGUMENT_CODES, "SF-ARGUMENT-TYPE")
    code = next((code for code, kinds in codes.items() if kind in kinds), usual)
    return Refusal(status, error, f"{path} must be {rule}, got {_shown(value)}; {remedy}{stays}", code=code)


def _shown(value: Any) -> str:
    """A value for a message: short, and printable whatever it holds."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else ascii(value)[:80]
