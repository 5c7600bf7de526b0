"""Ownership: which destinations this instance may change when several instances share a project.

Stricter than contract 2.2, which takes the first destination whose path matches. Under that rule,
each run of two instances in one project would take over the other's destination.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.api import HogFunction
from hogsend.urls import is_loopback
from services.provisioner.destination.drift import header_values
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.webhook_url import instance_url, is_placeholder, same_instance


class Ownership(msgspec.Struct, frozen=True):
    """Decides whether a destination that delivers to any Hogsend belongs to this instance."""

    webhook_url: str
    secret: str | None
    """This instance's webhook secret. If None, a destination with any secret is not owned."""
    provisioned: Mapping[str, str]
    """URLs that this instance set on destinations earlier, by destination id."""
    instances: InstanceProbe

    def __repr__(self) -> str:
        """Hide the secret."""
        return f"Ownership(webhook_url={self.webhook_url!r})"

    async def is_own(self, function: HogFunction) -> bool:
        """Whether this instance may change a destination.

        An enabled destination with another URL and another secret belongs to another instance; its
        URL is not probed. An enabled destination with another URL and this instance's secret, or
        none, belongs to another instance if a Hogsend responds at its URL.
        """
        url = function.input("url")
        if same_instance(url, self.webhook_url) or not function.enabled:
            return True
        # Only with the URL that this instance set: otherwise another instance has taken it over.
        if self.provisioned.get(function.id) == url:
            return True
        if is_placeholder(url) or is_loopback(url):
            return True
        secrets = [value for value in header_values(function, SECRET_HEADER) if value]
        if secrets and self.secret not in secrets:
            return False
        instance = instance_url(url)
        return instance is None or not await self.instances.is_live(instance)
