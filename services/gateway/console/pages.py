"""`GET /console`: the overview, and the two files it loads.

The page holds no data. It asks `GET /v1/health`, as everybody may, which needs no key.
Why it is plain HTML and one module of our own: docs/adr/0018-console.md.
"""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address
from pathlib import Path

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

_DIRECTORY = Path(__file__).with_name("static")
_PAGE = "index.html"
_MEDIA_TYPES = {"overview.js": "text/javascript", "style.css": "text/css"}
_HEADERS = {
    # Neither inline script nor inline style, and nothing from elsewhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


@get("/console", include_in_schema=False)
async def get_console() -> Response[bytes]:
    """Give the page; it is the same for everybody."""
    return Response(_content(_PAGE), media_type="text/html", headers=_HEADERS)


@get("/console/{name:str}", include_in_schema=False)
async def get_console_file(name: FromPath[str]) -> Response[bytes]:
    """Give what the page loads.

    Raises:
        NotFoundException: it loads no such file (404).
    """
    if name not in _MEDIA_TYPES:
        raise NotFoundException
    return Response(_content(name), media_type=_MEDIA_TYPES[name], headers=_HEADERS)


def console_routes(*, wanted: bool | None, host: str) -> list[HTTPRouteHandler]:
    """Routes of the console, none where it is off.

    Args:
        wanted: `CONSOLE`; unset, the console is there for a gateway that only this machine reaches.
        host: address the gateway listens on.
    """
    shown = _is_loopback(host) if wanted is None else wanted
    return [get_console, get_console_file] if shown else []


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def _content(name: str) -> bytes:
    return (_DIRECTORY / name).read_bytes()
