"""Writes the gateway's routes as `docs/openapi.json` and `docs/http.md`."""

from __future__ import annotations

import json
from typing import Any, cast

from litestar.serialization import encode_json

from hogsend.service.settings.shared import PostHogSettings, PublicUrlSettings
from services.gateway.api import build
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from services.gateway.workers.link import Workers

_KEYS = {
    "webhookSecret": "webhook secret, if there is one",
    "adminKey": "`ADMIN_API_KEY`",
    "readKey": "`ADMIN_READ_API_KEY`",
    "ingestKey": "`INGEST_API_KEY`",
}


def openapi() -> str:
    """The OpenAPI document that the gateway serves at `/docs/openapi.json`."""
    return json.dumps(_document(), indent=2, sort_keys=True) + "\n"


def page() -> str:
    """`docs/http.md`, with a table of routes for each tag."""
    document = _document()
    lines = [
        "# HTTP routes",
        "",
        (
            "The reference of the gateway's HTTP routes. [openapi.json](openapi.json) describes "
            "the same with every body, and a running gateway serves it at `/docs`, as a page for "
            "trying requests. [Keys](admin.md) describes how to send and change keys. Generated "
            "by `make generate` from the gateway's routes."
        ),
        "",
        (
            'The body of an error is `{"error": "..."}`. Every response has an `X-Request-Id`, '
            "which is also in every message and log line that the request causes. Responses are "
            "not cached unless their `Cache-Control` allows it."
        ),
        "",
        (
            "Any route answers 400 if `Host` is missing or not a valid host, and if a header that"
            " decides who sends the request, or for what, is given more than once: "
            "`Authorization`, `Host`, `Idempotency-Key`, `Origin`, `Sec-Fetch-Site`, "
            "`X-PostHog-Webhook-Secret`, and those of a signature. It answers 501 for a "
            "`Transfer-Encoding` other than `chunked`. Under `/v1/admin`, `/v1/events`, "
            "`/v1/contacts` and `/v1/flags`, a query key that the route does not know or that is "
            "given more than once is answered 400; only provisioning ignores unknown keys. The "
            "server refuses, without a body, invalid HTTP (400), an address longer than 64 KiB "
            "(414), and more than 100 headers or 128 KiB of headers (431). A client that closes "
            "its side of the connection before the response (`nc -N`, `shutdown(SHUT_WR)`) "
            "receives no response, although the request may have been carried out."
        ),
    ]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            row = (
                f"| `{method.upper()} {path}` | {_first_paragraph(operation)} "
                f"| {_keys(operation)} | {', '.join(sorted(operation['responses']))} |"
            )
            by_tag.setdefault(operation["tags"][0], []).append(row)
    for tag, rows in by_tag.items():
        head = ["| request | what it does | key | statuses |", "|---|---|---|---|"]
        lines += ["", f"## {tag}", "", *head, *rows]
    return "\n".join(lines) + "\n"


def _document() -> Any:
    # No route is called to build the document, so their dependencies may be missing.
    nothing = cast("Any", None)
    parts = Parts(
        bus=nothing,
        # Without reading the environment.
        settings=GatewaySettings.model_construct(),
        posthog=PostHogSettings.model_construct(),
        watcher=nothing,
        webhook_secret=nothing,
        signing_keys=nothing,
        size=nothing,
        spool=None,
        queue=nothing,
        workers=Workers(nothing),
    )
    app = build(parts, PublicUrlSettings.model_construct())
    return json.loads(encode_json(app.openapi_schema.to_schema()))


def _first_paragraph(operation: dict[str, Any]) -> str:
    text = operation.get("description") or operation["summary"]
    return " ".join(text.split("\n\n")[0].split())


def _keys(operation: dict[str, Any]) -> str:
    schemes = operation.get("security", [])
    return " or ".join(_KEYS[name] for scheme in schemes for name in scheme)
