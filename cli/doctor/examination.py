"""Asking the server: its health, and with an admin key its PostHog side (contract 8.6)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Raw, UnsetType

from cli import environment
from cli.connect.server import ConnectInfo, HogsendServer, ServerRefused
from cli.connect.target import Target, how_to_give_a_key
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
from hogsend.urls import is_loopback

NOT_FOUND = 404
REFUSED_KEY = (401, 403)


class Unreachable(Exception):
    """Nobody answered with a health document."""


@dataclass(frozen=True)
class Analytics:
    """The PostHog side: lines for the report, and what the server said, as it came."""

    checks: list[Check]
    credential_state: str | None = None
    said: Raw | UnsetType = UNSET
    server_knows: bool = False
    """Whether person reads are answered for by the server."""


@dataclass(frozen=True)
class Examination:
    """Everything there is to say about a server."""

    verdict: Verdict
    checks: list[Check]
    health: Health
    health_document: Raw
    analytics: Raw | UnsetType


class _Said(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What goes into the JSON report when there is no diagnosis."""

    connect_info: Raw | UnsetType = UNSET
    error: str | UnsetType = UNSET


def examine(server: HogsendServer, target: Target) -> Examination:
    """Ask everything that can be asked with the key there is.

    Raises:
        Unreachable: no health document came.
    """
    try:
        answer = server.health()
        health = msgspec.json.decode(answer, type=Health)
    except ServerRefused as refused:
        raise Unreachable(str(refused)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreachable(
            f"{target.base_url} answered, but not with Hogsend's health document ({error})"
        ) from None
    analytics = _analytics(server, target)
    checks = health_checks(health)
    if analytics.credential_state is None:
        checks += credential_checks(health)
    checks += analytics.checks
    if not analytics.server_knows:
        checks += _local_hint()
    verdict = verdict_of(health, analytics.credential_state)
    return Examination(verdict, checks, health, Raw(answer), analytics.said)


def _analytics(server: HogsendServer, target: Target) -> Analytics:
    if target.admin_key is None:
        says = "not asked: no admin key"
        fix = f"{how_to_give_a_key(target)}; then the rest is shown too"
        return Analytics([Check(Mark.NOTE, "PostHog", says, (fix,))])
    try:
        info, raw_info = server.connect_info()
    except ServerRefused as refused:
        said = Raw(msgspec.json.encode(_Said(error=str(refused))))
        return Analytics([_refused(refused, target)], said=said)
    try:
        answer = server.diagnosis()
        seen = msgspec.json.decode(answer, type=Diagnosis)
    except ServerRefused as refused:
        problem = _no_diagnosis() if refused.status == NOT_FOUND else _refused(refused, target)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problem = Check(Mark.NOTE, "PostHog", f"the server's diagnosis cannot be read ({error})")
    else:
        return Analytics(diagnosis_checks(seen), seen.credential.state, Raw(answer), True)  # noqa: FBT003
    said = Raw(msgspec.json.encode(_Said(Raw(raw_info))))
    known = info.personal_key_configured is True or bool(info.scope_gap)
    return Analytics([*_connect_info_checks(info), problem], said=said, server_knows=known)


def _connect_info_checks(info: ConnectInfo) -> list[Check]:
    checks = [
        Check(Mark.OK, "PostHog", info.private_host)
        if info.private_host
        else Check(Mark.NOTE, "PostHog", "no host is configured"),
    ]
    if info.personal_key_configured is not None:
        says = "set" if info.personal_key_configured else "not set"
        mark = Mark.OK if info.personal_key_configured else Mark.NOTE
        checks.append(Check(mark, "personal key", says))
    if info.webhook_secret_configured is not None:
        says = "present" if info.webhook_secret_configured else "absent"
        mark = Mark.OK if info.webhook_secret_configured else Mark.NOTE
        checks.append(Check(mark, "webhook secret", says))
    if info.scope_gap:
        checks.append(missing_scopes(info.scope_gap))
    if is_loopback(info.api_public_url):
        says = f"{info.api_public_url}, which only its own machine reaches"
        fix = "set API_PUBLIC_URL to the address PostHog can reach"
        checks.append(Check(Mark.NOTE, "public URL", says, (fix,)))
    else:
        checks.append(Check(Mark.OK, "public URL", info.api_public_url))
    return checks


def _no_diagnosis() -> Check:
    return Check(
        Mark.NOTE,
        "more",
        "this server has no diagnosis, so person reads and the destination were not looked at",
    )


def _refused(refused: ServerRefused, target: Target) -> Check:
    fix = None
    if refused.status in REFUSED_KEY:
        fix = "the admin key is not this server's ADMIN_API_KEY, or may not do this; "
        fix += how_to_give_a_key(target)
    return Check(Mark.NOTE, "PostHog", f"the server did not say: {refused}", (fix,))


def _local_hint() -> list[Check]:
    # Upstream's heuristic (contract 8.6, D-7), for when nobody better can be asked.
    first = environment.first
    if not first("POSTHOG_API_KEY") or first("POSTHOG_PERSONAL_API_KEY"):
        return []
    return [
        Check(
            Mark.NOTE,
            "person reads",
            "off, going by this directory alone: POSTHOG_API_KEY is set, and it can never read",
            ("run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY on the server",),
        )
    ]
