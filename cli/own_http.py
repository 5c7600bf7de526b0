"""HTTP to what this command runs on this machine: its gateway, and its stand-in for PostHog."""

from __future__ import annotations

import httpx


def own_http(
    base_url: str = "",
    *,
    key: str | None = None,
    timeout: float = 5.0,
    follow_redirects: bool = False,
) -> httpx.AsyncClient:
    """Make a client that asks no proxy: HTTP_PROXY and the like are for PostHog.

    Args:
        base_url: where paths begin; addresses are given whole without one.
        key: admin key to send.
        timeout: seconds an answer may take.
        follow_redirects: whether to go where an answer points.
    """
    return httpx.AsyncClient(
        base_url=base_url,
        headers={"Authorization": f"Bearer {key}"} if key else None,
        timeout=timeout,
        follow_redirects=follow_redirects,
        trust_env=False,
    )
