"""HTTP to a Hogsend server with its admin key, and its answers decoded (contract 0.1)."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from cli.admin.errors import AdminError, error_from
from cli.no_answer import why_no_answer
from cli.server_address import ServerAddress, no_address
from hogsend.contract.json_text import NOT_JSON
from hogsend.urls import is_loopback

Answer = TypeVar("Answer")

ANSWER_SECONDS = 30.0
HANGING = "it listens, but hangs: restart it, and see its log (.hogsend/logs/gateway.log)"
NO_SERVER = "start it with `hogsend up`, or give the right address with --url"


class AdminConnection:
    """Asks one server. It follows no redirect, as the key is for that server only."""

    def __init__(self, address: ServerAddress) -> None:
        """Prepare without connecting.

        Raises:
            CommandError: the host's name cannot be one (IDNA).
        """
        self._address = address
        try:
            self._base = httpx.URL(address.base_url)
        except httpx.InvalidURL:
            raise no_address(address.base_url) from None
        self._authorization = (
            {"Authorization": f"Bearer {address.admin_key}"} if address.admin_key else {}
        )
        self._http = httpx.Client(
            headers={"Accept": "application/json"},
            follow_redirects=False,
            # A proxy cannot reach this machine's own servers, and is not to see the key.
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

    def _decode(self, answer: bytes, type: type[Answer]) -> Answer:
        try:
            return msgspec.json.decode(answer, type=type)
        except NOT_JSON as error:
            raise AdminError(
                f"{self._base} did not answer as a Hogsend server does ({error})",
                "give the address of a Hogsend server of this version with --url",
            ) from None

    def _ask(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        admin: bool = True,
        timeout: float = ANSWER_SECONDS,
    ) -> bytes:
        headers = dict(self._authorization) if admin else {}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = self._http.request(
                method, self._base.join(path), content=content, headers=headers, timeout=timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise AdminError(
                f"no answer from {self._base} ({why_no_answer(error)})",
                HANGING if isinstance(error, httpx.ReadTimeout) else NO_SERVER,
            ) from None
        if not answer.is_success:
            raise error_from(answer, self._address)
        return answer.content

    def _pieces(self, path: str, *, timeout: float) -> Iterator[bytes]:
        """Give an answer piece by piece as it comes.

        Raises:
            AdminError: not a 2xx.
            httpx.HTTPError: no answer, or it ends in the middle.
        """
        with self._http.stream(
            "GET", self._base.join(path), headers=self._authorization, timeout=timeout
        ) as answer:
            if not answer.is_success:
                answer.read()
                raise error_from(answer, self._address)
            yield from answer.iter_bytes()
