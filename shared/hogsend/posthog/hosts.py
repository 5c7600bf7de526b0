"""PostHog's two hosts, and how one follows from the other (contract 1.1)."""

from __future__ import annotations

import re

US_INGESTION_HOST = "https://us.i.posthog.com"

_INGESTION = re.compile(r"^(https?://[a-z0-9-]+)\.i(\.posthog\.com)(?=[:/?#]|$)", re.IGNORECASE)
_APP = re.compile(r"^(https?://(?:us|eu))(\.posthog\.com)(?=[:/?#]|$)", re.IGNORECASE)


def private_host(ingestion_host: str) -> str:
    """App host that belongs to an ingestion host: the `.i` label of PostHog Cloud removed.

    Anything that is not `<label>.i.posthog.com` comes back unchanged but for trailing slashes.
    """
    return _INGESTION.sub(r"\1\2", ingestion_host).rstrip("/")


def ingestion_host(private: str) -> str:
    """Ingestion host that belongs to an app host: PostHog Cloud's gets its `.i` label back.

    Anything but `us` and `eu` of `posthog.com` comes back unchanged but for trailing slashes.
    """
    return _APP.sub(r"\1.i\2", private).rstrip("/")
