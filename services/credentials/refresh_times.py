"""When a grant is refreshed: what is due, what backs off, and how long PostHog takes an old token.

Decisions only; `refresh` carries them out. `now` is the time by this replica's clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hogsend.contract.credentials import OAuthPayload, token_digest
from services.credentials.stored import RefreshState, SealedRow, Snapshot

SKEW = timedelta(seconds=60)
"""A token is refreshed when this much of its life is left."""
BACK_OFF = timedelta(seconds=60)
"""Time from a failed refresh to the next attempt, over all replicas."""
LOST_BACK_OFF = timedelta(seconds=15)
"""Time from a lost answer to the next attempt, over all replicas. PostHog may have rotated the
token when the request arrived. With attempts of 10 s there are four repetitions before the 120 s
are over, whichever attempt it was that rotated."""
GRACE = timedelta(seconds=120)
"""How long PostHog takes a refresh token that it has rotated. For as long, an attempt whose answer
was lost is followed by others at `LOST_BACK_OFF`, also where those are refused or do not arrive."""
INTERVAL = timedelta(seconds=60)
"""Least time from a refresh to the next one, over all replicas, however short a token lives and
whichever caller reports it as rejected."""
IDLE = timedelta(days=7)
"""A grant of this age is refreshed even if its access token lives longer: PostHog's refresh tokens
end after 30 days."""


def is_fresh(grant: OAuthPayload, now: datetime) -> bool:
    """Whether a grant's access token has more than `SKEW` left."""
    # Not the time before it expires: nothing is before the first moment there is.
    return grant.expires_at > now + SKEW


def is_due(stored: Snapshot, grant: OAuthPayload | None, now: datetime) -> bool:
    """Whether a grant is to be refreshed without anybody asking for its token.

    Args:
        stored: what there is of the provider.
        grant: what its row holds; None when there is none, or none that can be read.
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
    """Whether a grant whose token is asked for is refreshed first.

    Args:
        stored: what there is, read under the lock: while this replica waited for it, another one
            may have refreshed.
        row: the grant's.
        grant: what it holds.
        rejected_sha256: digest of an access token that PostHog rejected, however fresh it is.
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
    """Start of an earlier attempt that PostHog may have answered with a token which it expects.

    None when there is none, or when its time is over.
    """
    started = state.started_at if state else None
    return started if started is not None and now < started + GRACE else None


def may_be_answered_elsewhere(state: RefreshState | None, now: datetime) -> bool:
    """Whether a replica may have the answer to a refresh that is not stored, too late to ask.

    PostgreSQL may have been away, or taken no writes, for longer than the grace.
    """
    return state is not None and state.is_interrupted and not unanswered_since(state, now)


def failed_at(now: datetime, retry_after: float | None, *, lost: bool) -> datetime:
    """When a refresh counts as failed, so that its back-off ends no earlier than asked for.

    Args:
        now: when it failed.
        retry_after: after how many seconds the endpoint wants to be asked again.
        lost: whether its answer is lost. The next attempt must come while the old token works,
            whatever the endpoint wants.
    """
    asked = timedelta(seconds=retry_after or 0)
    return now + (timedelta(0) if lost else max(timedelta(0), asked - BACK_OFF))


def _is_idle(row: SealedRow, now: datetime) -> bool:
    return row.updated_at + IDLE < now


def _is_recent(stored: Snapshot, row: SealedRow, now: datetime) -> bool:
    # A grant that connecting has just stored may have expired: it is refreshed at once.
    return stored.change == "refreshed" and now < row.updated_at + INTERVAL


def _backs_off(state: RefreshState | None, now: datetime) -> bool:
    if state is None or state.failed_at is None or state.is_interrupted:
        return False
    pause = LOST_BACK_OFF if state.is_answer_lost else BACK_OFF
    return now < state.failed_at + pause


def _is_unanswered(state: RefreshState | None) -> bool:
    return state is not None and (state.is_interrupted or state.is_answer_lost)
