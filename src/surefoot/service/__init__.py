"""A small HTTP service around one deployment, so that controllers in any language can take part.

Comes with an extra: ``pip install "surefoot[serve]"``.
"""

from __future__ import annotations

from importlib.util import find_spec

from surefoot.errors import MissingExtra

if missing := [package for package in ("sqlalchemy", "fastapi", "pydantic", "uvicorn") if find_spec(package) is None]:
    raise MissingExtra(missing[0], "serve")

from surefoot.service.app import make_app
from surefoot.service.guard import Limits
from surefoot.service.server import serve
from surefoot.service.token import Token, read_tokens, read_webhook_key

__all__ = ["Limits", "Token", "make_app", "read_tokens", "read_webhook_key", "serve"]
