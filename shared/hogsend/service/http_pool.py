"""Works around a connection leak of httpcore 1.0 when requests are cancelled.

If a request is cancelled after the pool assigned a connection to it and before it started on the
connection, that connection is neither idle nor closed. The pool counts it until the process ends.
When the pool is full of such connections, no request can be sent any more.
"""

from __future__ import annotations

from httpcore import AsyncConnectionInterface, AsyncConnectionPool, Origin, Request, Response


def keep_usable(pool: AsyncConnectionPool) -> None:
    """Have a pool without HTTP/2 drop each connection whose first request was cancelled."""
    create = pool.create_connection

    def create_wrapped(origin: Origin) -> AsyncConnectionInterface:
        return _Connection(create(origin), pool)

    pool.create_connection = create_wrapped  # type: ignore[method-assign]


class _Connection(AsyncConnectionInterface):
    """A connection that counts as closed if its first request fails or is cancelled.

    Until its first response no other request uses the connection. Later, httpcore closes it itself.
    """

    def __init__(self, connection: AsyncConnectionInterface, pool: AsyncConnectionPool) -> None:
        self._connection = connection
        self._pool = pool
        self._is_started = False
        self._has_failed = False

    async def handle_async_request(self, request: Request) -> Response:
        if self._is_started:
            return await self._connection.handle_async_request(request)
        self._is_started = True
        try:
            return await self._connection.handle_async_request(request)
        except BaseException:
            # Set before closing, which may be cancelled as well.
            self._has_failed = True
            await self._connection.aclose()
            raise

    async def aclose(self) -> None:
        await self._connection.aclose()

    def info(self) -> str:
        return self._connection.info()

    def can_handle_request(self, origin: Origin) -> bool:
        return self._connection.can_handle_request(origin)

    def is_available(self) -> bool:
        return not self._has_failed and self._connection.is_available()

    def has_expired(self) -> bool:
        return self._connection.has_expired()

    def is_idle(self) -> bool:
        return self._connection.is_idle()

    def is_closed(self) -> bool:
        # The pool calls this whenever a request is added or removed.
        return self._has_failed or self._connection.is_closed() or self._is_abandoned()

    def _is_abandoned(self) -> bool:
        """Whether the request that it was created for was removed before it started."""
        return not self._is_started and not any(
            request.connection is self
            for request in self._pool._requests  # noqa: SLF001
        )
