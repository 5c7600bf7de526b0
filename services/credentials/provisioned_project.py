"""Whether the project that is stored beside a grant is one of the next grant's."""

from __future__ import annotations

import msgspec

from hogsend.contract.credentials import DerivedPayload, OAuthPayload
from hogsend.posthog.hosts import host_of_token_endpoint, same_host


def without_another_project(
    derived: DerivedPayload, grant: OAuthPayload, before: OAuthPayload | None
) -> DerivedPayload:
    """Give what of `derived` counts beside `grant`: without its project if that went with `before`.

    Else events would be captured into one project and persons be read from another, and a new
    PostHog's token be sent to the host of the old one. The secrets are this instance's, and stay.

    Args:
        derived: what is stored.
        grant: what takes the place of `before`.
        before: the stored grant; None when there is none, or it cannot be read. The project came
            from no grant then, as far as is known, and stays.
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
    # PostHog may be called under another address than the one it gives for itself.
    return same_host(host_of_token_endpoint(before.token_endpoint), host) or (
        derived.private_host is not None and same_host(derived.private_host, host)
    )


def _is_covered(derived: DerivedPayload, grant: OAuthPayload, before: OAuthPayload) -> bool:
    if not derived.project_id or not grant.scoped_teams:
        return True
    # With the same projects as before, the operator stored it although it is none of them.
    is_another = set(grant.scoped_teams) != set(before.scoped_teams)
    return not is_another or derived.project_id in map(str, grant.scoped_teams)
