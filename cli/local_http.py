"""HTTP client for servers on this machine: the stack's gateway and the sandbox."""

from __future__ import annotations

import httpx


def local_http(
    base_url: str = "",
    *,
    key: str | None = None,
    timeout: float = 5.0,
    follow_redirects: bool = False,
) -> httpx.AsyncClient:
    """Create a client that ignores HTTP_PROXY and the like, which are for requests to PostHog.

    Args:
        base_url: prefix of relative URLs; without it, every URL must be absolute.
        key: admin key to send.
        timeout: of each request, in seconds.
        follow_redirects: whether to follow redirects.
    """
    return httpx.AsyncClient(
        base_url=base_url,
        headers={"Authorization": f"Bearer {key}"} if key else None,
        timeout=timeout,
        follow_redirects=follow_redirects,
        trust_env=False,
    )
