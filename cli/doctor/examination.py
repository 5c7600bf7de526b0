"""Requests the server's health and, with the admin key, its diagnosis (contract 8.6)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

from cli import environment
from cli.admin.client import AdminClient
from cli.admin.errors import AdminError
from cli.admin.messages import ConnectInfo
from cli.console import quantity
from cli.doctor.checks import (
    Check,
    Mark,
    Verdict,
    credential_checks,
    health_checks,
    verdict_of,
)
from cli.doctor.diagnosis import Diagnosis, diagnosis_checks, missing_scopes
from cli.health import Health
from cli.server_address import ServerAddress, admin_key_hint
from hogsend.contract.json_text import NOT_JSON
from hogsend.urls import is_loopback

_FIX_ABOVE = "fix the problems above, then run this command again"
NOT_FOUND = 404
KEY_REFUSED = (401, 403)


class Unreachable(Exception):
    """The server did not respond, or not with a health document."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


@dataclass(frozen=True)
class Analytics:
    """The connection to PostHog: checks for the report, and the server's undecoded response."""

    checks: list[Check]
    credential_state: str | None = None
    response: Raw | UnsetType = UNSET
    has_person_reads: bool = False
    """Whether the server reported on person reads."""
    key_refused: bool = False


@dataclass(frozen=True)
class Examination:
    """The result of `doctor` for a server that responded."""

    verdict: Verdict
    checks: list[Check]
    health: Health
    health_document: Raw
    analytics: Raw | UnsetType
    dead_letters: int | None
    """Number of dead letters; None if it is unknown."""


class _Partial(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The part of the JSON document about PostHog, for a server without a diagnosis."""

    connect_info: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET


def examine(client: AdminClient, address: ServerAddress) -> Examination:
    """Request the health and, as far as the admin key permits, everything else.

    Raises:
        Unreachable: the server did not respond with a health document.
    """
    try:
        document = client.health()
        health = msgspec.json.decode(document, type=Health)
    except AdminError as error:
        raise Unreachable(error.problem, error.fix) from None
    except NOT_JSON as error:
        raise Unreachable(
            f"{address.base_url} did not reply with Hogsend's health document ({error})",
            "pass the URL of a Hogsend server as --url",
        ) from None
    analytics = _analytics(client, address)
    checks = health_checks(health)
    if analytics.credential_state is None:
        checks += credential_checks(health)
    checks += analytics.checks
    dead_letters = None
    if analytics.has_person_reads and analytics.credential_state is not None:
        check, dead_letters = _dead_letters(client)
        checks.append(check)
    if not analytics.has_person_reads:
        checks += _local_hint()
    verdict = verdict_of(health, checks, key_refused=analytics.key_refused)
    return Examination(verdict, checks, health, Raw(document), analytics.response, dead_letters)


def _analytics(client: AdminClient, address: ServerAddress) -> Analytics:
    if address.admin_key is None:
        text = "not checked: no admin key"
        fix = f"{admin_key_hint(address)}; then run this command again"
        return Analytics([Check(Mark.NOTE, "PostHog", text, (fix,))])
    try:
        info, raw_info = client.connect_info()
    except AdminError as error:
        response = Raw(msgspec.json.encode(_Partial(error=str(error))))
        return Analytics(
            [_failed(error, address)], response=response, key_refused=error.status in KEY_REFUSED
        )
    key_refused = False
    try:
        document = client.diagnosis()
        diagnosis = msgspec.json.decode(document, type=Diagnosis)
    except AdminError as error:
        problem = _no_diagnosis() if error.status == NOT_FOUND else _failed(error, address)
        key_refused = error.status in KEY_REFUSED
    except NOT_JSON as error:
        problem = Check(
            Mark.UNKNOWN,
            "PostHog",
            f"the server's diagnosis cannot be read ({error})",
            ("use the `hogsend` of the server's version, or check for a proxy in between",),
        )
    else:
        return Analytics(
            diagnosis_checks(diagnosis),
            diagnosis.credential.state,
            Raw(document),
            has_person_reads=True,
        )
    return Analytics(
        [*_connect_info_checks(info), problem],
        response=Raw(msgspec.json.encode(_Partial(Raw(raw_info)))),
        has_person_reads=info.personal_key_configured is True or bool(info.scope_gap),
        key_refused=key_refused,
    )


def _dead_letters(client: AdminClient) -> tuple[Check, int | None]:
    """Return the check of dead letters, and their number.

    Dead letters wait for the operator and block nothing else, so they are only a note.
    """
    name = "dead letters"
    try:
        count = client.dead_letters(None, None, 1).total
    except AdminError as error:
        text = f"not counted: {error}"
        return Check(Mark.NOTE, name, text, (_FIX_ABOVE,)), None
    if not count:
        return Check(Mark.OK, name, "none"), 0
    text = f"{quantity(count, 'message')} could not be processed"
    fix = (
        "`hogsend dlq list` shows the reasons; fix the cause, then run `hogsend dlq replay` or "
        "`hogsend dlq purge`"
    )
    return Check(Mark.NOTE, name, text, (fix,)), count


def _connect_info_checks(info: ConnectInfo) -> list[Check]:
    checks = [
        Check(Mark.OK, "PostHog", info.private_host)
        if info.private_host
        else Check(Mark.NOTE, "PostHog", "no host is configured"),
    ]
    if info.personal_key_configured is not None:
        text = "set" if info.personal_key_configured else "not set"
        mark = Mark.OK if info.personal_key_configured else Mark.NOTE
        checks.append(Check(mark, "personal key", text))
    if info.webhook_secret_configured is not None:
        text = "present" if info.webhook_secret_configured else "absent"
        mark = Mark.OK if info.webhook_secret_configured else Mark.NOTE
        checks.append(Check(mark, "webhook secret", text))
    if info.scope_gap:
        checks.append(missing_scopes(info.scope_gap))
    if is_loopback(info.api_public_url):
        text = f"{info.api_public_url}, a loopback address"
        fix = "set API_PUBLIC_URL to a URL that PostHog can reach"
        checks.append(Check(Mark.NOTE, "public URL", text, (fix,)))
    else:
        checks.append(Check(Mark.OK, "public URL", info.api_public_url))
    return checks


def _no_diagnosis() -> Check:
    return Check(
        Mark.NOTE,
        "more",
        "person reads and the webhook destination were not checked: the server has no diagnosis",
    )


def _failed(error: AdminError, address: ServerAddress) -> Check:
    if error.status in KEY_REFUSED:
        text = f"the server refused the request: {error}"
        reason = "the admin key is not this server's ADMIN_API_KEY, or may not read this"
        return Check(Mark.PROBLEM, "admin key", text, (reason, admin_key_hint(address)))
    # The server may have failed, not responded, or responded with something else.
    below = (error.detail, error.remediation or _FIX_ABOVE)
    return Check(Mark.UNKNOWN, "PostHog", f"not checked: {error}", below)


def _local_hint() -> list[Check]:
    # Upstream's heuristic (contract 8.6, D-7), for servers that do not report on person reads.
    first = environment.first
    if not first("POSTHOG_API_KEY") or first("POSTHOG_PERSONAL_API_KEY"):
        return []
    return [
        Check(
            Mark.NOTE,
            "person reads",
            "off, judging by the settings here: POSTHOG_API_KEY alone cannot read persons",
            ("run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY on the server",),
        )
    ]
