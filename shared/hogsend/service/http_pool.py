"""Keeps connections usable when requests are given up, which httpcore 1.0 does not.

A request that is cancelled between getting a connection and beginning on it leaves one that is
neither idle nor closed. The pool counts it for ever, and once it is full of such nothing is sent.
"""

from __future__ import annotations

from httpcore import AsyncConnectionInterface, AsyncConnectionPool, Origin, Request, Response


def keep_usable(pool: AsyncConnectionPool) -> None:
    """Have a pool without HTTP/2 forget each connection whose first request was given up."""
    create = pool.create_connection

    def watched(origin: Origin) -> AsyncConnectionInterface:
        return _Connection(create(origin), pool)

    pool.create_connection = watched  # type: ignore[method-assign]


class _Connection(AsyncConnectionInterface):
    """A connection that is over when its first request is, unless that was answered.

    Until then it has no other user. Afterwards httpcore closes it itself.
    """

    def __init__(self, connection: AsyncConnectionInterface, pool: AsyncConnectionPool) -> None:
        self._connection = connection
        self._pool = pool
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

    async def aclose(self) -> None:
        await self._connection.aclose()

    def info(self) -> str:
        return self._connection.info()

    def can_handle_request(self, origin: Origin) -> bool:
        return self._connection.can_handle_request(origin)

    def is_available(self) -> bool:
        return not self._is_given_up and self._connection.is_available()

    def has_expired(self) -> bool:
        return self._connection.has_expired()

    def is_idle(self) -> bool:
        return self._connection.is_idle()

    def is_closed(self) -> bool:
        # The pool asks whenever a request comes or goes.
        return self._is_given_up or self._connection.is_closed() or self._is_unwanted()

    def _is_unwanted(self) -> bool:
        """Whether the request that it was made for has gone before it began."""
        return not self._is_begun and not any(
            request.connection is self
            for request in self._pool._requests  # noqa: SLF001
        )
