"""Probes whether a Hogsend instance responds at a URL. The request carries no credential."""

from __future__ import annotations

import asyncio

import httpx
import msgspec
import structlog

from hogsend.contract.json_text import NOT_JSON
from hogsend.posthog.response_body import ResponseTooLarge, read
from hogsend.service.http import NOT_POSTHOG

log = structlog.get_logger(__name__)

PROBE_SECONDS = 3.0
MAX_HEALTH_BYTES = 64 * 1024


class _Health(msgspec.Struct, frozen=True):
    """The fields by which a Hogsend health document is recognized (contract 8.6)."""

    status: str
    components: dict[str, msgspec.Raw]


class InstanceProbe:
    """Probes instances. Each URL is probed once; results are cached in this object.

    `http` must not follow redirects or keep cookies (`hogsend.service.http`).
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._results: dict[str, bool] = {}

    async def is_live(self, instance_url: str) -> bool:
        """Whether a Hogsend responds at this base URL."""
        if instance_url not in self._results:
            self._results[instance_url] = await self._probe(instance_url)
        return self._results[instance_url]

    async def _probe(self, instance_url: str) -> bool:
        url = f"{instance_url.rstrip('/')}/v1/health"
        try:
            async with (
                asyncio.timeout(PROBE_SECONDS),
                self._http.stream("GET", url, extensions=NOT_POSTHOG) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    return False
                msgspec.json.decode(await read(response, MAX_HEALTH_BYTES), type=_Health)
        except (
            *(httpx.HTTPError, httpx.InvalidURL, ResponseTooLarge, TimeoutError),
            # A body that is no JSON or has another shape, or a host that is not valid in a request.
            *(*NOT_JSON, ValueError),
        ) as error:
            log.debug("no Hogsend instance answers", url=url, reason=type(error).__name__)
            return False
        return True
