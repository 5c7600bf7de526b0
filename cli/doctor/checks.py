"""The checks of the report, and those that follow from the server's health (contract 8.6)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from cli.health import Health, Part, parts


class Mark(StrEnum):
    """The outcome of a check. Only a problem changes the exit code."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Verdict(StrEnum):
    """The result in one word. Scripts rely on these names."""

    OK = "ok"
    DEGRADED = "degraded"
    MIGRATION_PENDING = "migration_pending"
    UNREACHABLE = "unreachable"


class Check(msgspec.Struct, frozen=True):
    """One line of the report, with the lines below it."""

    mark: Mark
    name: str
    text: str
    below: tuple[str | None, ...] = ()
    """Detail, then remediation; None is left out."""


NEEDS_OPERATOR = frozenset({"needs_reconnect", "unreadable"})
"""States of a credential that only an operator can resolve."""

_STATUS = {
    "healthy": Verdict.OK,
    "degraded": Verdict.DEGRADED,
    "migration_pending": Verdict.MIGRATION_PENDING,
}


def verdict_of(health: Health, credential_state: str | None) -> Verdict:
    """Verdict on a server that answered; an unusable credential makes a healthy one degraded."""
    verdict = _STATUS.get(health.status, Verdict.DEGRADED)
    states = {credential.state for credential in health.credentials.values()} | {credential_state}
    if verdict is Verdict.OK and states & NEEDS_OPERATOR:
        return Verdict.DEGRADED
    return verdict


def health_checks(health: Health) -> list[Check]:
    """Check every component and service, then the migrations."""
    checks = [_part(name, part) for name, part in parts(health).items()]
    for track, name in ((health.schema.engine, "schema"), (health.schema.client, "client schema")):
        if not track.in_sync or track.pending:
            pending = ", ".join(track.pending) or "it is behind"
            fix = "start the new version of every service; each applies its own migrations"
            checks.append(Check(Mark.PROBLEM, name, f"migrations pending: {pending}", (fix,)))
    if not any(check.name.endswith("schema") for check in checks):
        checks.append(Check(Mark.OK, "schema", "all migrations applied"))
    return checks


def credential_checks(health: Health) -> list[Check]:
    """Check the credentials in the health document; only those with a problem are listed."""
    return [
        Check(
            Mark.PROBLEM,
            f"{provider} credential",
            credential.state.replace("_", " "),
            (f"run `hogsend connect {provider}` again",),
        )
        for provider, credential in health.credentials.items()
        if credential.state in NEEDS_OPERATOR
    ]


def _part(name: str, part: Part) -> Check:
    facts = [
        part.status,
        f"{part.latency_ms:g} ms" if part.latency_ms is not None else "",
        f"up for {duration(part.uptime)}" if part.uptime is not None else "",
        f"database {part.database}" if part.database not in {None, "up"} else "",
        f"waiting: {part.waits_for}" if part.waits_for else "",
    ]
    mark = Mark.OK
    if part.status != "up" or part.database not in {None, "up"}:
        # Upstream is healthy without its worker (contract 8.6).
        mark = Mark.NOTE if name == "worker" else Mark.PROBLEM
    return Check(mark, name, ", ".join(fact for fact in facts if fact))


def duration(seconds: float) -> str:
    """Format a duration, rounded to its unit."""
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:  # noqa: PLR2004
        return f"{days:.0f} days"
    if hours >= 2:  # noqa: PLR2004
        return f"{hours:.0f} hours"
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{seconds:.0f} s"  # noqa: PLR2004
