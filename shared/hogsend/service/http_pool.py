"""Keeps connections usable when requests are given up, which httpcore 1.0 does not.

A request that is cancelled between having a connection and beginning on it leaves one that is
neither idle nor closed. The pool counts it for ever, and once it is full of such nothing is sent.
"""

from __future__ import annotations

import httpcore
from httpcore import AsyncConnectionInterface, AsyncConnectionPool, Origin, Request, Response


def keep_usable(pool: AsyncConnectionPool) -> None:
    """Have a pool without HTTP/2 close each connection whose first request failed."""
    create = pool.create_connection

    def watched(origin: Origin) -> AsyncConnectionInterface:
        return _Connection(create(origin))

    pool.create_connection = watched  # type: ignore[method-assign]


def forget_unused(pool: AsyncConnectionPool) -> None:
    """Forget connections that were made for requests that have gone; none is open yet."""
    wanted = {id(request.connection) for request in pool._requests}  # noqa: SLF001
    for connection in pool.connections:
        if isinstance(connection, _Connection) and id(connection) not in wanted:
            connection.forget_unused()


class _Connection(AsyncConnectionInterface):
    """A connection that is closed when its first request fails, however it does.

    Until that is answered nobody else has it. Afterwards httpcore closes it itself.
    """

    def __init__(self, connection: AsyncConnectionInterface) -> None:
        self._connection = connection
        self._is_begun = False
        self._is_given_up = False

    async def handle_async_request(self, request: Request) -> Response:
        if self._is_begun:
            return await self._connection.handle_async_request(request)
        self._is_begun = True
        try:
            return await self._connection.handle_async_request(request)
        except BaseException:
            # Before it is closed, as that may be cancelled, too.
            self._is_given_up = True
            await self._connection.aclose()
            raise

    def forget_unused(self) -> None:
        self._is_given_up = self._is_given_up or not self._is_begun

    async def aclose(self) -> None:
        await self._connection.aclose()

    def info(self) -> str:
        return self._connection.info()

    def can_handle_request(self, origin: httpcore.Origin) -> bool:
        return self._connection.can_handle_request(origin)

    def is_available(self) -> bool:
        return not self._is_given_up and self._connection.is_available()

    def has_expired(self) -> bool:
        return self._connection.has_expired()

    def is_idle(self) -> bool:
        return self._connection.is_idle()

    def is_closed(self) -> bool:
        return self._is_given_up or self._connection.is_closed()
