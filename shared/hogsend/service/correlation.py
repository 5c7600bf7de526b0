"""The correlation id of the work at hand, for logs and for what is sent because of it."""

from __future__ import annotations

from types import TracebackType

from structlog.contextvars import bind_contextvars, reset_contextvars

from hogsend.transport.correlation import correlation_id


class Correlated:
    """Logs, asks and publishes under a correlation id for the length of a `with` block.

    A class, as this is entered for every request: a generator costs twice as much.
    """

    __slots__ = ("_id", "_logged", "_sent")

    def __init__(self, id: str) -> None:
        self._id = id

    def __enter__(self) -> None:
        """Bind the id."""
        self._sent = correlation_id.set(self._id)
        self._logged = bind_contextvars(correlation_id=self._id)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go back to the id before."""
        reset_contextvars(**self._logged)
        correlation_id.reset(self._sent)
