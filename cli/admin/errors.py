"""Errors of a server that refuses a request or does not respond (contract 0.1)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import httpx
import msgspec

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.server_address import ServerAddress, admin_key_hint
from cli.service_logs import log_of
from hogsend.contract.json_text import NOT_JSON

_PATTERN_MISMATCH = re.compile(r"Expected `str` matching regex .*", re.DOTALL)
"""An issue whose regular expression is left out: the field's name says more."""


class _Invalid(msgspec.Struct, frozen=True):
    message: str


class _Issue(msgspec.Struct, frozen=True):
    message: str
    path: list[str | int] = []

    def __str__(self) -> str:
        message = _PATTERN_MISMATCH.sub("not in the required format", self.message)
        return f"{'.'.join(map(str, self.path))}: {message}" if self.path else message


class AdminError(CommandError):
    """The server refused or did not respond. The text is that of upstream's CLI (contract 0.1).

    A command that does not catch it ends with its `problem`, which includes the server's `detail`.
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
        exit_code = ExitCode.USAGE if status == HTTPStatus.BAD_REQUEST else ExitCode.FAILED
        super().__init__(text, fix, exit_code=exit_code)
        self.status = status
        self.code = code
        self.detail = detail
        self.remediation = remediation

    @property
    def problem(self) -> str:
        """The text of the error, followed by the server's `detail`."""
        return f"{self}: {self.detail}" if self.detail else str(self)


def error_from(response: httpx.Response, address: ServerAddress) -> AdminError:
    """Return the error of a response that is not a 2xx."""
    try:
        body: Any = msgspec.json.decode(response.content)
    except NOT_JSON:
        body = None
    document = body if isinstance(body, dict) else {}
    code, detail, remediation = (
        value if isinstance(value := document.get(key), str) else None
        for key in ("error", "detail", "remediation")
    )
    if detail is None:
        detail = _issues(document.get("error"))
    if response.status_code == HTTPStatus.UNAUTHORIZED and address.admin_key is None:
        detail = "no admin key was given"
    problem = (
        f"{response.status_code}: {code}"
        if code is not None
        else f"request failed with status {response.status_code}"
    )
    return AdminError(
        problem,
        remediation or _fix(response.status_code, address),
        status=response.status_code,
        code=code,
        detail=detail,
        remediation=remediation,
    )


_FIXES = {
    HTTPStatus.NOT_FOUND: "check the name, id or number, and that --url is a Hogsend server of "
    "this version",
    HTTPStatus.TOO_MANY_REQUESTS: "wait a minute, then run it again",
    HTTPStatus.INTERNAL_SERVER_ERROR: f"see the gateway's log ({log_of('gateway')}), and report it",
}
_UNAVAILABLE = "run `hogsend status` to see what is down, start it, then run this command again"
_REDIRECTED = "pass the URL that the server redirects to as --url: redirects are not followed"


def _fix(status: int, address: ServerAddress) -> str:
    """Return the fix for a refusal that has no remediation by the server."""
    if status == HTTPStatus.UNAUTHORIZED:
        return admin_key_hint(address)
    if status == HTTPStatus.FORBIDDEN:
        return f"use a key with permission for this; {admin_key_hint(address)}"
    if status in _FIXES:
        return _FIXES[HTTPStatus(status)]
    if status > HTTPStatus.INTERNAL_SERVER_ERROR:
        return _UNAVAILABLE
    return (
        "correct the option or value that the error names"
        if status >= HTTPStatus.BAD_REQUEST
        else _REDIRECTED
    )


def _issues(error: object) -> str | None:
    """Join the issues inside a `ZodError` (contract 0.1)."""
    try:
        invalid = msgspec.convert(error, _Invalid)
        issues = msgspec.json.decode(invalid.message, type=list[_Issue])
    except NOT_JSON:
        return None
    return "; ".join(map(str, issues)) or None
