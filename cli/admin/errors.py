"""Errors of a server that refuses a request or does not answer it (contract 0.1)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import httpx
import msgspec

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.server_address import ServerAddress, admin_key_hint
from hogsend.contract.json_text import NOT_JSON

_OF_A_PATTERN = re.compile(r"Expected `str` matching regex .*", re.DOTALL)
"""A pattern tells its reader less than the name of the field."""


class _Invalid(msgspec.Struct, frozen=True):
    message: str


class _Issue(msgspec.Struct, frozen=True):
    message: str
    path: list[str | int] = []

    def __str__(self) -> str:
        said = _OF_A_PATTERN.sub("not of the form it must have", self.message)
        return f"{'.'.join(map(str, self.path))}: {said}" if self.path else said


class AdminError(CommandError):
    """The server refused or did not answer; the text is that of upstream's CLI (contract 0.1).

    A command that lets it pass ends with its `problem`, which includes the server's `detail`.
    """

    def __init__(
        self,
        text: str,
        fix: str,
        *,
        status: int | None = None,
        code: str | None = None,
        detail: str | None = None,
        remediation: str | None = None,
    ) -> None:
        wrongly = status == HTTPStatus.BAD_REQUEST
        super().__init__(text, fix, exit_code=ExitCode.USAGE if wrongly else ExitCode.FAILED)
        self.status = status
        self.code = code
        self.detail = detail
        self.remediation = remediation

    @property
    def problem(self) -> str:
        """What the server answered, in all its words."""
        return f"{self}: {self.detail}" if self.detail else str(self)


def error_from(answer: httpx.Response, address: ServerAddress) -> AdminError:
    """Read a refusal."""
    try:
        body: Any = msgspec.json.decode(answer.content)
    except NOT_JSON:
        body = None
    document = body if isinstance(body, dict) else {}
    code, detail, remediation = (
        value if isinstance(value := document.get(key), str) else None
        for key in ("error", "detail", "remediation")
    )
    if detail is None:
        detail = _issues(document.get("error"))
    problem = (
        f"{answer.status_code}: {code}"
        if code is not None
        else f"request failed with status {answer.status_code}"
    )
    return AdminError(
        problem,
        remediation or _fix(answer.status_code, address),
        status=answer.status_code,
        code=code,
        detail=detail,
        remediation=remediation,
    )


_FIXES = {
    HTTPStatus.NOT_FOUND: "check the name or number, and that --url is a Hogsend server of this "
    "version",
    HTTPStatus.TOO_MANY_REQUESTS: "wait a minute, then run it again",
    HTTPStatus.INTERNAL_SERVER_ERROR: "see the gateway's log (.hogsend/logs/gateway.log), and "
    "report it",
}
_UNAVAILABLE = "run `hogsend status`, which names what is not up, then run it again"
_REDIRECTED = "give the address of the server itself with --url: redirects are not followed"


def _fix(status: int, address: ServerAddress) -> str:
    """Return what to do about a refusal for which the server itself has no remedy."""
    if status == HTTPStatus.UNAUTHORIZED:
        return admin_key_hint(address)
    if status == HTTPStatus.FORBIDDEN:
        return f"this key may not do that; {admin_key_hint(address)}"
    if status in _FIXES:
        return _FIXES[HTTPStatus(status)]
    if status > HTTPStatus.INTERNAL_SERVER_ERROR:
        return _UNAVAILABLE
    return (
        "correct the option or value that it names"
        if status >= HTTPStatus.BAD_REQUEST
        else _REDIRECTED
    )


def _issues(error: object) -> str | None:
    """Join the issues inside a `ZodError` (contract 0.1)."""
    try:
        found = msgspec.convert(error, _Invalid)
        issues = msgspec.json.decode(found.message, type=list[_Issue])
    except NOT_JSON:
        return None
    return "; ".join(map(str, issues)) or None
