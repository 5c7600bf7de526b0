"""Ask the server for its health and, with an admin key, for its PostHog side (contract 8.6)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

from cli import environment
from cli.admin.client import AdminClient
from cli.admin.errors import AdminError
from cli.admin.messages import ConnectInfo
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

NOT_FOUND = 404
REFUSED_KEY = (401, 403)


class Unreachable(Exception):
    """The server did not answer, or not with a health document."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


@dataclass(frozen=True)
class Analytics:
    """The PostHog side: checks for the report, and the server's answer, undecoded."""

    checks: list[Check]
    credential_state: str | None = None
    answer: Raw | UnsetType = UNSET
    knows_person_reads: bool = False
    """Whether the server reported on person reads."""
    key_refused: bool = False


@dataclass(frozen=True)
class Examination:
    """The result of `doctor` for a server that answered."""

    verdict: Verdict
    checks: list[Check]
    health: Health
    health_document: Raw
    analytics: Raw | UnsetType
    dead_letters: int | None
    """How many wait; None where that is not known."""


class _Partial(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the JSON report contains when there is no diagnosis."""

    connect_info: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET


def examine(client: AdminClient, address: ServerAddress) -> Examination:
    """Ask for everything that the admin key, if there is one, gives access to.

    Raises:
        Unreachable: there is no health document.
    """
    try:
        document = client.health()
        health = msgspec.json.decode(document, type=Health)
    except AdminError as error:
        raise Unreachable(error.problem, error.fix) from None
    except NOT_JSON as error:
        raise Unreachable(
            f"{address.base_url} answered, but not with Hogsend's health document ({error})",
            "give the address of a Hogsend server with --url",
        ) from None
    analytics = _analytics(client, address)
    checks = health_checks(health)
    if analytics.credential_state is None:
        checks += credential_checks(health)
    checks += analytics.checks
    waiting = None
    if analytics.knows_person_reads and analytics.credential_state is not None:
        check, waiting = _dead_letters(client)
        checks.append(check)
    if not analytics.knows_person_reads:
        checks += _local_hint()
    verdict = verdict_of(health, checks, key_refused=analytics.key_refused)
    return Examination(verdict, checks, health, Raw(document), analytics.answer, waiting)


def _analytics(client: AdminClient, address: ServerAddress) -> Analytics:
    if address.admin_key is None:
        text = "not asked: no admin key"
        fix = f"{admin_key_hint(address)}; then the rest is shown too"
        return Analytics([Check(Mark.NOTE, "PostHog", text, (fix,))])
    try:
        info, raw_info = client.connect_info()
    except AdminError as error:
        answer = Raw(msgspec.json.encode(_Partial(error=str(error))))
        return Analytics(
            [_refused(error, address)], answer=answer, key_refused=error.status in REFUSED_KEY
        )
    key_refused = False
    try:
        document = client.diagnosis()
        diagnosis = msgspec.json.decode(document, type=Diagnosis)
    except AdminError as error:
        problem = _no_diagnosis() if error.status == NOT_FOUND else _refused(error, address)
        key_refused = error.status in REFUSED_KEY
    except NOT_JSON as error:
        problem = Check(
            Mark.UNKNOWN,
            "PostHog",
            f"the server's diagnosis cannot be read ({error})",
            ("use the `hogsend` of the server's version, or look for a proxy that answers for it",),
        )
    else:
        return Analytics(
            diagnosis_checks(diagnosis),
            diagnosis.credential.state,
            Raw(document),
            knows_person_reads=True,
        )
    answer = Raw(msgspec.json.encode(_Partial(Raw(raw_info))))
    known = info.personal_key_configured is True or bool(info.scope_gap)
    return Analytics(
        [*_connect_info_checks(info), problem],
        answer=answer,
        knows_person_reads=known,
        key_refused=key_refused,
    )


def _dead_letters(client: AdminClient) -> tuple[Check, int | None]:
    """Check for messages that wait for an operator. They stop nothing, so it is a note."""
    name = "dead letters"
    try:
        waiting = client.dead_letters(None, None, 1).total
    except AdminError as error:
        text = f"not counted: {error}"
        return Check(Mark.NOTE, name, text, ("mend what is not up above, then ask again",)), None
    if not waiting:
        return Check(Mark.OK, name, "none"), 0
    text = (
        "a message could not be processed and waits"
        if waiting == 1
        else f"{waiting} messages could not be processed and wait"
    )
    fix = "`hogsend dlq list` shows why; mend the cause, then `hogsend dlq replay`, or purge them"
    return Check(Mark.NOTE, name, text, (fix,)), waiting


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
        text = f"{info.api_public_url}, which only its own machine reaches"
        fix = "set API_PUBLIC_URL to the address PostHog can reach"
        checks.append(Check(Mark.NOTE, "public URL", text, (fix,)))
    else:
        checks.append(Check(Mark.OK, "public URL", info.api_public_url))
    return checks


def _no_diagnosis() -> Check:
    return Check(
        Mark.NOTE,
        "more",
        "this server has no diagnosis, so person reads and the destination were not checked",
    )


def _refused(error: AdminError, address: ServerAddress) -> Check:
    text = f"the server did not say: {error}"
    if error.status in REFUSED_KEY:
        fix = "the admin key is not this server's ADMIN_API_KEY, or may not do this; "
        return Check(Mark.PROBLEM, "admin key", text, (fix + admin_key_hint(address),))
    fix = error.remediation or "mend what is not up above, then ask again"
    return Check(Mark.UNKNOWN, "PostHog", text, (error.detail, fix))


def _local_hint() -> list[Check]:
    # Upstream's heuristic (contract 8.6, D-7), for servers that do not report it.
    first = environment.first
    if not first("POSTHOG_API_KEY") or first("POSTHOG_PERSONAL_API_KEY"):
        return []
    return [
        Check(
            Mark.NOTE,
            "person reads",
            "off, judging by this directory: POSTHOG_API_KEY is set, which can never read",
            ("run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY on the server",),
        )
    ]
