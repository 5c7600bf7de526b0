"""Decides whether a provisioned project is kept when another grant replaces the stored one."""

from __future__ import annotations

import msgspec

from hogsend.contract.credentials import DerivedPayload, OAuthPayload
from hogsend.posthog.hosts import host_of_token_endpoint, same_host


def drop_other_project(
    derived: DerivedPayload, grant: OAuthPayload, before: OAuthPayload | None
) -> DerivedPayload:
    """Return `derived` without its project if the project belonged to the replaced grant only.

    Otherwise events would be captured in one project and persons read from another, and the token
    of a new PostHog would be sent to the host of the old one. The webhook and signing secrets
    belong to this instance and are kept.

    Args:
        derived: the stored derived payload.
        grant: the grant that replaces `before`.
        before: the stored grant; None when there is none or it cannot be read. Then the project is
            kept, because it is not known to belong to another grant.
    """
    if before is None or (
        _is_of_same_posthog(derived, grant, before) and _is_covered(derived, grant, before)
    ):
        return derived
    return msgspec.structs.replace(
        derived, project_api_key=None, project_id=None, private_host=None
    )


def _is_of_same_posthog(derived: DerivedPayload, grant: OAuthPayload, before: OAuthPayload) -> bool:
    host = host_of_token_endpoint(grant.token_endpoint)
    # PostHog's own URL in the discovery document may differ from the host that it is called at.
    return same_host(host_of_token_endpoint(before.token_endpoint), host) or (
        derived.private_host is not None and same_host(derived.private_host, host)
    )


def _is_covered(derived: DerivedPayload, grant: OAuthPayload, before: OAuthPayload) -> bool:
    if not derived.project_id or not grant.scoped_teams:
        return True
    # With the same projects as before, the operator chose a project outside the grant on purpose.
    is_another = set(grant.scoped_teams) != set(before.scoped_teams)
    return not is_another or derived.project_id in map(str, grant.scoped_teams)
