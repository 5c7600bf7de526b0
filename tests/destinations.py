"""Destinations as PostHog returns them; by default they match the desired configuration."""

from __future__ import annotations

from typing import Any

from hogsend.contract.webhooks import SECRET_HEADER
from services.provisioner.destination.desired import IDENTIFIED
from services.provisioner.destination.drift import BODY

PUBLIC_URL = "https://t.example.com"
WEBHOOK_URL = f"{PUBLIC_URL}/v1/webhooks/posthog"
SECRET = "env-secret"
OTHER_HOST = "other.example.com"
OTHER_URL = f"https://{OTHER_HOST}/v1/webhooks/posthog"
OTHER_SECRET = "their-secret"
PLACEHOLDER_URL = "https://CHANGEME.yourdomain.com/v1/webhooks/posthog"


def inputs(url: str = WEBHOOK_URL, secret: str | None = SECRET, **changes: Any) -> dict[str, Any]:
    """Return the inputs of a destination; `changes` replace whole inputs."""
    headers = {"Content-Type": "application/json"}
    if secret is not None:
        headers[SECRET_HEADER] = secret
    return {
        "url": {"value": url},
        "method": {"value": "POST"},
        "body": {"value": BODY},
        "headers": {"value": headers},
        "debug": {"value": False},
        **changes,
    }


def filters(*properties: Any) -> dict[str, Any]:
    """Return the filters of a compliant destination, with other entries before our own."""
    return {"source": "events", "properties": [*properties, IDENTIFIED]}


def compliant(**changes: Any) -> dict[str, Any]:
    """Return the fields of a compliant destination; `changes` replace whole fields."""
    return {"inputs": inputs(), "filters": filters(), **changes}
