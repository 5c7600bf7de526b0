"""The checks of the report, and the checks of the health document (contract 8.6)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from cli.doctor.remedies import (
    REPLICAS_REMEDY,
    SIZE_REMEDY,
    UNKNOWN_REMEDY,
    WORKERS_REMEDY,
    remedy,
    webhook_limit_warning,
)
from cli.health import Health, Part, Track, parts


class Mark(StrEnum):
    """The outcome of a check. A problem or an unknown outcome makes the exit code 1."""

    OK = "ok"
    NOTE = "note"
    UNKNOWN = "unknown"
    PROBLEM = "problem"


class Verdict(StrEnum):
    """The result as one word. Scripts rely on these names."""

    OK = "ok"
    DEGRADED = "degraded"
    MIGRATION_PENDING = "migration_pending"
    UNAUTHORIZED = "unauthorized"
    """The server works but refused the admin key, so its connection to PostHog was not checked."""
    UNREACHABLE = "unreachable"


class Check(msgspec.Struct, frozen=True):
    """One line of the report, with indented lines below it."""

    mark: Mark
    name: str
    text: str
    below: tuple[str | None, ...] = ()
    """The lines below: detail, then remediation. None is skipped."""

    @property
    def is_well(self) -> bool:
        """Whether the check allows the verdict `ok`."""
        return self.mark in {Mark.OK, Mark.NOTE}


_CREDENTIAL_REMEDIES = {
    "needs_reconnect": "run `hogsend connect {provider}` again",
    "unreadable": "set BETTER_AUTH_SECRET_PREVIOUS to the earlier secret; or run "
    "`hogsend disconnect {provider}`, then `hogsend connect {provider}`",
    "unknown": "start the credentials service, which knows the state, or what it waits for",
}
"""Fixes for a credential, by its state. Other states need no fix."""

_STATUS = {
    "healthy": Verdict.OK,
    "degraded": Verdict.DEGRADED,
    "migration_pending": Verdict.MIGRATION_PENDING,
}


def verdict_of(health: Health, checks: Sequence[Check], *, key_refused: bool = False) -> Verdict:
    """Return the verdict on a server that responded.

    A failed check makes it `degraded` even if the health document itself reports no problem.
    """
    verdict = _STATUS.get(health.status, Verdict.DEGRADED)
    if verdict is not Verdict.OK:
        return verdict
    if key_refused:
        return Verdict.UNAUTHORIZED
    return Verdict.OK if all(check.is_well for check in checks) else Verdict.DEGRADED


def health_checks(health: Health) -> list[Check]:
    """Return the checks of every component and service, then of the migrations."""
    checks = [_part(name, part) for name, part in parts(health).items()]
    tracks = ((health.schema.engine, "schema"), (health.schema.client, "client schema"))
    checks += [check for track, name in tracks if (check := _schema(track, name)) is not None]
    if not any(check.name.endswith("schema") for check in checks):
        checks.append(Check(Mark.OK, "schema", "all migrations applied"))
    return checks


def _schema(track: Track, name: str) -> Check | None:
    fix = "start the new version of every service: each applies its own migrations"
    if track.pending:
        return Check(Mark.PROBLEM, name, f"migrations pending: {', '.join(track.pending)}", (fix,))
    if track.in_sync:
        return None
    if track.applied is None:
        below = ("start the parts that are not up above",)
        return Check(Mark.UNKNOWN, name, "no service could check it", below)
    return Check(Mark.PROBLEM, name, "migrations pending: the schema is behind", (fix,))


def credential_checks(health: Health) -> list[Check]:
    """Return the checks of credentials in the health document that have a problem."""
    service = health.services.get("credentials")
    remedies = dict(_CREDENTIAL_REMEDIES)
    if service is not None and service.status == "unknown":
        remedies["unknown"] = UNKNOWN_REMEDY
    return [
        Check(
            Mark.UNKNOWN if credential.state == "unknown" else Mark.PROBLEM,
            f"{provider} credential",
            credential.state.replace("_", " "),
            (remedies[credential.state].format(provider=provider),),
        )
        for provider, credential in health.credentials.items()
        if credential.state in remedies
    ]


def _part(name: str, part: Part) -> Check:
    facts = [
        part.status,
        f"{part.latency_ms:.1f} ms" if part.latency_ms is not None else "",
        f"up for {duration(part.uptime)}" if part.uptime is not None else "",
        f"database {part.database}" if part.database not in {None, "up"} else "",
        f"waiting: {part.waits_for}" if part.waits_for else "",
        part.workers_summary,
    ]
    text = ", ".join(fact for fact in facts if fact)
    below = [*part.problems, REPLICAS_REMEDY] if part.problems else []
    if part.webhook_limit_bytes is not None:
        below += [webhook_limit_warning(part.webhook_limit_bytes), SIZE_REMEDY]
    if below:
        down = () if part.status == "up" else (remedy(name, part),)
        return Check(Mark.PROBLEM, name, text, (*below, *down))
    if part.status == "up" and part.lacks_workers:
        return Check(Mark.PROBLEM, name, text, (WORKERS_REMEDY,))
    if part.status == "up" and part.database in {None, "up"}:
        return Check(Mark.OK, name, text)
    mark = Mark.UNKNOWN if part.status == "unknown" else Mark.PROBLEM
    if name == "worker":
        # Upstream is healthy without its worker (contract 8.6).
        mark = Mark.NOTE
    return Check(mark, name, text, (remedy(name, part),))


def duration(seconds: float) -> str:
    """Return a duration as text, in the largest unit that it has at least two of."""
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:  # noqa: PLR2004
        return f"{days:.0f} days"
    if hours >= 2:  # noqa: PLR2004
        return f"{hours:.0f} hours"
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{seconds:.0f} s"  # noqa: PLR2004
