"""Whether the project that is stored beside a grant is one of the next grant's."""

from __future__ import annotations

import msgspec

from hogsend.contract.credentials import DerivedPayload, OAuthPayload
from hogsend.posthog.hosts import host_of_token_endpoint, same_host


def without_another_project(
    derived: DerivedPayload, grant: OAuthPayload, before: OAuthPayload | None
) -> DerivedPayload:
    """Give what of `derived` counts beside `grant`: without its project where that is another one.

    Else events would be captured into one project and persons be read from another, and a new
    PostHog's token be sent to the host of the old one. The secrets are this instance's, and stay.

    Args:
        derived: what is stored.
        grant: what takes the place of `before`.
        before: the stored grant; None when there is none, or it cannot be read.
    """
    if _is_covered(derived, grant) and _is_of_same_posthog(derived, grant, before):
        return derived
    return msgspec.structs.replace(
        derived, project_api_key=None, project_id=None, private_host=None
    )


def _is_covered(derived: DerivedPayload, grant: OAuthPayload) -> bool:
    if not derived.project_id or not grant.scoped_teams:
        return True
    return derived.project_id in map(str, grant.scoped_teams)


def _is_of_same_posthog(
    derived: DerivedPayload, grant: OAuthPayload, before: OAuthPayload | None
) -> bool:
    host = host_of_token_endpoint(grant.token_endpoint)
    if derived.private_host and same_host(derived.private_host, host):
        return True
    # PostHog may be called under another address than the one it gives for itself.
    if before is not None:
        return same_host(host_of_token_endpoint(before.token_endpoint), host)
    return not derived.private_host
