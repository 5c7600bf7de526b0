"""HTTP connection to a Hogsend server with its admin key (contract 0.1)."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from cli.admin.errors import AdminError, error_from
from cli.http_failure import failure_reason
from cli.server_address import ServerAddress, invalid_address
from cli.service_logs import log_of
from hogsend.contract.json_text import NOT_JSON
from hogsend.urls import is_loopback

Document = TypeVar("Document")

RESPONSE_SECONDS = 30.0
HANGING = (
    f"the server listens but does not respond: restart it, and see its log ({log_of('gateway')})"
)
NO_SERVER = "start the server with `hogsend up`, or pass its URL as --url"


class AdminConnection:
    """Sends requests to one server. Follows no redirect, as the key is for that server only."""

    def __init__(self, address: ServerAddress) -> None:
        """Prepare without connecting.

        Raises:
            CommandError: the host name is invalid (IDNA).
        """
        self._address = address
        try:
            self._base = httpx.URL(address.base_url)
        except httpx.InvalidURL:
            raise invalid_address(address.base_url) from None
        self._authorization = (
            {"Authorization": f"Bearer {address.admin_key}"} if address.admin_key else {}
        )
        self._http = httpx.Client(
            headers={"Accept": "application/json"},
            follow_redirects=False,
            # A proxy cannot reach servers on this machine, and must not see the key.
            trust_env=not is_loopback(address.base_url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def _decode(self, response: bytes, type: type[Document]) -> Document:
        try:
            return msgspec.json.decode(response, type=type)
        except NOT_JSON as error:
            raise AdminError(
                f"{self._base} did not respond as a Hogsend server of this version ({error})",
                "pass the URL of a Hogsend server of this version as --url",
            ) from None

    def _request(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        admin: bool = True,
        timeout: float = RESPONSE_SECONDS,
    ) -> bytes:
        headers = dict(self._authorization) if admin else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            response = self._http.request(
                method, self._base.join(path), content=content, headers=headers, timeout=timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise AdminError(
                f"no response from {self._base} ({failure_reason(error)})",
                HANGING if isinstance(error, httpx.ReadTimeout) else NO_SERVER,
            ) from None
        if not response.is_success:
            raise error_from(response, self._address)
        return response.content

    def _stream(self, path: str, *, timeout: float) -> Iterator[bytes]:
        """Yield the body of a response in chunks as they arrive.

        Raises:
            AdminError: not a 2xx.
            httpx.HTTPError: no response, or the connection was lost before its end.
        """
        with self._http.stream(
            "GET", self._base.join(path), headers=self._authorization, timeout=timeout
        ) as response:
            if not response.is_success:
                response.read()
                raise error_from(response, self._address)
            yield from response.iter_bytes()
