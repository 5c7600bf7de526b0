"""`GET /docs/assets/<file>`: scripts and styles of the page at `/docs`.

They are served from one copy in memory. Reading a file for each request would take memory for each.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import swagger_ui
from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

_DIRECTORY = Path(swagger_ui.__file__).with_name("static")
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "swagger-ui.css": "text/css",
}


@get("/docs/assets/{name:str}", include_in_schema=False, sync_to_thread=False)
def get_documentation_asset(name: FromPath[str]) -> Response[bytes]:
    """Return a script or the stylesheet of Swagger UI."""
    if name not in _MEDIA_TYPES:
        raise NotFoundException
    headers = {"Cache-Control": "public, max-age=3600"}
    return Response(_content(name), media_type=_MEDIA_TYPES[name], headers=headers)


@cache
def _content(name: str) -> bytes:
    return (_DIRECTORY / name).read_bytes()
