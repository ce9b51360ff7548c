"""The OpenAPI description: FastAPI's, of the models and of the signatures made here, with the roles of tokens.

FastAPI finds addresses and describes them. What it does not do is read requests: a :class:`WholeRoute` hands a request to its endpoint as it came,
because FastAPI would parse a body on the event loop, take the later of two equal keys, take NaN, and look at the body before the token's role.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from copy import copy
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import Body, FastAPI, Header, Path
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from surefoot.service.errors import responses
from surefoot.service.models import Error
from surefoot.service.operations import KEY_HEADER, LARGEST_NUMBER, Operation
from surefoot.service.token import ROLES
from surefoot.version import VERSION

__all__ = ["Endpoint", "WholeRoute", "add_operation", "add_page", "describe", "new_app"]

Endpoint = Callable[[Request], Awaitable[Response]]

MAY = {
    "owner": "Everything.",
    "robot": "Ask, tell, lost; read status, episodes and policies.",
    "operator": "Pause, resume, cap, approve, abort; read everything.",
    "reader": "Read everything.",
}
"""What the token of each role is good for."""


class WholeRoute(APIRoute):
    """A route whose endpoint takes the request as it came; its signature is for the description alone. Where GET is answered, HEAD is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.methods = (self.methods or set()) | ({"HEAD"} if "GET" in (self.methods or ()) else set())

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint."""
        return self.endpoint


def new_app(**options: Any) -> FastAPI:
    """An application without pages of its own, whose routes are :class:`WholeRoute`.

    Args:
        options: of FastAPI.
    """
    app = FastAPI(
        title="surefoot deployment",
        version=VERSION,
        description="Ask for an episode, run the policy drawn from its first step to its last, tell what it earned and cost. What is certified is "
        "the mixture that episodes are drawn from, not the single draw; discarding draws selectively voids it.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Nothing is sent anywhere, whatever the environment says.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        **options,
    )
    app.router.route_class = WholeRoute
    return app


def add_operation(app: FastAPI, operation: Operation, endpoint: Endpoint, secured: bool) -> None:
    """Serve an operation at its address."""
    endpoint.__signature__ = _signature(operation)  # type: ignore[attr-defined]
    app.add_api_route(
        operation.path,
        endpoint,
        methods=[operation.method],
        operation_id=operation.path.split("/")[1],
        summary=operation.summary,
        description=f"For tokens of: {', '.join(sorted(operation.roles))}.",
        response_model=operation.answer,
        response_description="Done.",
        responses=responses(operation.errors),
        openapi_extra=_security(operation.roles, secured),
    )


def add_page(
    app: FastAPI, path: str, summary: str, endpoint: Endpoint, kind: type[Response], roles: frozenset[str] | None, secured: bool
) -> None:  # fmt: skip
    """Serve something that is no operation; ``kind`` says what: a page, or JSON of no further description. Without ``roles`` it asks for no token."""
    words = path.strip("/").removesuffix(".json").replace("/", "_").replace(".", "_")
    endpoint.__signature__ = Signature()  # type: ignore[attr-defined]
    app.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        operation_id=words,
        summary=summary,
        description="For everybody." if roles is None else f"For tokens of: {', '.join(sorted(roles))}.",
        response_model=dict[str, Any] if kind is JSONResponse else None,
        response_class=kind,
        response_description="Done.",
        responses=responses(()),
        openapi_extra=None if roles is None else _security(roles, secured),
    )


def describe(app: FastAPI, secured: bool) -> dict[str, Any]:
    """The description of everything that was added; that of HEAD would be the same as that of GET."""
    routes = [copy(route) for route in app.routes if isinstance(route, WholeRoute)]
    for route in routes:
        route.methods = (route.methods or set()) - {"HEAD"}
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=routes)
    parts = found["components"]
    parts["schemas"][Error.__name__] = Error.model_json_schema()
    if secured:
        parts["securitySchemes"] = {
            role: {"type": "http", "scheme": "bearer", "description": f"The token of one of role {role}. {MAY[role]}"}
            for role in ROLES
        }
    return found


def _security(roles: frozenset[str], secured: bool) -> dict[str, Any] | None:
    """One token of any of these roles."""
    return {"security": [{role: []} for role in ROLES if role in roles]} if secured else None


def _signature(operation: Operation) -> Signature:
    found: dict[str, Any] = {}
    if "{number}" in operation.path:
        found["number"] = Annotated[int, Path(ge=0, le=LARGEST_NUMBER, description="Which one.", examples=[0])]
    if operation.keyed:
        note = "New for every request, the same when a request is repeated: then the same episodes are returned. UTF-8."
        found["key"] = Annotated[
            str, Header(alias=KEY_HEADER, min_length=1, max_length=200, description=note, examples=["shift-17"])
        ]
    if operation.body is not None:
        found["body"] = Annotated[operation.body, Body()]
    return Signature([Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in found.items()])
