"""Decides when a grant is refreshed: when a refresh is due, and how failed refreshes back off.

Pure functions; `refresh` acts on them. `now` is the time by this replica's clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hogsend.contract.credentials import OAuthPayload, token_digest
from services.credentials.records import RefreshState, SealedRow, Snapshot

SKEW = timedelta(seconds=60)
"""An access token is refreshed when it expires within this time."""
BACK_OFF = timedelta(seconds=60)
"""Time from a failed refresh to the next attempt, over all replicas."""
LOST_BACK_OFF = timedelta(seconds=15)
"""Time from a lost response to the next attempt, over all replicas. PostHog may have rotated the
token when the request arrived. With attempts of up to 10 s, four more attempts fit into `GRACE`,
whichever attempt it was that rotated the token."""
GRACE = timedelta(seconds=120)
"""How long PostHog accepts a refresh token after rotating it. During this time, a lost response is
followed by attempts at intervals of `LOST_BACK_OFF`, even if these are refused or do not arrive."""
INTERVAL = timedelta(seconds=60)
"""Shortest time from one refresh to the next, over all replicas, even if the token expires sooner
or a caller reports it as rejected."""
IDLE = timedelta(days=7)
"""A grant that was not refreshed for this long is refreshed even if its access token is valid for
longer: PostHog's refresh tokens expire after 30 days."""


def is_fresh(grant: OAuthPayload, now: datetime) -> bool:
    """Whether a grant's access token is valid for longer than `SKEW`."""
    # Not `expires_at - SKEW > now`: that overflows for the earliest dates.
    return grant.expires_at > now + SKEW


def is_due(stored: Snapshot, grant: OAuthPayload | None, now: datetime) -> bool:
    """Whether the periodic check should refresh a grant, without a request for its token.

    Args:
        stored: the provider's rows and refresh state.
        grant: the unsealed grant; None when there is none or it cannot be read.
        now: the time.
    """
    state = stored.refresh
    if state is not None and state.needs_reconnect:
        return False
    if _is_unanswered(state):
        return not _backs_off(state, now)
    row = stored.rows.get("oauth")
    if row is None or grant is None or _backs_off(state, now) or _is_recent(stored, row, now):
        return False
    return not is_fresh(grant, now) or _is_idle(row, now)


def must_refresh(
    stored: Snapshot,
    row: SealedRow,
    grant: OAuthPayload,
    rejected_sha256: str | None,
    now: datetime,
) -> bool:
    """Whether a grant must be refreshed before its access token is used.

    Args:
        stored: the provider's rows and refresh state, read under the refresh lock: another replica
            may have refreshed while this one waited for the lock.
        row: the sealed row of the grant.
        grant: the unsealed grant.
        rejected_sha256: digest of an access token that PostHog rejected; it is refreshed even if
            it has not expired.
        now: the time.
    """
    state = stored.refresh
    if _backs_off(state, now) or _is_recent(stored, row, now):
        return False
    return (
        not is_fresh(grant, now)
        or rejected_sha256 == token_digest(grant.access_token)
        or _is_idle(row, now)
        or _is_unanswered(state)
    )


def unanswered_since(state: RefreshState | None, now: datetime) -> datetime | None:
    """Return the start of the earliest attempt within `GRACE` that got no response; else None.

    PostHog may have rotated the refresh token in that attempt.
    """
    started = state.started_at if state else None
    return started if started is not None and now < started + GRACE else None


def may_be_refreshed_elsewhere(state: RefreshState | None, now: datetime) -> bool:
    """Whether another replica may have a refreshed grant in memory, and `GRACE` is over.

    This happens when PostgreSQL is unavailable, or accepts no writes, for longer than `GRACE`. By
    then PostHog no longer accepts the stored refresh token, and its use may revoke the grant.
    """
    return state is not None and state.is_interrupted and not unanswered_since(state, now)


def failed_at(now: datetime, retry_after: float | None, *, response_lost: bool) -> datetime:
    """Return the failure time to record, so that the back-off ends no earlier than `retry_after`.

    Args:
        now: when the refresh failed.
        retry_after: seconds that the endpoint asked to wait.
        response_lost: whether the response was lost. Then `retry_after` is ignored: the next
            attempt must start while the previous refresh token is still accepted.
    """
    requested = timedelta(seconds=retry_after or 0)
    return now + (timedelta(0) if response_lost else max(timedelta(0), requested - BACK_OFF))


def _is_idle(row: SealedRow, now: datetime) -> bool:
    return row.updated_at + IDLE < now


def _is_recent(stored: Snapshot, row: SealedRow, now: datetime) -> bool:
    # Only after a refresh: a grant that was just stored by connecting may have expired already,
    # and is refreshed at once.
    return stored.change == "refreshed" and now < row.updated_at + INTERVAL


def _backs_off(state: RefreshState | None, now: datetime) -> bool:
    if state is None or state.failed_at is None or state.is_interrupted:
        return False
    pause = LOST_BACK_OFF if state.is_response_lost else BACK_OFF
    return now < state.failed_at + pause


def _is_unanswered(state: RefreshState | None) -> bool:
    return state is not None and (state.is_interrupted or state.is_response_lost)
