"""Decides the response to a request to the loopback server (contract 3.3), without any I/O."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from cli.connect import pages
from cli.connect.oauth_errors import error_code
from cli.connect.results import ConnectError, Verdict

PATH = "/callback"
MAX_FIELDS = 32


@dataclass(frozen=True)
class Request:
    """The request line and Host header of an HTTP request."""

    method: str
    target: str
    host: str | None


@dataclass(frozen=True)
class Reply:
    """The response to the browser."""

    status: int
    body: str
    html: bool = False


@dataclass(frozen=True)
class Callback:
    """The first callback, which ends the wait: with a code, or with an error."""

    reply: Reply
    outcome: str | ConnectError = field(repr=False)


def handle_callback(
    request: Request, *, port: int, state: str, has_callback: bool
) -> Reply | Callback:
    """Decide the response to a request: a `Callback` ends the wait, a `Reply` does not.

    Args:
        request: the request.
        port: the port of the loopback server.
        state: the `state` that the callback must have.
        has_callback: whether there was a callback before.
    """
    if request.host != f"127.0.0.1:{port}":
        # DNS rebinding: a foreign page whose name now resolves to this machine.
        return Reply(403, "This server accepts requests for 127.0.0.1 only.\n")
    if request.method != "GET":
        return Reply(405, "This server accepts GET requests only.\n")
    try:
        parts = urlsplit(request.target)
        fields = parse_qs(parts.query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return Reply(400, "This is not a callback.\n")
    if parts.scheme or parts.netloc or parts.path != PATH:
        return Reply(404, "Not found.\n")
    if has_callback:
        return Reply(410, "This sign-in is complete. Return to your terminal.\n")
    return _read_callback(fields, state)


def _read_callback(fields: dict[str, list[str]], state: str) -> Callback:
    error = _only(fields, "error")
    if error == "access_denied":
        return Callback(
            Reply(200, pages.error_page("Access declined", "Nothing was connected."), html=True),
            ConnectError(
                Verdict.CONSENT_DENIED,
                "access was declined in PostHog",
                hint="run `hogsend connect posthog` again and approve the request, as a member of "
                "the project",
            ),
        )
    if "error" in fields:
        page = pages.error_page("PostHog reported an error", "Nothing was connected.")
        problem = f"PostHog refused to authorize: {error_code(error, state)}"
        return Callback(Reply(200, page, html=True), ConnectError(Verdict.EXCHANGE_FAILED, problem))
    if not hmac.compare_digest(_only(fields, "state").encode(), state.encode()):
        return Callback(
            Reply(
                400,
                pages.error_page("This page belongs to another sign-in", "Nothing was connected."),
                html=True,
            ),
            ConnectError(
                Verdict.STATE_MISMATCH,
                "the callback from the browser does not belong to this run; nothing was stored",
                hint="close older PostHog tabs and run `hogsend connect posthog` again",
            ),
        )
    code = _only(fields, "code")
    if not code:
        page = pages.error_page("The redirect is incomplete", "Nothing was connected.")
        problem = "PostHog's redirect has no authorization code"
        return Callback(Reply(400, page, html=True), ConnectError(Verdict.EXCHANGE_FAILED, problem))
    page = pages.success_page(
        "Access granted", "Your terminal completes the connection and shows the result."
    )
    return Callback(Reply(200, page, html=True), code)


def _only(fields: dict[str, list[str]], name: str) -> str:
    # A parameter must not be repeated (RFC 6749, 3.1).
    values = fields.get(name, [])
    return values[0] if len(values) == 1 else ""
