"""What a request to the loopback server means (contract 3.3). Knows nothing of sockets."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from cli.connect import pages
from cli.connect.secrecy import error_code
from cli.connect.verdicts import Stopped, Verdict

PATH = "/callback"
MAX_FIELDS = 32


@dataclass(frozen=True)
class Request:
    """First line and Host of an HTTP request."""

    method: str
    target: str
    host: str | None


@dataclass(frozen=True)
class Reply:
    """What the browser gets."""

    status: int
    body: str
    html: bool = False


@dataclass(frozen=True)
class Answer:
    """The first callback, which is final: a code, or why there is none."""

    reply: Reply
    outcome: str | Stopped = field(repr=False)


def judge(request: Request, *, port: int, state: str, answered: bool) -> Reply | Answer:
    """Decide on a request: a plain reply leaves the run waiting, an `Answer` ends the wait."""
    if request.host != f"127.0.0.1:{port}":
        # A page elsewhere whose name was made to resolve to this machine (DNS rebinding).
        return Reply(403, "This server answers to 127.0.0.1 only.\n")
    if request.method != "GET":
        return Reply(405, "Only GET is answered here.\n")
    try:
        parts = urlsplit(request.target)
        fields = parse_qs(parts.query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return Reply(400, "This is not a callback.\n")
    if parts.scheme or parts.netloc or parts.path != PATH:
        return Reply(404, "Not found.\n")
    if answered:
        return Reply(410, "This sign-in is already answered. Return to your terminal.\n")
    return _read(fields, state)


def _read(fields: dict[str, list[str]], state: str) -> Answer:
    error = _only(fields, "error")
    if error == "access_denied":
        return Answer(
            Reply(200, pages.bad("Access declined", "Nothing was connected."), html=True),
            Stopped(
                Verdict.CONSENT_DENIED,
                "access was declined in PostHog",
                hint="run `hogsend connect posthog` again and approve it; you need to be a member "
                "of the project",
            ),
        )
    if "error" in fields:
        page = pages.bad("PostHog reported an error", "Nothing was connected.")
        problem = f"PostHog refused to authorize: {error_code(error, state)}"
        return Answer(Reply(200, page, html=True), Stopped(Verdict.EXCHANGE_FAILED, problem))
    if not hmac.compare_digest(_only(fields, "state").encode(), state.encode()):
        return Answer(
            Reply(
                400,
                pages.bad("This answer is not for us", "It belongs to another sign-in."),
                html=True,
            ),
            Stopped(
                Verdict.STATE_MISMATCH,
                "the answer in the browser does not belong to this run; nothing was stored",
                hint="close older PostHog tabs and run `hogsend connect posthog` again",
            ),
        )
    code = _only(fields, "code")
    if not code:
        page = pages.bad("The answer is incomplete", "Nothing was connected.")
        problem = "PostHog's answer carried no authorization code"
        return Answer(Reply(400, page, html=True), Stopped(Verdict.EXCHANGE_FAILED, problem))
    page = pages.good(
        "Access granted", "Your terminal is finishing the connection and shows how it went."
    )
    return Answer(Reply(200, page, html=True), code)


def _only(fields: dict[str, list[str]], name: str) -> str:
    # A parameter must not be there twice (RFC 6749, 3.1).
    values = fields.get(name, [])
    return values[0] if len(values) == 1 else ""
